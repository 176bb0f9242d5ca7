"""How many epochs a time allows, and which are left out where they are slower: by arithmetic, on real runs."""

import json
import os
import shutil
import signal
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnets
from resnets.base.errors import Interrupted, UsageError
from resnets.training.config import TrainConfig
from resnets.training.pace import Epoch, epochs_within, late, work
from resnets.training.plan import Plan, make_plan
from resnets.training.run import read_events
from resnets.training.schedule import Course
from tests.training.killing import differing_tensors

MINUTES = 0.1


@pytest.fixture
def plan() -> Plan:
    data = resnets.open_data("digits")  # 1,149 to train on, 288 to validate, 360 to test
    return make_plan(TrainConfig(model="resnet20"), data, measure=lambda _: ((0.5,), (0.5,)))


def test_the_epochs_leave_time_for_validation_and_for_the_last_measurement(plan: Plan) -> None:
    epoch, end = (1149 + 0.4 * 288) / 1000, (288 + 360) / 1000  # seconds at 1,000 pictures a second
    seconds = (7 * epoch + end) / 0.92
    assert epochs_within(seconds + 0.01, plan, 1000) == 7
    assert epochs_within(seconds - 0.01, plan, 1000) == 6


def test_a_time_in_which_no_epoch_ends_is_refused_with_the_time_that_one_takes(plan: Plan) -> None:
    with pytest.raises(UsageError, match=r"0.5 minutes are left and an epoch takes about 3.2 here"):
        epochs_within(30, plan, 10)


def test_pictures_that_grow_cost_their_share_of_the_pixels() -> None:
    pixels = np.zeros((100, 32, 32, 3), dtype=np.uint8)
    data = resnets.open_data((pixels, np.arange(100) % 2))
    config = TrainConfig(model="resnet20", grow=0.75)
    plan = make_plan(config, data, measure=lambda _: ((0.5,) * 3, (0.5,) * 3))
    share = (35 * (24 / 32) ** 2 + 65) / 100  # 35 of 100 steps see 24 pixels a side: half of 70
    epoch = (share * plan.pictures["train"] + 0.4 * plan.pictures["val"]) / 10  # seconds at 10 pictures a second
    end = (plan.pictures["val"] + plan.pictures["test"]) / 10
    assert epochs_within((3 * epoch + end) / 0.92 + 0.1, plan, 10) == 3
    assert epochs_within((3 * epoch + end) / 0.92 - 0.1, plan, 10) == 2


def test_minutes_and_epochs_are_not_given_together() -> None:
    with pytest.raises(UsageError, match="give it without --epochs"):
        TrainConfig(minutes=1, epochs=3)


def test_a_run_of_some_seconds_ends_near_then_with_its_schedule_at_zero(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 8, 8, 1), dtype=np.uint8)
    config = TrainConfig(minutes=20 / 60, runs=str(tmp_path), threads=1, model="resnet20", precision="fp32")
    started = time.monotonic()
    run = resnets.train((pixels, np.arange(256) % 2), config=config)
    assert time.monotonic() - started < 60  # twenty seconds, on a machine that may have other work
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    plan = next(event for event in events if event["event"] == "plan")
    epochs = plan["plan"]["config"]["epochs"]
    assert f"{epochs} epoch" in plan["text"].split(": ", 1)[1]
    done = [event["epochs"] for event in events if event["event"] == "shortened"]  # on a busy machine
    assert sum(event["event"] == "epoch" for event in events) == (done[-1] if done else epochs)
    resolved = tomllib.loads((run.path / "config.toml").read_text())
    assert "minutes" not in resolved
    assert resolved["epochs"] == epochs


def test_a_shortened_course_goes_through_all_that_is_left_of_the_schedule() -> None:
    whole = Course(planned=100, steps=100)
    assert [whole.planned_step(step) for step in range(101)] == list(range(101))
    shorter = whole.ending_at(70, step=40)
    assert [shorter.planned_step(step) for step in (40, 41, 55, 69, 70)] == [40, 42, 70, 98, 100]
    again = shorter.ending_at(60, step=55)
    assert [again.planned_step(step) for step in (55, 56, 60)] == [70, 76, 100]


def running(plan: Plan, *, seconds: float, epochs: int) -> tuple[Plan, Course]:
    """A run of so many epochs that has `seconds`, and its course."""
    steps = epochs * plan.steps_per_epoch
    return replace(plan, seconds=seconds, steps=steps), Course(planned=steps, steps=steps)


def test_epochs_that_would_end_late_are_left_out_so_that_the_rest_ends_in_time(plan: Plan) -> None:
    timed, course = running(plan, seconds=100, epochs=20)
    done = [Epoch(seconds=8, work=1149 + 0.4 * 288)] * 5
    found = late(timed, course, step=5 * 9, spent=40, epochs=done)
    assert found is not None
    shorter, lateness = found
    end = (288 + 360) / ((1149 + 0.4 * 288) / 8)  # seconds
    assert lateness == pytest.approx(40 + 15 * 8 + end - 100)
    assert shorter == course.ending_at((5 + 6) * 9, step=5 * 9)  # six epochs of 8 seconds in 0.92 of 60


def test_a_run_in_time_is_left_as_it_is_and_so_is_one_that_cannot_be_shorter(plan: Plan) -> None:
    timed, course = running(plan, seconds=100, epochs=20)
    one = work(plan)
    assert late(timed, course, step=5 * 9, spent=20, epochs=[Epoch(seconds=4, work=one)] * 5) is None
    assert (
        late(timed, course, step=1 * 9, spent=9, epochs=[Epoch(seconds=9, work=one)]) is None
    )  # too early to tell
    assert late(timed, course, step=19 * 9, spent=99, epochs=[Epoch(seconds=5, work=one)] * 19) is None
    for_ever = replace(timed, seconds=None)
    assert late(for_ever, course, step=5 * 9, spent=900, epochs=[Epoch(seconds=90, work=one)] * 5) is None


def test_near_the_end_the_last_epochs_tell_the_pace(plan: Plan) -> None:
    timed, course = running(plan, seconds=100, epochs=20)
    fast, slow = Epoch(seconds=4, work=work(plan)), Epoch(seconds=12, work=work(plan))
    assert late(timed, course, step=17 * 9, spent=76, epochs=[slow, *[fast] * 16]) is None
    found = late(timed, course, step=17 * 9, spent=76, epochs=[*[fast] * 14, *[slow] * 3])
    assert found is not None
    assert found[0].steps == 18 * 9


def test_the_pace_of_small_pictures_foresees_that_larger_ones_come() -> None:
    pixels = np.zeros((100, 32, 32, 3), dtype=np.uint8)
    data = resnets.open_data((pixels, np.arange(100) % 2))
    config = TrainConfig(model="resnet20", grow=0.5, epochs=10, all_train=True)
    plan = make_plan(config, data, measure=lambda _: ((0.5,) * 3, (0.5,) * 3))
    assert work(plan, start=0, stop=1) == pytest.approx(0.25 * plan.pictures["train"] + 0.4 * plan.pictures["val"])
    assert work(plan, start=plan.steps * 3 // 4) == work(replace(plan, config=TrainConfig()))


def test_a_run_that_was_shortened_goes_on_shortened_and_exact(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    data = pixels, np.arange(64) % 2
    seen: list[dict[str, Any]] = []

    def slow_until_shortened(event: dict[str, Any]) -> None:
        seen.append(event)
        if event["event"] == "epoch":
            time.sleep(0.5)
        if event["event"] == "step" and any(each["event"] == "shortened" for each in seen):
            os.kill(os.getpid(), signal.SIGINT)

    config = TrainConfig(minutes=MINUTES, runs=str(tmp_path), name="first", threads=1, model="resnet20", lr=0.1)
    with pytest.raises(Interrupted):
        resnets.train(data, config=config, on_event=slow_until_shortened)
    shortened = [event for event in seen if event["event"] == "shortened"][-1]
    plan = next(event for event in seen if event["event"] == "plan")["plan"]
    planned = plan["config"]["epochs"]
    assert 1 < shortened["epochs"] < shortened["before"] <= planned
    assert f"{shortened['epochs']} epochs in place of {shortened['before']}" in shortened["text"]
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    runs = [resnets.train(data, resume=tmp_path / name) for name in ("first", "second")]
    assert differing_tensors(runs[0].path, runs[1].path) == []
    events = read_events(runs[0].path / "events.jsonl")
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [
        *range(1, shortened["epochs"] + 1)
    ]
    rates = [event["lr"] for event in events if event["event"] == "step"]
    assert rates[-1] < 0.05 * max(rates)
    with pytest.raises(Interrupted):  # made longer: the schedule is that of the longer run
        resnets.train(
            data, resume=runs[1].path, config=TrainConfig(epochs=planned + 1), on_event=slow_until_shortened
        )
    longer = read_events(runs[1].path / "events.jsonl")
    assert f"of {(planned + 1) * plan['steps_per_epoch']:,} (" in next(
        e["text"] for e in reversed(longer) if e["event"] == "resume"
    )
