"""A published tutorial's whole run as one command: Imagenette, squashed and normalised by 0.5, Adam, tracked.

The real archive is 342 MB, and a ResNet-34 with a 3x3 stem at 224 pixels needs hours on a processor: the archive
here has the same layout with few pictures, and the run is of one epoch at 32 pixels. What the command means at its
own size is tested on its plan.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from resnets.base import download
from resnets.cli.commands import parse
from resnets.cli.train import COMMAND
from resnets.data.dataset import open_data
from resnets.data.sources.named import CATALOGUE, IMAGENETTE_NAMES
from resnets.networks.variants import variant
from resnets.preprocess import Preprocess
from resnets.training.config import TrainConfig, read_config
from resnets.training.plan import make_plan
from resnets.training.run import read_events
from resnets.weights.modelfile import load
from tests.integration.pictures import noise
from tests.integration.shell import Said, resnets
from tests.local_server import LocalServer
from tests.training.test_tracking import run_records

ARTICLE = (
    "imagenette --model resnet34 --stem small --optimizer adam --epochs 10 --resize squash --normalize half "
    "--track wandb"
)
TRAIN, VAL = 4, 2  # pictures a class


def archive() -> bytes:
    """`imagenette2-320.tgz` in small: a folder, in it a table, and `train` and `val` with ten WordNet ids each."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        add(tar, "imagenette2-320/noisy_imagenette.csv", b"path,noisy_labels_0\n")
        for place, wnid in enumerate(IMAGENETTE_NAMES):
            for part, count in (("train", TRAIN), ("val", VAL)):
                for number in range(count):
                    picture = io.BytesIO()
                    noise(20 * place, 100 * place + number + 50 * (part == "val"), (24, 32)).save(picture, "JPEG")
                    name = f"imagenette2-320/{part}/{wnid}/{wnid}_{number}.JPEG"
                    add(tar, name, picture.getvalue())
    return content.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@dataclass(frozen=True, kw_only=True)
class Trained:
    place: Path
    run: Path
    said: Said
    requests: list[tuple[str, str | None]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """The command, run once: the connection breaks on the way, nothing but the local server is spoken to."""
    pytest.importorskip("wandb")
    place = tmp_path_factory.mktemp("article")
    content = archive()
    with pytest.MonkeyPatch.context() as patch, LocalServer({"/imagenette2-320.tgz": content}) as server:
        file = {
            "url": f"{server.url}/imagenette2-320.tgz",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }
        (place / "catalogue.json").write_text(
            json.dumps({"imagenette": {"files": [file], "unpacked_size": 10**6}})
        )
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("HOME", str(place / "home"))
        patch.setenv("RESNETS_CATALOGUE", str(place / "catalogue.json"))
        patch.setenv("RESNETS_CACHE", str(place / "cache"))
        patch.setattr(download, "PAUSES_SECONDS", (0.0,) * 5)
        patch.chdir(place)
        server.drops = [len(content) // 2]
        small = ("--size", "32", "--epochs", "1", "--threads", "1")
        words = ARTICLE.replace("--epochs 10 ", "").split()
        said = resnets("train", *words, *small, "--json")
        yield Trained(place=place, run=place / "runs" / "imagenette-resnet34", said=said, requests=server.requests)
    import wandb

    wandb.teardown()
    shutil.rmtree(place / "runs", ignore_errors=True)  # checkpoints of a ResNet-34 with Adam are large


@pytest.fixture
def inside(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.chdir(trained.place)
    monkeypatch.setenv("RESNETS_CATALOGUE", str(trained.place / "catalogue.json"))
    monkeypatch.setenv("RESNETS_CACHE", str(trained.place / "cache"))
    return trained


def test_the_command_downloads_trains_and_says_what_its_figures_are_of(trained: Trained) -> None:
    assert trained.said.status == 0, trained.said.err
    record = trained.said.json
    assert (record["run"], record["split"], record["n"]) == ("runs/imagenette-resnet34", "val", 10 * VAL)
    assert [path for path, _ in trained.requests] == ["/imagenette2-320.tgz"] * 2
    assert trained.requests[1][1] is not None  # gone on with, not begun again
    assert set(record["heads"]["label"]["classes"]) == set(IMAGENETTE_NAMES)


def test_the_model_file_has_the_articles_network_classes_and_preprocessing(trained: Trained) -> None:
    model = load(trained.run / "model.safetensors")
    head = model.heads["label"]
    assert dict(zip(head.ids, head.names, strict=True)) == IMAGENETTE_NAMES
    assert list(head.ids) == sorted(IMAGENETTE_NAMES)
    assert model.preprocess == Preprocess(
        size=(32, 32), resize="squash", crop=1.0, mean=(0.5,) * 3, std=(0.5,) * 3, channels="rgb"
    )
    weight = model.network.get_parameter("conv1.weight")
    assert weight.shape == (64, 3, 3, 3)
    assert sum(parameter.numel() for parameter in model.network.parameters()) == parameters_of_resnet34(10)
    assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert "imagenette" in model.origin["data"]["origin"]


def parameters_of_resnet34(classes: int) -> int:
    """A ResNet-34 with a 3x3 stem, counted by hand: convolutions, batch norms, the last layer."""
    widths, blocks = (64, 128, 256, 512), (3, 4, 6, 3)
    count = 64 * 3 * 9 + 2 * 64
    before = 64
    for width, number in zip(widths, blocks, strict=True):
        for block in range(number):
            count += 9 * width * (before if block == 0 else width) + 9 * width * width + 4 * width
        count += (before * width + 2 * width) * (before != width)
        before = width
    return count + 512 * classes + classes


def test_figures_are_tracked_offline_and_in_the_run_folder(trained: Trained) -> None:
    rows = run_records(trained.run)
    (epoch,) = [row for row in rows if "val_top1" in row]
    (event,) = [event for event in read_events(trained.run / "events.jsonl") if event["event"] == "epoch"]
    assert epoch["loss"] == event["loss"]
    assert epoch["val_top1"] == event["val_top1"]
    assert any("step_loss" in row for row in rows)
    assert not (trained.place / "home").exists()


def test_the_config_repeats_the_run(trained: Trained) -> None:
    data, options = read_config(trained.run / "config.toml")
    assert data == "imagenette"
    asked = {"model": "resnet34", "stem": "small", "optimizer": "adam", "resize": "squash", "normalize": "half"}
    assert asked.items() <= options.items()
    assert (options["lr"], options["momentum"], options["track"]) == (0.001, 0.9, ("wandb",))


def test_what_was_downloaded_is_there_without_a_server(inside: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(inside.requests)
    said = resnets("evaluate", inside.run, "imagenette", "--threads", "1", "--json")
    assert said.status == 0, said.err
    assert said.json["heads"]["label"]["top1"] == inside.said.json["heads"]["label"]["top1"]
    picture = next(inside.place.rglob("val/n03888257/*.JPEG"))
    said = resnets("predict", inside.run, picture, "--top", "10", "--threads", "1", "--json")
    assert {answer["class"] for answer in said.json_lines[0]["heads"]["label"]} == set(IMAGENETTE_NAMES.values())
    assert len(inside.requests) == before


def test_the_articles_command_as_it_stands_is_planned_as_the_article_says(tmp_path: Path) -> None:
    given = parse("train", COMMAND, ARTICLE.split())
    assert given is not None
    assert given.pop("data") == "imagenette"
    for wnid in list(IMAGENETTE_NAMES)[:2]:
        for part in ("train", "val"):
            (tmp_path / part / wnid).mkdir(parents=True)
            for number in range(2):
                picture = noise(100, number, (6, 8)).resize((427, 320))  # Imagenette's shorter side
                picture.save(tmp_path / part / wnid / f"{part}{number}.JPEG")
    data = open_data(tmp_path)
    plan = make_plan(TrainConfig(**given), data, measure=not_measured)
    config = plan.config
    assert plan.preprocess == Preprocess(
        size=(224, 224),
        resize="squash",
        crop=plan.preprocess.crop,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        channels="rgb",
    )
    assert (config.model, config.stem, config.epochs) == ("resnet34", "small", 10)
    assert (config.optimizer, config.lr, config.momentum) == ("adam", 0.001, 0.9)
    assert (plan.augment.geometry, config.track) == ("rrc", ("wandb",))
    assert "small stem as asked" in plan.reasons
    assert variant("resnet34").depths == (3, 4, 6, 3)
    assert CATALOGUE["imagenette"].files[0].url.endswith("/imagenette2-320.tgz")


def not_measured(preprocess: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pytest.fail("0.5 is stated, not measured")
