"""Public weights give their known accuracies through the public functions."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnets.verbs.evaluate import evaluate


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("resnet20-12fca82f.th", 9_173),
        ("resnet32-d509ac18.th", 9_263),
        ("resnet44-014dd654.th", 9_311),
        ("resnet56-4bfd9763.th", 9_339),
    ],
)
def test_cifar_networks_get_their_published_accuracy(shared_data: Path, name: str, right: int) -> None:
    weights, pictures = shared_data / "weights" / "cifar" / name, shared_data / "cifar10" / "test.parquet"
    found = evaluate(weights, pictures, split="all", threads=2, batch=250)
    assert found.n == 10_000
    assert abs(found.heads["label"].top1 * 10_000 - right) <= 3


@pytest.fixture(scope="module")
def decoded(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compressed ImageNet weights, decoded."""
    folder = tmp_path_factory.mktemp("weights")
    subprocess.run([sys.executable, shared_data / "weights" / "imagenet" / "decode.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def samples(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs in folders named by their WordNet ids: 250 of ImageNet's classes."""
    root = tmp_path_factory.mktemp("samples")
    with (shared_data / "imagenet-samples" / "labels.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            folder = root / row["wnid"]
            folder.mkdir()
            shutil.copy(shared_data / "imagenet-samples" / row["file"], folder)
    return root


@pytest.mark.parametrize(("name", "right"), [("resnet18-pqf", 193), ("resnet50-pqf", 212)])
def test_imagenet_networks_get_their_known_accuracy(decoded: Path, samples: Path, name: str, right: int) -> None:
    found = evaluate(decoded / f"{name}.safetensors", samples, split="all", threads=2)
    assert found.n == 250
    assert abs(found.heads["label"].top1 * 250 - right) <= 2
    assert any("has 250 of the model's 1,000 classes" in note for note in found.notes)
