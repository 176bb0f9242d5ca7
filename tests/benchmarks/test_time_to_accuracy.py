"""Time to an accuracy: the whole command counts, with the measurement whose accuracy is told."""

import json
from pathlib import Path

import pytest

import time_to_accuracy
from rounds import Record, in_own_process


def test_a_training_is_timed_with_the_measurement_that_its_accuracy_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    took = []

    def noted(command: list[str]) -> tuple[str, Record]:
        printed, figures = in_own_process(command)
        took.append(figures["seconds"])
        return printed, figures

    monkeypatch.setattr(time_to_accuracy, "in_own_process", noted)
    record = time_to_accuracy.resnets_side("digits", "--epochs 2", "--views flip", 0)
    assert len(took) == 2
    assert record["seconds"] == sum(took)
    assert record["rate"] == pytest.approx(3600 / record["seconds"])
    assert 0.5 < record["one_view"] < 1  # two epochs: some are right, some are not
    assert 0 < record["top1"] < record["one_view"]  # mirrored digits are other signs


def test_a_plain_training_takes_fifteen_times_two_of_its_thirty_epochs(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"epochs": 30, "top1": 0.5}))
    record = time_to_accuracy.plain_side("digits", tmp_path, 0)
    assert record["top1"] == 0.5
    assert record["rate"] * record["seconds"] == pytest.approx(3600)
    two_epochs = record["seconds"] / 15
    assert 0 < two_epochs < 60
