"""How many epochs a time allows: by arithmetic, and on a real run."""

import json
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

import resnets
from resnets.base.errors import UsageError
from resnets.training.config import TrainConfig
from resnets.training.pace import epochs_within
from resnets.training.plan import Plan, make_plan


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


def test_a_run_of_three_seconds_ends_near_then_with_its_schedule_at_zero(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 8, 8, 1), dtype=np.uint8)
    config = TrainConfig(minutes=6 / 60, runs=str(tmp_path), threads=1, model="resnet20", precision="fp32")
    started = time.monotonic()
    run = resnets.train((pixels, np.arange(256) % 2), config=config)
    assert time.monotonic() - started < 20  # six seconds, on a machine that may have other work
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    plan = next(event for event in events if event["event"] == "plan")
    epochs = plan["plan"]["config"]["epochs"]
    assert f"{epochs} epoch" in plan["text"].split(": ", 1)[1]
    assert sum(event["event"] == "epoch" for event in events) == epochs
    resolved = tomllib.loads((run.path / "config.toml").read_text())
    assert "minutes" not in resolved
    assert resolved["epochs"] == epochs
