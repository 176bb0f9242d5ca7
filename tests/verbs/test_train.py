"""Training as a user meets it: what a run folder holds, what is chosen, what is refused, what survives."""

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnets.base.errors import DataError, OutOfSpace, RunError, UsageError
from resnets.data.manifest import Manifest
from resnets.evaluation.predictions import load_predictions
from resnets.training.config import TrainConfig, read_config
from resnets.training.run import read_events
from resnets.verbs.evaluate import evaluate
from resnets.verbs.train import train
from tests.data.strange_names import strange_folder


def picture(value: int, seed: int, side: int = 12) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 60, (side, side, 3))
    stream = io.BytesIO()
    Image.fromarray((noise + value).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def folder_of(root: Path, *, count: int, classes: tuple[str, ...] = ("dark", "light")) -> Path:
    """Class folders of small pictures that differ in brightness."""
    for position, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(picture(150 * position, number + 1000 * position))
    return root


def arrays(count: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % classes
    noise = np.random.default_rng(0).integers(0, 60, (count, 8, 8, 3))
    return (noise + 150 * labels[:, None, None, None] // max(1, classes - 1)).astype(np.uint8), labels


def options(tmp_path: Path, **more: Any) -> TrainConfig:
    return TrainConfig(**{"epochs": 2, "threads": 1, "runs": str(tmp_path / "runs"), **more})


def test_a_run_folder_holds_all_that_the_design_names_and_its_config_repeats_the_run(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "pictures", count=20)
    run = train(data, config=options(tmp_path, epochs=3))
    assert run.path.name == "pictures-resnet20"
    names = {file.name for file in run.path.iterdir() if file.name[0] != "."}
    assert names == {
        "config.toml",
        "model.safetensors",
        "checkpoint",
        "events.jsonl",
        "manifest.parquet",
        "predictions.parquet",
    }
    address, values = read_config(run.path / "config.toml")
    again = train(address, config=TrainConfig(**values))
    first, second = run.load(), again.load()
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name])
    assert [e["event"] for e in read_events(run.path / "events.jsonl")][0] == "plan"
    assert run.split == "val"
    assert run.n == len(Manifest.read(run.path / "manifest.parquet").table.filter(_is_val(run.path)))


def _is_val(run: Path) -> Any:
    return np.array(Manifest.read(run / "manifest.parquet").table["split"].to_pylist()) == "val"


def test_the_figures_of_the_summary_are_those_of_evaluate_and_of_the_predictions(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "pictures", count=30)
    run = train(data, config=options(tmp_path))
    measured = evaluate(run.model, data).to_json()
    assert measured["split"] == run.split == "val"
    assert measured["heads"]["label"]["top1"] == run.heads["label"]["top1"]
    assert measured["heads"]["label"]["loss"] == pytest.approx(run.heads["label"]["loss"], rel=1e-5)
    kept = load_predictions(run.path / "predictions.parquet")
    answers = kept.heads["label"]
    assert (answers.logits.argmax(1) == answers.truth).mean() == run.heads["label"]["top1"]
    assert set(kept.splits) == {"val"}


def test_the_best_epoch_is_kept_and_ties_go_to_the_later_one(tmp_path: Path) -> None:
    run = train(arrays(64), config=options(tmp_path, epochs=6, lr=0.05))
    epochs = [event for event in read_events(run.path / "events.jsonl") if event["event"] == "epoch"]
    highest = max(event["val_top1"] for event in epochs)
    last_best = max(event["epoch"] for event in epochs if event["val_top1"] == highest)
    assert run.load().origin["epoch"] == last_best


def test_early_stop_ends_the_run_and_finishes_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 8, 8, 3)).astype(np.uint8)
    data = noise, np.random.default_rng(1).integers(0, 2, 80)
    run = train(data, config=options(tmp_path, epochs=40, early_stop=2, ema=0.0))
    epochs = [event for event in read_events(run.path / "events.jsonl") if event["event"] == "epoch"]
    assert len(epochs) < 40
    assert epochs[-1]["epoch"] - max(event["epoch"] for event in epochs if event["best"]) == 2
    assert run.n > 0


@pytest.mark.parametrize("count", [10, 11, 17])
def test_few_pictures_and_last_batches_of_one_are_trained_on(tmp_path: Path, count: int) -> None:
    run = train(arrays(count), config=options(tmp_path, batch=8))
    assert run.load().network(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


def test_a_batch_larger_than_the_data_becomes_all_of_it_and_says_so(tmp_path: Path) -> None:
    run = train(arrays(20), config=options(tmp_path, batch=512))
    plan = read_events(run.path / "events.jsonl")[0]
    assert plan["plan"]["config"]["batch"] == 16
    assert "batch 16, all the pictures there are" in plan["text"]


def test_fewer_than_a_hundred_pictures_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(arrays(30), config=options(tmp_path))
    assert "24 training pictures are few" in caplog.text


@pytest.mark.parametrize(
    ("make", "useful"),
    [
        (lambda root: folder_of(root, count=4, classes=("only",)), "has one class"),
        (lambda root: root.mkdir() or root, "no class folders|empty|no picture"),
        (lambda root: root / "missing", "there is no folder or file"),
    ],
)
def test_unusable_data_is_one_error_and_nothing_is_written(tmp_path: Path, make: Any, useful: str) -> None:
    data = make(tmp_path / "pictures")
    with pytest.raises((DataError, UsageError), match=useful):
        train(data, config=options(tmp_path))
    assert not (tmp_path / "runs").exists()


def test_an_unknown_network_is_refused_with_the_nearest_name_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean .*resnet18"):
        train(arrays(20), config=options(tmp_path, model="resnet81"))
    assert not (tmp_path / "runs").exists()


def test_a_run_name_that_is_taken_is_refused_before_the_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(RunError, match="already a run named 'mine'"):
        train(tmp_path / "not there", config=options(tmp_path, name="mine"))


def test_a_runs_folder_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="choose another with --runs"):
        train(arrays(20), config=options(tmp_path))


def test_strange_names_come_through_training_unchanged(tmp_path: Path) -> None:
    data = strange_folder(tmp_path)
    run = train(data, config=options(tmp_path, epochs=1))
    manifest = Manifest.read(run.path / "manifest.parquet")
    there = {os.fsencode(file.relative_to(data)) for file in data.rglob("*") if file.is_file()}
    assert {os.fsencode(path) for path in manifest.paths()} == there
    assert run.load().heads == manifest.heads
    assert all(
        line.isascii() and line.isprintable() for line in (run.path / "events.jsonl").read_text().splitlines()
    )


def test_a_picture_that_turns_out_broken_is_left_out_named_and_stays_out(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "pictures", count=20)
    broken = data / "dark" / "3.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) - 150])  # the header is whole: only decoding shows it
    run = train(data, config=options(tmp_path, epochs=3))
    manifest = Manifest.read(run.path / "manifest.parquet")
    row = manifest.paths().index("dark/3.png")
    left_out = [event for event in read_events(run.path / "events.jsonl") if event["event"] == "left_out"]
    part = manifest.table["split"][row].as_py()
    assert [event["path"] for event in left_out] == ["dark/3.png"]
    assert run.left_out == 1
    assert part in ("train", "val")
    assert manifest.left_out() == {row: left_out[0]["reason"]}
    again = train(resume=run.path, config=TrainConfig(epochs=4))
    assert again.left_out == 1  # what the manifest says of it does not make it other data


class Own(nn.Module):
    """A user's network, of no kind that the package knows."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.end = nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.end(self.body(images).mean((2, 3)))


class Dataset(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    """A map-style dataset of Pillow pictures."""

    classes = ("dark", "light")

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(io.BytesIO(picture(150 * (index % 2), index))), index % 2


def test_a_users_own_module_and_dataset_train_through_the_same_loop(tmp_path: Path) -> None:
    from resnets.weights.modelfile import load

    run = train(Dataset(), network=Own(2), config=options(tmp_path, epochs=4, lr=0.1))
    assert run.heads["label"]["top1"] > 0.9
    model = load(run.model, network=Own(2))
    assert model.heads["label"].ids == ("dark", "light")
    with pytest.raises(Exception, match="network="):
        load(run.model)


def test_a_full_disk_stops_the_run_with_the_last_checkpoint_intact(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        filled = disk / "filler"

        def fill(event: dict[str, Any]) -> None:
            if event["event"] == "epoch" and event["epoch"] == 2:
                with pytest.raises(OSError, match="No space left"):
                    filled.write_bytes(b"x" * 2**25)

        config = TrainConfig(epochs=4, threads=1, runs=str(disk / "runs"), name="run")
        with pytest.raises(OutOfSpace, match="no space left|cannot write") as stopped:
            train(arrays(60), config=config, on_event=fill)
        assert stopped.value.exit_status == 3
        filled.unlink()
        run = train(arrays(60), resume=disk / "runs" / "run")
        assert [e["epoch"] for e in read_events(run.path / "events.jsonl") if e["event"] == "epoch"] == [
            1,
            2,
            3,
            4,
        ]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_recalibration_is_done_for_short_runs_and_recorded(tmp_path: Path) -> None:
    run = train(arrays(40), config=options(tmp_path))
    (event,) = [e for e in read_events(run.path / "events.jsonl") if e["event"] == "recalibrated"]
    assert event["norms"] == 19  # a ResNet-20 has 19 batch norms
    assert event["kept"] == (event["val_losses"][1] <= event["val_losses"][0])


def test_all_train_trains_on_everything_and_chooses_nothing(tmp_path: Path) -> None:
    run = train("digits", config=options(tmp_path, epochs=1, all_train=True))
    manifest = Manifest.read(run.path / "manifest.parquet")
    parts = manifest.table["split"].to_pylist()
    assert (parts.count("train"), parts.count("val"), parts.count("test")) == (1437, 0, 360)
    (epoch,) = [e for e in read_events(run.path / "events.jsonl") if e["event"] == "epoch"]
    assert "val_top1" not in epoch
    assert (run.split, run.n) == ("test", 360)
    assert json.loads(json.dumps(run.to_json()))["split"] == "test"
