"""A run's whitened stem: made from its training pictures before the first step, and never again."""

from pathlib import Path

import numpy as np
import pytest
import torch

import resnets
from resnets.training.config import TrainConfig
from resnets.training.loop import Training
from resnets.training.run import read_events
from resnets.verbs.train import train
from resnets.weights.modelfile import load

NARROW = {"model": "resnet9_whitened:width=16", "batch": 16, "threads": 1, "precision": "fp32"}


def pictures(count: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that differ in brightness, 8 by 8 pixels."""
    labels = np.arange(count) % 2
    noise = np.random.default_rng(seed).integers(0, 90, (count, 8, 8, 3))
    return (noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels


def options(tmp_path: Path, name: str, **more: object) -> TrainConfig:
    return TrainConfig(**{**NARROW, "epochs": 1, "runs": str(tmp_path), "name": name, **more})  # type: ignore[arg-type]


def filters(run: resnets.Run) -> torch.Tensor:
    return load(run.model).network.state_dict()["conv1.weight"]


def lines(run: resnets.Run) -> list[str]:
    return [event.get("text", "") for event in read_events(run.path / "events.jsonl")]


def test_the_filters_come_from_the_training_pictures_whatever_the_seed_and_are_said_in_one_line(
    tmp_path: Path,
) -> None:
    one, other = (train(pictures(), config=options(tmp_path, f"run{seed}", seed=seed)) for seed in (0, 1))
    said = [line for line in lines(one) if "whitened stem:" in line]
    count = one.load().origin["data"]["pictures"]["train"]
    assert said == [f"whitened stem: 16 filters of 3x3 and their negatives, from {count} pictures"]
    assert "whitened stem, as the network has it" in lines(one)[0]
    assert filters(one).shape == (32, 3, 3, 3)
    assert torch.equal(filters(one)[:16], -filters(one)[16:])
    assert torch.equal(filters(one), filters(other))


def test_a_resume_takes_the_filters_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(pictures(), config=options(tmp_path, "whole", epochs=2))
    validate, calls = Training.validate, []

    def killed(self: Training) -> dict[str, object]:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return validate(self)

    monkeypatch.setattr(Training, "validate", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(pictures(), config=options(tmp_path, "stopped", epochs=2))
    monkeypatch.undo()
    monkeypatch.setattr("resnets.training.start.whiten", None)  # would fail if it were called
    resumed = train(pictures(), resume=tmp_path / "stopped")
    assert torch.equal(filters(resumed), filters(whole))
    for name, tensor in whole.load().network.state_dict().items():
        assert torch.equal(tensor, resumed.load().network.state_dict()[name])


def test_weights_keep_their_filters_on_other_pictures(tmp_path: Path) -> None:
    first = train(pictures(), config=options(tmp_path, "first"))
    second = train(pictures(seed=1), config=options(tmp_path, "second", weights=str(first.model), model=None))
    assert torch.equal(filters(second), filters(first))
    assert not any("whitened stem: 16" in line for line in lines(second))


def test_any_network_can_be_given_the_stem(tmp_path: Path) -> None:
    run = train(pictures(), config=options(tmp_path, "asked", model="resnet20", stem="whitened"))
    assert run.load().network.spec.stem == "whitened"
    assert len(filters(run)) == 16


def test_a_grey_network_has_as_many_filters_as_grey_patches_have_directions(tmp_path: Path) -> None:
    grey = pictures()[0][..., 0], pictures()[1]
    run = train(grey, config=options(tmp_path, "grey"))
    assert filters(run).shape == (18, 1, 3, 3)
