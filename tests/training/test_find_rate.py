"""A learning rate from a trial, or no answer where the loss never falls."""

from pathlib import Path

import numpy as np
import pytest

import resnets
from resnets.base.errors import WorkStopped
from resnets.training.config import TrainConfig
from resnets.training.find_rate import chosen


def test_the_answer_is_a_tenth_of_the_rate_with_the_lowest_loss() -> None:
    assert chosen([0.001, 0.01, 0.1, 1.0], [2.0, 1.5, 0.5, 0.9]) == pytest.approx(0.01)


def test_a_loss_that_never_falls_gives_no_answer() -> None:
    with pytest.raises(WorkStopped, match="did not fall at any learning rate"):
        chosen([0.001, 0.01, 0.1], [2.0, 1.99, 2.5])


def test_digits_get_a_rate_near_the_default_and_a_plot(tmp_path: Path) -> None:
    plot = tmp_path / "rates.png"
    config = TrainConfig(runs=str(tmp_path / "runs"), threads=1, batch=64)
    found = resnets.find_rate("digits", config=config, out=plot)
    assert 0.005 < found.rate < 1
    assert min(found.losses) < 0.9 * found.losses[0]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "runs").exists()


def test_noise_with_labels_by_chance_gets_no_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4000, 8, 8, 1), dtype=np.uint8), rng.integers(0, 2, 4000)
    with pytest.raises(WorkStopped, match="none can be named"):
        resnets.find_rate(pictures, config=TrainConfig(runs=str(tmp_path), threads=1))
