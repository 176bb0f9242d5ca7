"""Trackers: what they write, where, and that they never stop a run."""

import json
import logging
import os
import random
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resnets.base.errors import MissingExtra, UsageError
from resnets.training.tracking import Trackers, check_trackers, open_trackers

FIGURES = {"train/loss": 0.5, "val/top1": 0.25}


def opened(name: str, folder: Path) -> Trackers:
    return open_trackers([name], run_folder=folder, run_name="digits-resnet20", config={"lr": 0.1}, project=None)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself shows of a folder."""
    with warnings.catch_warnings(action="ignore"):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        shown = EventAccumulator(str(folder)).Reload()
        tags = shown.Tags()["scalars"]
        return {tag: [(event.step, event.value) for event in shown.Scalars(tag)] for tag in tags}


def test_no_tracker_is_no_work(tmp_path: Path) -> None:
    trackers = open_trackers([], run_folder=tmp_path, run_name="a", config={}, project=None)
    trackers.log(1, FIGURES)
    trackers.summary(FIGURES)
    trackers.close()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tracker named 'wandbb'; did you mean wandb"):
        opened("wandbb", tmp_path)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_without_its_package_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = [module for module in sys.modules if module.partition(".")[0] == name]
    for module in hidden:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(MissingExtra, match=f"pip install 'resnets.{name}.'"):
        check_trackers([name])


def test_tensorboard_shows_the_figures_at_their_steps(tmp_path: Path) -> None:
    trackers = opened("tensorboard", tmp_path)
    trackers.log(1, {"train/loss": 0.5})
    trackers.log(2, {"train/loss": 0.25, "val/top1": 0.75})
    trackers.summary({"test/top1": 0.875})
    trackers.close()
    assert scalars(tmp_path / "tensorboard") == {
        "train/loss": [(1, 0.5), (2, 0.25)],
        "val/top1": [(2, 0.75)],
        "summary/test/top1": [(2, 0.875)],
    }


def test_a_resumed_run_replaces_the_steps_it_repeats_in_tensorboard(tmp_path: Path) -> None:
    for first, value in ((1, 1.0), (3, 2.0)):
        trackers = opened("tensorboard", tmp_path)
        for step in range(first, first + 4):
            trackers.log(step, {"loss": value})
        trackers.close()
    shown = scalars(tmp_path / "tensorboard")["loss"]
    assert shown == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def test_a_failing_tracker_warns_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_bytes(b"a file where the folder should be")
    trackers = opened("tensorboard", tmp_path)
    for step in range(3):
        trackers.log(step, FIGURES)
    trackers.summary(FIGURES)
    trackers.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "tracking with tensorboard failed and is off for this run" in caplog.text


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """W&B without a network, a login or a home folder to write into; gives that home folder."""
    pytest.importorskip("wandb")
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield home
    import wandb

    wandb.teardown()


def run_records(folder: Path) -> list[dict[str, Any]]:
    """The figures in each offline run's file, in its order; W&B's own process ends, which writes the last."""
    import wandb

    wandb.teardown()
    with warnings.catch_warnings(action="ignore"):
        from wandb.proto.wandb_internal_pb2 import Record
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for content in framed(file.read_bytes()):
            record = Record.FromString(content)
            if record.HasField("history"):
                items = record.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def framed(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: blocks of 32 KiB, each record with checksum, length and kind before it."""
    position, whole = 7, b""  # after the file's own header
    while position < len(content):
        left = 2**15 - position % 2**15
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or its last part
            yield whole
            whole = b""


def test_wandb_offline_keeps_everything_in_the_run_folder(
    offline: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder, state, environment = tmp_path / "run", random.getstate(), dict(os.environ)
    folder.mkdir()
    trackers = opened("wandb", folder)
    trackers.log(1, {"train/loss": 0.5})
    trackers.log(2, {"train/loss": 0.25})
    trackers.summary({"test/top1": 0.875})
    trackers.close()
    left = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # its own, while it runs
    rows = run_records(folder)
    assert [(row["_step"], row["train/loss"]) for row in rows] == [(1, 0.5), (2, 0.25)]
    assert list(offline.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name == "resnets"] == []
    assert random.getstate() == state
    assert left == environment
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("Otel")]


def test_a_resumed_run_keeps_its_wandb_id(offline: Path, tmp_path: Path) -> None:
    ids = []
    for step in (1, 2):
        trackers = opened("wandb", tmp_path)
        trackers.log(step, FIGURES)
        trackers.close()
        ids.append((tmp_path / "wandb-id").read_text())
    assert ids[0] == ids[1]
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{ids[0].strip()}"))) >= 1
    assert [row["_step"] for row in run_records(tmp_path)] == [1, 2]


def test_wandb_without_a_login_asks_nothing_and_keeps_the_figures(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    trackers = opened("wandb", tmp_path)
    trackers.log(1, FIGURES)
    trackers.close()
    assert "no API key" in caplog.text
    assert len(run_records(tmp_path)) == 1


def test_a_users_wandb_folder_is_kept(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("WANDB_DIR", str(mine))
    opened("wandb", tmp_path).close()
    assert list(mine.glob("wandb/offline-run-*"))
    assert os.environ["WANDB_DIR"] == str(mine)


def test_a_wandb_process_that_is_killed_does_not_stop_the_run(tmp_path: Path) -> None:
    """In a process of its own, since the killed service stays broken for the rest of it."""
    pytest.importorskip("wandb")
    code = """
import os, pathlib, signal, sys, time
from resnets.training.tracking import open_trackers
folder = pathlib.Path(sys.argv[1])
trackers = open_trackers(["wandb"], run_folder=folder, run_name="a", config={}, project=None)
trackers.log(1, {"loss": 1.0})
def status(place):
    try:
        return (place / "status").read_text()
    except OSError:
        return ""  # it has ended meanwhile
children = [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdecimal()
            and f"PPid:\\t{os.getpid()}\\n" in status(p)]
for child in children:
    os.kill(child, signal.SIGKILL)
time.sleep(0.5)
for step in range(2, 5):
    trackers.log(step, {"loss": 1.0})
trackers.close()
print("trained", len(children), os.environ.get("WANDB_DIR"))
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("finds the process to kill in Linux's /proc")
    environment = {**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "trained 1 None\n"
    assert done.returncode == 0
    assert done.stderr.count("tracking with wandb failed") == 1
