"""The floor: what features are worth before they are trained."""

import json
from pathlib import Path

import numpy as np
import pytest

import resnets
from resnets.base.errors import UsageError
from resnets.training.config import TrainConfig
from resnets.training.probe import Probe


def shades() -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright pictures: any features tell them apart."""
    labels = np.arange(200) % 2
    noise = np.random.default_rng(0).integers(0, 60, (200, 16, 16, 1))
    return (noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels


def test_features_that_tell_the_classes_apart_give_a_probe_that_is_always_right(tmp_path: Path) -> None:
    config = TrainConfig(model="resnet20", epochs=1, probe=True, runs=str(tmp_path), threads=1)
    run = resnets.train(shades(), config=config)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    (found,) = next(event["probes"] for event in events if event["event"] == "probe")
    assert found["linear"] == found["neighbours"] == found["n"] > 0
    assert found["pictures"] + found["n"] == 200


def test_labels_drawn_by_chance_are_guessed_about_half_of_the_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (600, 8, 8, 1), dtype=np.uint8), rng.integers(0, 2, 600)
    config = TrainConfig(model="resnet20", epochs=1, probe=True, runs=str(tmp_path), threads=1)
    run = resnets.train(pictures, config=config)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    (found,) = next(event["probes"] for event in events if event["event"] == "probe")
    assert 0.3 < found["linear"] / found["n"] < 0.7


def test_the_line_names_n_and_the_interval() -> None:
    line = Probe(head="label", n=153, pictures=245, linear=145, neighbours=140).line()
    assert "94.77% of 153 validation pictures right (95% interval 90.02 to 97.33%)" in line
    assert "10 nearest neighbours 91.50%; training must beat that" in line


def test_a_probe_without_validation_pictures_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, probe=True, all_train=True, runs=str(tmp_path), threads=1)
    with pytest.raises(UsageError, match="--probe needs validation pictures"):
        resnets.train(shades(), config=config)
