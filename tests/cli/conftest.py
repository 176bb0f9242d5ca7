"""A data set whose names are a stranger's, and a small model of its classes."""

from pathlib import Path

import pytest

from tests.data.strange_names import strange_folder


@pytest.fixture(scope="session")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; do not write into it."""
    return strange_folder(tmp_path_factory.mktemp("strange"))


@pytest.fixture(scope="session")
def strange_model(strange: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights for the classes of `strange`."""
    import torch

    from resnets import ResNetSpec, build, open_data, save
    from resnets.preprocess import Preprocess
    from resnets.weights.modelfile import Model

    torch.manual_seed(0)
    heads = open_data(strange).heads
    spec = ResNetSpec(block="basic", depths=(1,), width=8, stem="small", heads=(("label", len(heads["label"])),))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(path, Model(network=build(spec), heads=heads, preprocess=Preprocess(size=(16, 16))))
    return path
