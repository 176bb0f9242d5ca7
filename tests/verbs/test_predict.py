import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from resnets.base.errors import NotFinite, UsageError
from resnets.evaluation.answers import Likely, Prediction, as_line, write_predictions
from resnets.labels import Head
from resnets.networks import ResNetSpec, build
from resnets.preprocess import Preprocess
from resnets.verbs.predict import predict
from resnets.weights.modelfile import Model, save

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class MeanColour(nn.Module):
    """Logits are the mean red, green and blue: the answer is known for any picture."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.fixture
def model() -> Model:
    return Model(
        network=MeanColour(),
        heads={"label": Head(ids=("r", "g", "b"), names=("red", "green", "blue"))},
        preprocess=Preprocess(size=(8, 8), mean=(0.0, 0.0, 0.0), std=(0.1, 0.1, 0.1)),
    )


def a_picture(path: Path, colour: str, size: tuple[int, int] = (9, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLOURS[colour]).save(path, format="PNG")
    return path


def names(predictions: Iterator[Prediction]) -> list[str]:
    return [one.error or one.heads["label"][0].name for one in predictions]


def test_the_probabilities_are_the_softmax_of_the_logits(model: Model, tmp_path: Path) -> None:
    (answer,) = predict(model, a_picture(tmp_path / "a.png", "green"))
    # a green picture has the logits 0, (1 - 0) / 0.1 = 10, 0
    likely = answer.heads["label"]
    assert [one.id for one in likely] == ["g", "r", "b"]
    assert likely[0].probability == pytest.approx(np.exp(10) / (np.exp(10) + 2), rel=1e-6)
    assert sum(one.probability for one in likely) == pytest.approx(1)


def test_answers_come_in_the_order_given_and_a_bad_file_is_one_answer(model: Model, tmp_path: Path) -> None:
    order = ["blue", "red", "red", "green", "blue"]
    paths = [a_picture(tmp_path / f"{number}.png", colour) for number, colour in enumerate(order)]
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff and no more")
    paths.insert(3, tmp_path / "bad.jpg")
    paths.insert(0, tmp_path / "missing.png")
    found = list(predict(model, paths, batch=2))
    assert [one.path for one in found] == [str(path) for path in paths]
    assert [one.error is None for one in found] == [False, True, True, True, False, True, True]
    assert found[0].error == "cannot be read: No such file or directory"
    assert "JPEG" in str(found[4].error)
    assert names(iter(found[1:4])) == ["blue", "red", "red"]


def test_a_batch_of_any_size_gives_the_same_answers(model: Model, tmp_path: Path) -> None:
    paths = [a_picture(tmp_path / f"{number}.png", colour) for number, colour in enumerate(COLOURS)]
    one, all_at_once = (list(predict(model, paths, batch=batch)) for batch in (1, 100))
    assert one == all_at_once


def test_a_folder_gives_its_pictures_sorted_and_counts_what_is_none(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("b.png", "a.png", "sub/c.PNG", ".hidden.png", "no-ending"):
        a_picture(folder / name, "red")
    (folder / "README.txt").write_text("words")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".ipynb_checkpoints").mkdir()
    a_picture(folder / ".ipynb_checkpoints" / "d.png", "red")
    (folder / "text.png").write_text("a text that claims to be a picture")
    predictions = predict(model, folder)
    found = list(predictions)
    inside = [one.path.removeprefix(f"{folder}/") for one in found]
    assert inside == ["a.png", "b.png", "no-ending", "text.png", "sub/c.PNG"]
    assert found[3].error == "not a picture: text"
    assert predictions.skipped == 3  # .hidden.png, README.txt, Thumbs.db
    assert (predictions.done, predictions.failed) == (5, 1)


def test_folder_links_are_not_followed_and_pipes_are_not_opened(model: Model, tmp_path: Path) -> None:
    a_picture(tmp_path / "in" / "a.png", "red")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    os.mkfifo(tmp_path / "in" / "pipe")
    assert names(predict(model, tmp_path / "in")) == ["red"]
    (answer,) = predict(model, tmp_path / "in" / "pipe")
    assert answer.error == "not a regular file"


def test_patterns_are_expanded_unless_a_file_has_that_name(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_picture(tmp_path / "a1.png", "red")
    a_picture(tmp_path / "a2.png", "blue")
    a_picture(tmp_path / "a[1].png", "green")
    monkeypatch.chdir(tmp_path)
    assert [one.path for one in predict(model, ["a?.png"])] == ["a1.png", "a2.png"]
    assert names(predict(model, ["a[1].png"])) == ["green"]
    (answer,) = predict(model, ["z*.png"])
    assert answer.error == "no file matches this pattern"
    os.mkdir("empty")
    (answer,) = predict(model, "empty")
    assert answer.error == "no pictures in this folder"


def test_names_that_are_not_utf8_survive(model: Model, tmp_path: Path) -> None:
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    os.rename(a_picture(tmp_path / "a.png", "red"), raw)
    (answer,) = predict(model, tmp_path)
    assert os.fsencode(answer.path) == raw
    assert os.fsencode(json.loads(json.dumps(answer.to_json()))["path"]) == raw
    assert os.fsencode(next(predict(model, [answer.path])).path) == raw


def test_a_name_that_no_file_can_have_is_an_error_row(model: Model) -> None:
    assert names(predict(model, ["a\0b", "\ud800"])) == ["no file can have this name"] * 2


def test_paths_are_taken_as_they_are_needed(model: Model, tmp_path: Path) -> None:
    path = a_picture(tmp_path / "a.png", "red")
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    predictions = predict(model, endless(), batch=4)
    for _ in range(10):
        next(predictions)
    assert taken < 40
    assert predictions.done == 10


def test_progress_is_reported_with_the_total_once_it_is_known(model: Model, tmp_path: Path) -> None:
    path = a_picture(tmp_path / "a.png", "red")
    seen: list[tuple[int, int | None]] = []
    list(predict(model, [path] * 3, batch=2, progress=lambda done, total: seen.append((done, total))))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_top_is_cut_to_the_classes_there_are(model: Model, tmp_path: Path) -> None:
    path = a_picture(tmp_path / "a.png", "red")
    assert len(next(predict(model, path, top=2)).heads["label"]) == 2
    assert len(next(predict(model, path, top=9)).heads["label"]) == 3
    with pytest.raises(UsageError, match="--top and --batch must be at least 1, got 0"):
        predict(model, path, top=0)


def test_several_heads_are_all_answered(tmp_path: Path) -> None:
    spec = ResNetSpec(block="basic", depths=(1,), width=8, stem="small", heads=(("root", 4), ("vowel", 3)))
    heads = {name: Head(ids=tuple(map(str, range(classes)))) for name, classes in spec.heads}
    save(tmp_path / "m", Model(network=build(spec), heads=heads, preprocess=Preprocess(size=(8, 8))))
    (answer,) = predict(tmp_path / "m", a_picture(tmp_path / "a.png", "red"), top=2)
    assert list(answer.heads) == ["root", "vowel"]
    assert "root: " in as_line(answer)


def test_grey_and_transparent_pictures_are_decoded_as_the_model_wants_them(model: Model, tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 255, 255)).save(tmp_path / "rgba.png")
    Image.new("P", (8, 8), 0).save(tmp_path / "palette.png")
    found = names(predict(model, [tmp_path / "rgba.png", tmp_path / "palette.png"]))
    assert found == ["blue", "red"]  # black: three equal logits, the first class


def test_a_network_that_gives_nan_stops(model: Model, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) * float("nan")

    broken = Model(**{**vars(model), "network": Broken()})
    with pytest.raises(NotFinite, match="gives NaN or infinity for 1 of 1 pictures"):
        list(predict(broken, a_picture(tmp_path / "a.png", "red")))


def test_the_network_is_left_in_the_mode_it_was_in(model: Model, tmp_path: Path) -> None:
    network = build(ResNetSpec(block="basic", depths=(1,), width=8, stem="small", heads=(("label", 3),)))
    network.train()
    network.bn1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    list(predict(Model(**{**vars(model), "network": network}), a_picture(tmp_path / "a.png", "red")))
    assert network.training
    assert not network.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


AWKWARD = [
    Prediction(
        path="=1+1.png",
        heads={
            "label": (
                Likely(id="@a", name="-cmd", probability=0.75),
                Likely(id="b", name="x\x1b[31m", probability=0.25),
            )
        },
    ),
    Prediction(path="caf\udce9.jpg", error="a truncated JPEG file"),
]


def written(form: str) -> bytes:
    stream = io.BytesIO()
    write_predictions(AWKWARD, form, stream)  # type: ignore[arg-type]
    return stream.getvalue()


def test_json_lines_are_ascii_and_hold_every_name() -> None:
    lines = written("jsonl").decode("ascii").splitlines()
    assert json.loads(lines[0])["heads"]["label"][0] == {"class": "-cmd", "id": "@a", "probability": 0.75}
    assert json.loads(lines[1]) == {"path": "caf\udce9.jpg", "error": "a truncated JPEG file"}


def test_csv_has_no_formulas_and_the_bytes_of_every_name() -> None:
    rows = list(csv.DictReader(written("csv").decode("utf-8", "surrogateescape").splitlines()))
    assert rows[0] == {
        "path": "'=1+1.png",
        "head": "label",
        "rank": "1",
        "class": "'-cmd",
        "id": "'@a",
        "probability": "0.75",
        "error": "",
    }
    assert rows[2]["path"] == "caf\udce9.jpg"
    assert rows[2]["error"] == "a truncated JPEG file"


def test_the_table_has_no_control_characters() -> None:
    first, second = written("table").decode().splitlines()
    assert first == r"=1+1.png  -cmd 75.0%, x\x1b[31m 25.0%"
    assert second == r"caf\xe9.jpg  error: a truncated JPEG file"


def test_two_classes_of_one_name_are_told_apart_by_their_ids() -> None:
    likely = (Likely(id="n1", name="crane", probability=0.5), Likely(id="n2", name="crane", probability=0.5))
    assert as_line(Prediction(path="a", heads={"label": likely})) == "a  crane (n1) 50.0%, crane (n2) 50.0%"


def test_parquet_holds_every_name_and_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    write_predictions(AWKWARD, "parquet", target)
    rows = pq.read_table(target).to_pylist()
    assert [row["rank"] for row in rows] == [1, 2, None]
    assert rows[2]["path_bytes"] == b"caf\xe9.jpg"
    assert rows[1]["class"] == "x\x1b[31m"

    def failing() -> Iterator[Prediction]:
        yield AWKWARD[0]
        raise NotFinite("stop")

    before = target.read_bytes()
    for form in ("parquet", "csv", "jsonl"):
        with pytest.raises(NotFinite):
            write_predictions(failing(), form, target)  # type: ignore[arg-type]
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_parquet_needs_a_file_and_a_format_must_be_known() -> None:
    with pytest.raises(UsageError, match=r"give --out FILE\.parquet"):
        written("parquet")
    with pytest.raises(UsageError, match="--format must be one of table, jsonl, csv, parquet, got 'xml'"):
        written("xml")


def test_importing_the_verbs_loads_no_torch() -> None:
    code = "import sys, resnets.verbs.predict, resnets.verbs.evaluate; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
