"""Weights by name, from a server on this machine: downloaded once, checked, and known by their hash."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import resnets
from resnets.base.errors import DownloadError, UsageError
from resnets.training.config import TrainConfig
from resnets.weights.catalogue import catalogue, fetch
from tests.local_server import LocalServer

NAME = "resnet10t.c3_in1k"  # the smallest network of the catalogue


@pytest.fixture
def network() -> resnets.ResNet:
    torch.manual_seed(0)
    return resnets.build("resnet10t").eval()


def offered(server: LocalServer, network: resnets.ResNet, folder: Path) -> Path:
    """A file RESNETS_CATALOGUE that says where NAME is: on the server, as a .pth file."""
    content = io.BytesIO()
    torch.save(resnets.to_timm(network), content)
    server.files["/small.pth"] = content.getvalue()
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    row = {"url": f"{server.url}/small.pth", "sha256": digest, "size": len(content.getvalue())}
    (folder / "mine.json").write_text(json.dumps({NAME: {"files": [row]}}))
    return folder / "mine.json"


def test_a_name_gives_the_network_its_preprocessing_its_classes_and_its_licence(
    server: LocalServer, network: resnets.ResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETS_CATALOGUE", str(offered(server, network, tmp_path)))
    model = resnets.load(NAME)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.network(images), network(images))
    assert (model.preprocess.size, model.preprocess.crop) == ((224, 224), 0.95)
    assert model.heads["label"].ids[0] == "n01440764"
    receipt = model.origin["receipt"]
    assert model.origin["licence"] == receipt["licence"] == "apache-2.0"
    assert receipt["assumptions"] == []
    assert receipt["notes"][0].startswith(f"published as {NAME}; top-1 68.")
    asked = len(server.requests)
    resnets.load(NAME)
    assert len(server.requests) == asked  # from the cache


def test_a_run_that_starts_from_a_name_takes_its_network_and_carries_its_licence(
    server: LocalServer, network: resnets.ResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETS_CATALOGUE", str(offered(server, network, tmp_path)))
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
    config = TrainConfig(weights=NAME, epochs=1, size="32", runs=str(tmp_path / "runs"), threads=1)
    run = resnets.train((pixels, np.arange(24) % 2), config=config)
    trained = run.load()
    assert trained.origin["model"] == "resnet10t"
    assert trained.origin["licence"] == "apache-2.0"
    assert trained.preprocess.mean == (0.485, 0.456, 0.406)


def test_bytes_that_are_not_those_of_the_publisher_are_deleted(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = catalogue()["resnet18.tv_in1k"]
    server.files[f"/{weights.name}/{weights.file.name}"] = b"something else"
    monkeypatch.setenv("RESNETS_MIRROR", server.url)
    with pytest.raises(DownloadError, match="gave wrong bytes: sha256 .*, not f37072fd"):
        resnets.load(weights.name)
    assert not list((tmp_path / "cache").rglob("*.pth"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50.tv3_in1k", "of resnet50 there are .*resnet50.tv2_in1k"),
        ("resnet20.in1k", "there is no set of weights named 'resnet20.in1k'"),
        ("resnet5", "no model file or weights named 'resnet5'"),
        ("resnet50", "published weights such as resnet50.a1_in1k"),
    ],
)
def test_a_wrong_name_is_told_with_those_there_are(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resnets.load(name)


def test_weights_without_a_published_hash_are_not_downloaded() -> None:
    weights = catalogue()["resnetv2_50.a1h_in1k"]
    with pytest.raises(
        UsageError, match=r"without a hash.*download https://huggingface.co/timm/resnetv2_50.a1h_in1k"
    ):
        fetch(weights)
