"""ImageNet's classes by index, WordNet id and name, through the public functions."""

import csv
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import resnets
from resnets.cli import app
from resnets.networks.spec import ResNetSpec

TINY = ResNetSpec(block="basic", depths=(1,), width=8, stem="small")
CRANE, MACHINE = "n02012849", "n03126707"  # a bird and a machine, 134 and 517, both called crane
TENCH = "n01440764"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without class names, of a network that always answers the bird, then the machine, then a tench."""
    torch.manual_seed(0)
    network = resnets.build(TINY)
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.zero_()
        network.fc.bias[[134, 517, 0]] = torch.tensor([3.0, 2.0, 1.0])
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return path


@pytest.fixture
def model(weights: Path) -> Path:
    """The same as a model file."""
    path = weights.parent / "model.safetensors"
    if not path.exists():
        resnets.save(path, resnets.load(weights, model=TINY))
    return path


def folders(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(len(name) + number).integers(0, 255, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def test_index_id_and_name_lead_to_each_other(weights: Path, shared_data: Path) -> None:
    head = resnets.load(weights, model=TINY).heads["label"]
    with (shared_data / "imagenet-samples" / "classes.csv").open(newline="") as handle:
        rows = [(int(row["index"]), row["wnid"], row["name"].replace("_", " ")) for row in csv.DictReader(handle)]
    assert len(rows) == len(head) == 1000
    assert [(head.index()[one], one, name) for one, name in zip(head.ids, head.names, strict=True)] == rows
    assert all(one in head.named(name) for _, one, name in rows)


def test_two_pairs_of_classes_share_a_name_and_no_id(weights: Path) -> None:
    head = resnets.load(weights, model=TINY).heads["label"]
    assert len(set(head.ids)) == 1000
    shared = {name: head.named(name) for name in head.names if len(head.named(name)) > 1}
    assert shared == {"crane": (CRANE, MACHINE), "maillot": ("n03710637", "n03710721")}
    assert [head.index()[one] for ids in shared.values() for one in ids] == [134, 517, 638, 639]
    assert head.named("no such class") == ()


def test_a_folder_of_wordnet_ids_is_shown_with_names(tmp_path: Path) -> None:
    root = folders(tmp_path / "birds", {CRANE: 4, MACHINE: 4, "n00000001": 4, "herons": 4})
    head = resnets.open_data(root).heads["label"]
    assert dict(zip(head.ids, head.names, strict=True)) == {
        CRANE: "crane",
        MACHINE: "crane",
        "n00000001": "n00000001",  # no class of ImageNet
        "herons": "herons",
    }


def test_names_that_are_given_win(tmp_path: Path) -> None:
    root = folders(tmp_path / "birds", {CRANE: 4, TENCH: 4})
    (tmp_path / "names.csv").write_text(f"id,name\n{CRANE},Kranich\n")
    assert resnets.open_data(root, classes=tmp_path / "names.csv").heads["label"].names == ("tench", "Kranich")


def test_a_model_trained_on_such_a_folder_answers_with_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = folders(tmp_path / "birds", {CRANE: 10, TENCH: 10})
    config = resnets.TrainConfig(model="resnet20", epochs=1, threads=1)
    head = resnets.train(root, config=config).load().heads["label"]
    assert (head.ids, head.names) == ((TENCH, CRANE), ("tench", "crane"))


def test_a_model_of_all_classes_is_evaluated_on_some_of_them(model: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "some", {MACHINE: 2, CRANE: 3, TENCH: 1})
    found = resnets.evaluate(model, root, split="all", threads=1)
    figures = found.heads["label"]
    assert found.n == 6
    assert figures.top1 == pytest.approx(3 / 6)  # the bird is the answer to everything
    assert figures.top5 == 1
    assert {one: figures.classes[one].recall for one in (TENCH, CRANE, MACHINE)} == {
        TENCH: 0,
        CRANE: 1,
        MACHINE: 0,
    }
    assert {one: figures.classes[one].name for one in (CRANE, MACHINE)} == {CRANE: "crane", MACHINE: "crane"}
    assert any("some has 3 of the model's 1,000 classes" in note for note in found.notes)


def test_classes_that_share_a_name_are_told_apart_where_people_read(
    model: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    root = folders(tmp_path / "some", {MACHINE: 1, CRANE: 1})
    assert app(["evaluate", str(model), str(root), "--split", "all", "--threads", "1"]) == 0
    assert app(["predict", str(model), str(root / CRANE / "0.png"), "--threads", "1", "--top", "3"]) == 0
    said = capfdbinary.readouterr().out.decode()
    assert f"crane ({CRANE})" in said
    assert f"crane ({MACHINE})" in said
    assert "tench " in said


def test_a_folder_of_names_is_answered_with_the_ids(model: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "named", {"crane": 2, "tench": 2})
    with pytest.raises(resnets.DataError, match=f"the ids of 'crane' are '{CRANE}' and '{MACHINE}'"):
        resnets.evaluate(model, root, split="all", threads=1)
