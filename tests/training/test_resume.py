"""Exact resume, with real training; `tests/proofs/test_kill.py` does it a hundred times."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnets.base.errors import Interrupted, NotFinite, RunError, UsageError
from resnets.training.checkpoint import load_checkpoint
from resnets.training.config import TrainConfig
from resnets.training.loop import Training
from resnets.training.resume import recorded_device
from resnets.training.run import read_events
from resnets.training.step import StepRecord
from resnets.verbs.train import train
from tests.training.killing import command, differing_tensors, train_killed, train_whole

TINY: dict[str, Any] = {"model": "resnet20", "epochs": 3, "batch": 8, "threads": 1, "mixup": 0.2}


def pictures(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Noise around two means: enough to train on for a few steps."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pixels = generator.integers(0, 128, (count, 8, 8, 3)) + 100 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels


def config(tmp_path: Path, **options: Any) -> TrainConfig:
    return TrainConfig(**{**TINY, "runs": str(tmp_path / "runs"), **options})


def stop_at(step: int) -> Any:
    """Send this process SIGINT at the first event of a step, as Ctrl-C would."""

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return on_event


@pytest.mark.parametrize("step", [1, 5, 9])
def test_a_run_stopped_by_ctrl_c_and_resumed_equals_the_uninterrupted_one(tmp_path: Path, step: int) -> None:
    data = pictures()
    whole = train(data, config=config(tmp_path, name="whole"))
    with pytest.raises(Interrupted, match="stopped by SIGINT; go on with: resnets train --resume") as stopped:
        train(data, config=config(tmp_path, name="stopped"), on_event=stop_at(step))
    assert stopped.value.exit_status == 130
    run = train(data, resume=tmp_path / "runs" / "stopped")
    assert differing_tensors(whole.path, run.path) == []
    assert run.heads == whole.heads
    assert [e["loss"] for e in read_events(run.path / "events.jsonl") if e["event"] == "step"] == [
        e["loss"] for e in read_events(whole.path / "events.jsonl") if e["event"] == "step"
    ]


def test_another_thread_count_is_continued_and_not_exact(tmp_path: Path) -> None:
    data = pictures()
    with pytest.raises(Interrupted):
        train(data, config=config(tmp_path, name="run"), on_event=stop_at(5))
    with pytest.raises(RunError, match="exact resume is not possible here: threads 1 -> 2"):
        train(data, resume=tmp_path / "runs" / "run", config=TrainConfig(threads=2, exact=True))
    run = train(data, resume=tmp_path / "runs" / "run", config=TrainConfig(threads=2))
    assert run.load().origin["exact"] is False
    assert run.load().origin["departures"] == ["threads 1 -> 2"]
    (resume,) = [e for e in read_events(run.path / "events.jsonl") if e["event"] == "resume"]
    assert "continued, not exact: threads 1 -> 2" in resume["text"]


def test_a_finished_run_says_so_and_can_be_extended(tmp_path: Path) -> None:
    data = pictures()
    run = train(data, config=config(tmp_path, name="run"))
    with pytest.raises(RunError, match="is finished; extend it with: .* --epochs 6"):
        train(data, resume=run.path)
    with pytest.raises(UsageError, match="--epochs 2 extends a run, and this one already has 3"):
        train(data, resume=run.path, config=TrainConfig(epochs=2))
    longer = train(data, resume=run.path, config=TrainConfig(epochs=5))
    epochs = [event["epoch"] for event in read_events(run.path / "events.jsonl") if event["event"] == "epoch"]
    assert epochs == [1, 2, 3, 4, 5]
    assert longer.load().origin["departures"] == ["extended from 3 to 5 epochs"]


def test_other_options_are_refused_by_name_on_a_resume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--lr, --seed cannot be given with --resume"):
        train(resume=tmp_path, config=TrainConfig(lr=0.1, seed=3))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder: it has no events.jsonl"):
        train(resume=tmp_path)


def test_changed_pictures_are_named_on_a_resume(tmp_path: Path) -> None:
    pixels, labels = pictures()
    with pytest.raises(Interrupted):
        train((pixels, labels), config=config(tmp_path, name="run"), on_event=stop_at(5))
    pixels[3] += 1
    with pytest.raises(RunError, match="the data has changed since .* began .1 file changed"):
        train((pixels, labels), resume=tmp_path / "runs" / "run")


def test_a_loss_that_is_not_finite_stops_with_a_cure_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(
        NotFinite, match=r"the loss became (nan|inf) at step .* try a new run with --lr"
    ) as stopped:
        train(pictures(), config=config(tmp_path, name="run", lr=1e30, warmup=0.0, ema=0.0))
    assert stopped.value.exit_status == 3
    assert read_events(tmp_path / "runs" / "run" / "events.jsonl")[-1]["event"] == "failed"


@pytest.mark.parametrize("save_minutes", [5.0, 1e-9], ids=["at the end of an epoch", "inside one"])
def test_a_loss_that_nobody_looked_at_is_found_before_it_is_saved(
    save_minutes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Training.step  # on a GPU few losses are looked at by themselves

    def poisoned(training: Training, *given: Any, **named: Any) -> StepRecord:
        record = step(training, *given, **named)
        at = training.plan.steps_per_epoch + 1
        return replace(record, loss=record.loss * float("nan")) if training.position.step == at else record

    monkeypatch.setattr(Training, "step", poisoned)
    with pytest.raises(NotFinite, match=r"the loss became nan at step .* the last checkpoint is kept"):
        train(pictures(), config=config(tmp_path, name="run", save_minutes=save_minutes))
    run = tmp_path / "runs" / "run"
    assert read_events(run / "events.jsonl")[-1]["event"] == "failed"
    kept = load_checkpoint(run)
    assert kept is not None
    assert np.isfinite(kept.state["position"]["loss"])


def test_where_a_run_computes_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded_device(tmp_path) is None
    train(pictures(), config=config(tmp_path, name="run", epochs=1, device="cpu"))
    run = tmp_path / "runs" / "run"
    assert recorded_device(run) == "cpu"
    events = run / "events.jsonl"
    events.write_text(events.read_text().replace('"device": "cpu"', '"device": "cuda:1"'))
    assert recorded_device(run) == "cuda:1"
    if not torch.cuda.is_available():
        with pytest.raises(RunError, match="computes on cuda:1, which is not here; resume it where there is one"):
            train(resume=run, config=TrainConfig(epochs=2))
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert recorded_device(run) == "cuda"  # each of several processes takes its own


def test_a_process_stopped_by_sigterm_exits_with_143_and_says_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        command("train", "digits", "--runs", tmp_path, "--name", "run", "--epochs", "50", "--threads", "1"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoint/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"resnets train --resume {run}" in errors
    assert "Traceback" not in errors


def test_a_run_killed_ten_times_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = train_whole(tmp_path, "digits", name="whole")
    killed, steps = train_killed(tmp_path, "digits", name="killed", kills=10, seed=1)
    assert len(steps) == 10, "the run ended before it was killed ten times"
    assert differing_tensors(whole, killed) == []


def test_the_comparison_above_can_fail(tmp_path: Path) -> None:
    first = train(pictures(), config=config(tmp_path, name="first"))
    second = train(pictures(), config=config(tmp_path, name="second", seed=1))
    assert differing_tensors(first.path, second.path) != []


def test_a_run_started_at_torchs_own_thread_count_is_resumed_at_the_count_it_recorded(tmp_path: Path) -> None:
    data = pictures()
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as OMP_NUM_THREADS=1 or a notebook may have done
    try:
        with pytest.raises(Interrupted):
            train(data, config=config(tmp_path, name="run", threads=None), on_event=stop_at(5))
        run = train(data, resume=tmp_path / "runs" / "run")
        whole = train(data, config=config(tmp_path, name="whole", threads=None))
    finally:
        torch.set_num_threads(before)
    assert differing_tensors(whole.path, run.path) == []


def test_a_refused_exact_resume_leaves_a_finished_run_as_it_is(tmp_path: Path) -> None:
    run = train(pictures(), config=config(tmp_path, name="run"))
    before = run.model.read_bytes()
    with pytest.raises(RunError, match="exact resume is not possible here: extended from 3 to 5 epochs"):
        train(pictures(), resume=run.path, config=TrainConfig(epochs=5, exact=True))
    assert run.model.read_bytes() == before
