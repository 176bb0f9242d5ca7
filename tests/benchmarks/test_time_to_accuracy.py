"""Time to an accuracy: the whole command counts, with the measurement whose accuracy is told."""

import json
from pathlib import Path

import pytest

import time_to_accuracy


def test_a_training_is_timed_with_the_measurement_that_its_accuracy_is_of() -> None:
    alone = time_to_accuracy.resnets_side("digits", "--epochs 2", "", 0)
    assert alone["rate"] == pytest.approx(3600 / alone["seconds"])
    assert alone["top1"] == alone["one_view"]
    assert 0.5 < alone["top1"] < 1  # two epochs: some are right, some are not

    views = time_to_accuracy.resnets_side("digits", "--epochs 2", "--views flip", 0)
    assert views["one_view"] == alone["one_view"]  # the same seed
    assert views["top1"] != views["one_view"]  # mirrored digits are other signs
    assert views["seconds"] > alone["seconds"]


def test_a_plain_training_takes_fifteen_times_two_of_its_thirty_epochs(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"epochs": 30, "top1": 0.5}))
    record = time_to_accuracy.plain_side("digits", tmp_path, 0)
    assert record["top1"] == 0.5
    assert record["rate"] * record["seconds"] == pytest.approx(3600)
    two_epochs = record["seconds"] / 15
    assert 0 < two_epochs < 60
