"""Several processes that train one network: real ones on gloo, against one process that does all of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

import resnets
from resnets.base.errors import DataError, Interrupted, RunError, UsageError
from resnets.base.machine import cores, default_threads
from resnets.base.world import World
from resnets.cli.failures import failed
from resnets.training.config import TrainConfig
from resnets.training.distributed import Group
from resnets.training.plan import make_plan
from resnets.training.run import read_events
from tests.integration.pictures import class_folders
from tests.integration.shell import resnets as run_resnets
from tests.training.killing import command, differing_tensors

# 1,149 pictures are 6 batches of 191, of which the processes take 95 and 96, and one of 3, which the first takes
OPTIONS: dict[str, Any] = {
    "model": "resnet20",
    "epochs": 4,
    "batch": 191,
    "mixup": 0.2,
    "threads": 1,
    "precision": "fp32",
    "device": "cpu",
    "save_minutes": 0.001,
}
FLAGS = [text for name, value in OPTIONS.items() for text in ("--" + name.replace("_", "-"), str(value))]
STEPS = 4 * 7
WAIT_SECONDS = 300  # after which a test is given up

Whole = tuple[Path, "subprocess.CompletedProcess[str]"]  # its run folder, and what was said
Pair = Callable[..., "list[subprocess.Popen[str]]"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.getbasetemp() / "resnets-cache"
    return {**os.environ, "RESNETS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Whole:
    """A run of two processes that nothing interrupts."""
    runs = tmp_path_factory.mktemp("whole")
    told = subprocess.run(
        torchrun("digits", "--runs", str(runs), "--json"), env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return runs / "digits-resnet20", told


def torchrun(*arguments: str, restarts: int = 0) -> list[str]:
    """The command as a user types it, for two processes on this machine."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launch, "--max-restarts", str(restarts), "-m", "resnets", "train", *arguments, *FLAGS]


@pytest.fixture
def pair(environment: dict[str, str]) -> Iterator[Pair]:
    """Start two processes that nobody watches, as another launcher than torchrun might."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> "list[subprocess.Popen[str]]":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for rank in ("0", "1"):
            own = {**environment, **shared, "RANK": rank, "LOCAL_RANK": rank}
            started.append(
                subprocess.Popen(command("train", *arguments), env=own, stderr=subprocess.PIPE, text=True)
            )
        return started[-2:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for_a_step(run: Path, watched: "subprocess.Popen[str]") -> None:
    """Return once the run has a checkpoint."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (run / "checkpoint" / "latest").exists():
        assert watched.poll() is None, "it ended before its first checkpoint"
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.02)


def tensors_of(run: Path, role: str) -> dict[str, torch.Tensor]:
    last = (run / "checkpoint" / "latest").read_text().strip()
    found: dict[str, torch.Tensor] = safetensors.torch.load_file(run / "checkpoint" / last / f"{role}.safetensors")
    return found


def test_two_processes_equal_one_that_computes_a_batch_in_two_parts(whole: Whole, tmp_path: Path) -> None:
    config = TrainConfig(**OPTIONS, accumulate=2, runs=str(tmp_path), name="one")
    one = resnets.train("digits", config=config)
    for role in ("network", "average", "optimizer"):
        theirs, ours = tensors_of(one.path, role), tensors_of(whole[0], role)
        assert theirs.keys() == ours.keys()
        for name in (name for name in ours if "running" not in name and "tracked" not in name):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=f"{role} {name}")
    losses = [
        [event["loss"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]
        for run in (one.path, whole[0])
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_the_first_process_alone_writes_and_speaks(
    whole: Whole,
) -> None:
    run, told = whole
    events = read_events(run / "events.jsonl")
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3, 4]
    assert [sum(event["event"] == kind for event in events) for kind in ("plan", "end")] == [1, 1]
    assert "batch 191 among 2 processes" in events[0]["text"]
    assert events[0]["plan"]["environment"]["processes"] == 2
    assert json.loads(told.stdout)["run"] == str(run)  # one object, printed once
    assert told.stderr.count("val top-1") == 1
    assert "process 1" not in told.stderr
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_every_validation_and_test_picture_counts_once(
    whole: Whole,
) -> None:
    run, _ = whole
    events = read_events(run / "events.jsonl")
    assert {event["val_n"] for event in events if event["event"] == "epoch"} == {288}
    paths = pq.read_table(run / "predictions.parquet")["path"].to_pylist()
    assert len(paths) == len(set(paths)) == 288 + 360
    figures = events[-1]["figures"]["test"]["heads"]["label"]
    alone = resnets.evaluate(run / "model.safetensors", "digits", threads=1).heads["label"]
    assert figures["n"] == alone.n == 360
    assert figures["top1"] == alone.top1
    assert figures["loss"] == pytest.approx(alone.loss, rel=1e-5)


def test_torchrun_starts_a_run_again_whose_process_was_killed_and_it_ends_bit_for_bit_the_same(
    whole: Whole, tmp_path: Path, environment: dict[str, str]
) -> None:
    run = tmp_path / "digits-resnet20"
    agent = subprocess.Popen(
        torchrun("digits", "--runs", str(tmp_path), restarts=1), env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_a_step(run, agent)
        os.kill(second_process_of(agent.pid), signal.SIGKILL)
        _, errors = agent.communicate(timeout=WAIT_SECONDS)
    finally:
        agent.kill()
    assert agent.returncode == 0, errors
    (resume,) = [event for event in read_events(run / "events.jsonl") if event["event"] == "resume"]
    assert resume["departures"] == []
    assert 0 < resume["step"] < STEPS
    assert [path.name for path in tmp_path.iterdir()] == [run.name]
    assert differing_tensors(whole[0], run) == []


def second_process_of(agent: int) -> int:
    """The process with RANK=1 among the children of torchrun."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == agent and b"RANK=1" in (entry / "environ").read_bytes().split(b"\0"):
                return int(entry.name)
        except OSError:
            continue  # it has ended
    raise AssertionError("no second process")


def test_a_signal_to_any_process_stops_all_at_one_step_and_another_number_of_them_continues(
    pair: Pair, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first, second = pair("digits", "--runs", tmp_path, "--name", "run", *FLAGS)
    wait_for_a_step(run, first)
    second.send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=WAIT_SECONDS)[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [143, 143]
    assert f"torchrun --nproc-per-node 2 -m resnets train --resume {run}" in errors[0]
    assert errors[1] == ""
    stopped = read_events(run / "events.jsonl")[-1]
    assert stopped["event"] == "stopped"
    assert (run / "checkpoint" / "latest").read_text().strip() == f"step-{stopped['step']}"
    with pytest.raises(RunError, match="an exact resume is not possible here: processes 2 -> 1"):
        resnets.train(resume=run, config=TrainConfig(exact=True))
    resumed = resnets.train(resume=run)
    assert resumed.load().origin["departures"] == ["processes 2 -> 1"]
    assert read_events(run / "events.jsonl")[-1]["step"] == STEPS


def test_a_process_whose_neighbour_was_killed_ends_in_one_line(pair: Pair, tmp_path: Path) -> None:
    first, second = pair("digits", "--runs", tmp_path, "--name", "run", *FLAGS)
    wait_for_a_step(tmp_path / "run", first)
    second.kill()
    _, errors = first.communicate(timeout=WAIT_SECONDS)
    assert first.returncode == 3
    assert "resnets: another process of this run has ended or cannot be reached" in errors
    assert "Traceback" not in errors


def test_a_picture_that_one_process_cannot_read_is_left_out_by_all(pair: Pair, tmp_path: Path) -> None:
    pictures = class_folders(tmp_path / "pictures", {"dark": 24, "light": 24})
    cut = pictures / "dark" / "3.png"
    cut.write_bytes(cut.read_bytes()[:-150])
    options = ("--model", "resnet20", "--epochs", "2", "--batch", "8", "--threads", "1", "--device", "cpu")
    both = pair(pictures, "--runs", tmp_path, "--name", "run", *options, "--all-train", "--ema", "0")
    for process in both:
        _, errors = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0, errors
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert [event["path"] for event in events if event["event"] == "left_out"] == ["dark/3.png"]
    state = json.loads(next((tmp_path / "run" / "checkpoint").glob("step-*/state.json")).read_text())
    assert list(state["position"]["bad"].values()) == [
        event["reason"] for event in events if event["event"] == "left_out"
    ]


TRIAL = """
import json, sys
from dataclasses import replace
from itertools import islice, repeat
import resnets
from resnets.training.distributed import process_group
from resnets.training.gallery import Gallery
from resnets.training.plan import make_plan
from resnets.training.start import planned_network
from resnets.training.trial import trial

with process_group("cpu") as group:
    data = resnets.open_data("digits")
    config = resnets.TrainConfig(model="resnet20", batch=191, threads=1, precision="fp32", device="cpu")
    plan = make_plan(config, data, measure=lambda _: ((0.5,), (0.5,)))
    plan = replace(plan, config=replace(plan.config, accumulate=2 if group.alone else 1))
    pictures = Gallery(data, threads=1, progress=print).training(plan.preprocess, plan.augment)
    steps = trial(plan, planned_network(plan), pictures, repeat(0.1), group=group)
    sys.stderr.write(json.dumps([*islice(steps, 8)]) + "\\n")
"""


def test_the_steps_that_are_timed_are_those_of_all_processes(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "trial.py"
    script.write_text(TRIAL)
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    told = [
        subprocess.run(launch, env=environment, capture_output=True, text=True, check=True).stderr.splitlines()
        for launch in (several, [sys.executable, str(script)])
    ]
    (first, second), (alone,) = ([json.loads(line) for line in lines if line[:1] == "["] for lines in told)
    assert first == second
    assert [pictures for pictures, _ in first] == [pictures for pictures, _ in alone]
    assert [pictures for pictures, _ in first][:6] == [191] * 6  # whole batches, not a process's part
    assert [loss for _, loss in first] == pytest.approx([loss for _, loss in alone], rel=1e-3)


def test_two_processes_measure_their_rate_together_and_end_in_time(
    environment: dict[str, str], tmp_path: Path
) -> None:
    timed = [*FLAGS, "--minutes", "0.4"]
    place = timed.index("--epochs")
    del timed[place : place + 2]
    launch = [*torchrun("digits", "--runs", str(tmp_path))[: -len(FLAGS)], *timed]
    started = time.monotonic()
    told = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert told.returncode == 0, told.stderr
    assert time.monotonic() - started < 90  # 24 seconds, on a machine that may have other work
    events = read_events(tmp_path / "digits-resnet20" / "events.jsonl")
    planned = events[0]["plan"]["config"]["epochs"]
    assert f"{planned} epoch" in events[0]["text"]
    assert "in 0.4 minutes at" in events[0]["text"]
    done = [event["epochs"] for event in events if event["event"] == "shortened"]  # on a busy machine
    assert sum(event["event"] == "epoch" for event in events) == (done[-1] if done else planned)


@pytest.mark.parametrize("pictures", [2, 3, 7, 191])
def test_the_parts_of_a_batch_are_all_of_it_and_none_is_a_single_picture(pictures: int) -> None:
    groups = [Group(world=World(rank=rank, size=3)) for rank in range(3)]
    parts = [range(pictures)[group.part(pictures)] for group in groups]
    assert [row for part in parts for row in part] == list(range(pictures))
    assert all(len(part) != 1 for part in parts)
    shares = [range(pictures)[group.share(pictures)] for group in groups]
    assert [row for share in shares for row in share] == list(range(pictures))


def test_what_several_processes_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--sync-norm is for NVIDIA GPUs"):
        resnets.train("digits", config=TrainConfig(sync_norm=True, device="cpu"))
    with pytest.raises(UsageError, match="--accumulate cuts it into parts; give one of them"):
        TrainConfig(sync_norm=True, accumulate=2)
    data = resnets.open_data("digits")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="too small for 4 processes, each with 1 part of two .* give --batch 8"):
        make_plan(TrainConfig(batch=7), data, measure=lambda _: ((0.5,), (0.5,)))
    said = run_resnets("summary", "resnet18")
    assert (said.status, said.out) == (2, "")
    assert "resnets summary is for one process; start it without torchrun" in said.err


def test_the_processors_are_divided_among_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", str(2 * cores()))):
        monkeypatch.setenv(name, value)
    assert default_threads() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert default_threads() == cores()


def test_what_all_processes_meet_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert failed(Interrupted("stopped", signal_number=15), debug=False) == 143
    assert failed(UsageError("a wrong flag"), debug=False) == 2
    assert capsys.readouterr().err == ""
    assert failed(DataError("no pictures here"), debug=False) == 2
    assert capsys.readouterr().err == "resnets (process 5): no pictures here\n"
    monkeypatch.setenv("LOCAL_RANK", "0")  # the first of another machine, which may lack what the others have
    failed(UsageError("no GPU here"), debug=False)
    assert capsys.readouterr().err == "resnets (process 5): no GPU here\n"
