"""What a run starts from: networks without a name, and the licences of weights and of a teacher."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import resnets
from resnets.base.errors import UsageError
from resnets.labels import LABEL, Head
from resnets.preprocess import Preprocess
from resnets.training.config import TrainConfig
from resnets.weights.modelfile import Model, save

PICTURES = (np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8), np.arange(16) % 2)
SHORT = TrainConfig(epochs=1, threads=1, precision="fp32")
TWO = {LABEL: Head(ids=("0", "1"))}
RGB = Preprocess(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)


def stored(path: Path, licence: str | None) -> Path:
    network = resnets.build("resnet20:depths=1-1-1", num_classes=2)
    origin = {"model": "resnet20:depths=1-1-1", **({"licence": licence} if licence else {})}
    save(path, Model(network=network, heads=TWO, preprocess=RGB, origin=origin))
    return path


@pytest.mark.parametrize(
    ("weights", "teacher", "kept"),
    [
        ("apache-2.0", "cc-by-nc-4.0 (non-commercial)", "apache-2.0 and cc-by-nc-4.0 (non-commercial)"),
        ("apache-2.0", "apache-2.0", "apache-2.0"),
        ("apache-2.0", None, "apache-2.0"),
        (None, "cc-by-nc-4.0 (non-commercial)", "cc-by-nc-4.0 (non-commercial)"),
    ],
)
def test_what_is_trained_carries_the_licences_of_its_weights_and_of_its_teacher(
    weights: str | None, teacher: str | None, kept: str, tmp_path: Path
) -> None:
    config = replace(
        SHORT,
        weights=str(stored(tmp_path / "start.safetensors", weights)),
        teacher=str(stored(tmp_path / "teacher.safetensors", teacher)),
        runs=str(tmp_path / "runs"),
    )
    assert resnets.train(PICTURES, config=config).load().origin["licence"] == kept


def test_weights_of_a_network_without_a_name_need_a_model(tmp_path: Path) -> None:
    config = replace(SHORT, runs=str(tmp_path / "runs"))
    given = resnets.build("resnet20:depths=1-1-1", num_classes=2)
    weights = str(resnets.train(PICTURES, config=config, network=given).model)
    with pytest.raises(UsageError, match="has no name: give --model"):
        resnets.train(PICTURES, config=replace(config, weights=weights))
    run = resnets.train(
        PICTURES, config=replace(config, weights=weights, model="resnet20:depths=1-1-1", stem="small")
    )
    assert run.load().origin["model"] == "resnet20:depths=1-1-1"
