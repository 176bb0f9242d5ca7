import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from resnets.base.errors import DataError, UsageError
from resnets.data.dataset import open_data
from resnets.evaluation.predictions import load_predictions
from resnets.labels import Head
from resnets.preprocess import Preprocess
from resnets.verbs.evaluate import evaluate
from resnets.weights.modelfile import Model

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class MeanColour(nn.Module):
    """Logits are the mean red, green and blue: the answer is known for any picture."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.fixture
def model() -> Model:
    return Model(
        network=MeanColour(),
        heads={"label": Head(ids=("red", "green", "blue"))},
        preprocess=Preprocess(size=(4, 4), mean=(0.0, 0.0, 0.0), std=(0.2, 0.2, 0.2)),
    )


def folder(root: Path, parts: dict[str, dict[str, list[str]]]) -> Path:
    """part -> class -> the colours of its pictures; each picture has one pixel of its own."""
    number = 0
    for part, classes in parts.items():
        for name, colours in classes.items():
            (root / part / name).mkdir(parents=True)
            for colour in colours:
                picture = Image.new("RGB", (6, 6), COLOURS[colour])
                picture.putpixel((0, 0), (number, 0, 0))
                picture.save(root / part / name / f"{number}.png")
                number += 1
    return root


GOOD = {name: [name] * 2 for name in COLOURS}


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """Three of the four red validation pictures are right, both green ones; there is no blue one that is right."""
    val = {"red": ["red", "red", "red", "blue"], "green": ["green", "green"], "blue": ["red"]}
    return folder(tmp_path / "toys", {"train": GOOD, "val": val})


def test_figures_are_those_counted_by_hand(model: Model, divided: Path) -> None:
    found = evaluate(model, divided, threads=1)
    figures = found.heads["label"]
    assert (found.split, found.n, found.precision) == ("val", 7, "fp32")
    assert figures.top1 == pytest.approx(5 / 7)
    assert figures.top5 is None
    assert figures.macro_recall == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert figures.classes["red"].precision == pytest.approx(3 / 4)
    assert figures.classes["blue"].precision == 0.0
    assert {name: one.n for name, one in figures.classes.items()} == {"red": 4, "green": 2, "blue": 1}


def test_the_json_has_the_fixed_keys(model: Model, divided: Path) -> None:
    values = json.loads(json.dumps(evaluate(model, divided, threads=1).to_json(), allow_nan=False))
    fixed = {"n", "left_out", "left_out_files", "split", "precision", "heads", "seconds", "outputs"}
    assert fixed <= values.keys()
    assert values["heads"]["label"]["classes"]["green"] == {
        "name": "green",
        "precision": 1.0,
        "recall": 1.0,
        "n": 2,
    }
    low, high = values["heads"]["label"]["top1_interval"]
    assert low < 5 / 7 < high


def test_test_comes_before_val_and_val_before_all(model: Model, tmp_path: Path) -> None:
    three = folder(tmp_path / "three", {"train": GOOD, "val": GOOD, "test": GOOD})
    assert evaluate(model, three, threads=1).split == "test"
    assert evaluate(model, three, threads=1, split="all").n == 18
    with pytest.raises(UsageError, match="--split must be one of train, val, test, all, got 'dev'"):
        evaluate(model, three, split="dev")  # type: ignore[arg-type]


def test_a_part_that_is_not_there_is_named(model: Model, divided: Path) -> None:
    with pytest.raises(UsageError, match="toys has no test pictures; it has 7 val, 6 train; choose with --split"):
        evaluate(model, divided, split="test")


def test_an_undivided_folder_says_which_pictures_were_measured(model: Model, tmp_path: Path) -> None:
    undivided = folder(tmp_path / "toys", {".": {name: [name] * 10 for name in COLOURS}})
    found = evaluate(model, undivided, threads=1)
    assert (found.split, found.n) == ("val", 6)
    assert any("--split all takes every picture" in note for note in found.notes)
    assert evaluate(model, undivided, threads=1, split="all").notes == ()


def test_a_stated_test_part_is_not_called_drawn_where_val_is(model: Model, tmp_path: Path) -> None:
    many = {name: [name] * 10 for name in COLOURS}
    data = open_data(folder(tmp_path / "toys", {"train": many, "test": GOOD}))
    assert len(data.rows("val")) > 0
    assert not [note for note in evaluate(model, data).notes if "divided" in note]


def test_data_with_some_of_the_models_classes_works_and_says_so(model: Model, tmp_path: Path) -> None:
    some = folder(tmp_path / "two", {"test": {"blue": ["blue", "red"], "red": ["red", "red"]}})
    found = evaluate(model, some, threads=1)
    assert found.heads["label"].top1 == 0.75
    assert list(found.heads["label"].classes) == ["red", "blue"]
    assert found.notes == ("two has 2 of the model's 3 classes",)


def test_data_with_unknown_classes_is_refused(model: Model, tmp_path: Path) -> None:
    other = folder(tmp_path / "other", {"test": {"blue": ["blue"], "pink": ["red"]}})
    with pytest.raises(DataError, match="'pink'"):
        evaluate(model, other)


def test_bad_files_are_left_out_by_name_and_counted(model: Model, divided: Path) -> None:
    (divided / "val" / "red" / "text.png").write_text("no picture")
    whole = (
        divided / "val" / "red" / next(iter(sorted((divided / "val" / "red").glob("*.png")))).name
    ).read_bytes()
    (divided / "val" / "red" / "cut.png").write_bytes(whole[:-20])
    found = evaluate(model, divided, threads=1)
    assert found.n == 7
    assert [path for path, _ in found.left_out] == ["val/red/cut.png", "val/red/text.png"]
    assert found.to_json()["left_out"] == 2
    assert "left out: 2 files" in found.table()
    with pytest.raises(DataError, match=r"cut\.png"):
        evaluate(model, divided, threads=1, strict_data=True)


def test_pictures_that_were_trained_on_are_warned_of(
    model: Model, divided: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = open_data(divided)
    trained = Model(**{**vars(model), "origin": {"data": {"hash": data.manifest.hash()}}})
    assert evaluate(trained, data, threads=1).notes == ()
    with caplog.at_level(logging.WARNING, logger="resnets"):
        found = evaluate(trained, data, threads=1, split="all")
    assert "trained on 6 of these pictures" in found.notes[0]
    assert "trained on 6 of these pictures" in caplog.text


def test_the_answers_to_every_picture_are_written_where_asked(model: Model, divided: Path, tmp_path: Path) -> None:
    found = evaluate(model, divided, threads=1, out=tmp_path / "answers.parquet")
    assert found.outputs == (tmp_path / "answers.parquet",)
    table = load_predictions(tmp_path / "answers.parquet")
    head = table.heads["label"]
    assert len(table.paths) == 7
    assert set(table.splits) == {"val"}
    assert head.head.ids == ("red", "green", "blue")
    assert float(np.mean(head.logits.argmax(1) == head.truth)) == pytest.approx(5 / 7)
    with pytest.raises(UsageError, match="choose another --out"):
        evaluate(model, divided, threads=1, out=tmp_path / "nowhere" / "answers.parquet")


def test_any_batch_size_gives_the_same_figures_and_progress_ends_at_all(model: Model, divided: Path) -> None:
    seen: list[tuple[int, int]] = []
    one = evaluate(model, divided, threads=1, batch=1)
    many = evaluate(model, divided, threads=1, batch=4, progress=lambda done, total: seen.append((done, total)))
    assert one.heads == many.heads
    assert seen == [(4, 7), (7, 7)]


def test_threads_are_put_back(model: Model, divided: Path) -> None:
    before = torch.get_num_threads()
    evaluate(model, divided, threads=1)
    assert torch.get_num_threads() == before
    with pytest.raises(UsageError, match="--threads must be at least 1, got 0"):
        evaluate(model, divided, threads=0)


def test_the_table_is_for_people_and_safe(model: Model, divided: Path) -> None:
    text = evaluate(model, divided, threads=1).table()
    assert "toys, validation: 7 pictures, fp32" in text
    assert "71.43%" in text
    assert "top-5" not in text
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text)


@pytest.mark.slow
def test_akamasters_resnet20_gets_its_published_accuracy_on_cifar10(shared_data: Path) -> None:
    """9,173 of the 10,000 test pictures, within 3 for another build's convolutions."""
    found = evaluate(
        shared_data / "weights" / "cifar" / "resnet20-12fca82f.th",
        shared_data / "cifar10" / "test.parquet",
        split="all",
        threads=2,
        batch=250,
    )
    assert found.n == 10_000
    assert abs(found.heads["label"].top1 * 10_000 - 9_173) <= 3
