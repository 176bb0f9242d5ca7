"""Several views of a picture: what they are, and that their mean is what both verbs answer with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.evaluation.answers import write_predictions
from resnets.evaluation.predictions import load_predictions
from resnets.evaluation.views import ManyViews, views_of, with_views
from resnets.labels import Head
from resnets.preprocess import Preprocess
from resnets.verbs.evaluate import evaluate
from resnets.verbs.predict import predict, predict_in_parts
from resnets.weights.modelfile import Model

ROW = np.array([10, 20, 30, 40], dtype=np.uint8)
FLIPPED = [(0.5, [10, 20, 30, 40]), (0.5, [40, 30, 20, 10])]
SHIFTED = [
    (0.25, [10, 20, 30, 40]),
    (0.25, [40, 30, 20, 10]),
    (0.125, [20, 10, 20, 30]),  # to the right, the left edge reflected
    (0.125, [30, 20, 10, 20]),
    (0.125, [20, 30, 40, 30]),  # to the left
    (0.125, [30, 40, 30, 20]),
]


class Corner(nn.Module):
    """Logits are the first pixel's channels: they change with every view."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 0, 0]


@pytest.fixture
def model() -> Model:
    return Model(
        network=Corner(),
        heads={"label": Head(ids=("r", "g", "b"))},
        preprocess=Preprocess(size=(4, 4), crop=1.0, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Classes r and g, of one validation picture each: red, or green, of ROW in every line."""
    for part, last in (("train", 41), ("val", 40)):
        for number, name in enumerate("rg"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            pixels = np.zeros((4, 4, 3), dtype=np.uint8)
            pixels[..., number] = [*ROW[:3], last]
            Image.fromarray(pixels).save(tmp_path / "data" / part / name / "one.png")
    return tmp_path / "data"


def stack_of(row: np.ndarray) -> np.ndarray:
    return np.broadcast_to(row[None, None, :, None], (2, 4, 4, 3)).copy()


@pytest.mark.parametrize(
    ("views", "expected"),
    [("one", [(1.0, [10, 20, 30, 40])]), ("flip", FLIPPED), ("flip-shift", SHIFTED)],
)
def test_the_views_are_mirror_images_and_shifts_by_a_pixel(views: Any, expected: list[Any]) -> None:
    found = [(weight, view[0, 1, :, 0].tolist()) for weight, view in views_of(stack_of(ROW), views)]
    assert found == expected
    assert sum(weight for weight, _ in found) == 1


def test_pictures_are_shifted_up_and_down_as_well() -> None:
    columns = stack_of(ROW).transpose(0, 2, 1, 3)
    found = [view[0, :, 1, 0].tolist() for _, view in views_of(columns, "flip-shift")]
    assert found[::2] == [[10, 20, 30, 40], [20, 10, 20, 30], [20, 30, 40, 30]]


def test_the_answer_is_the_weighted_mean_of_the_logits(model: Model, pictures: Path) -> None:
    (answer,) = predict(model, pictures / "val" / "r" / "one.png", views="flip-shift", threads=1)
    mean = 0.25 * (10 + 40) + 0.125 * (20 + 30 + 20 + 30)  # the first pixel of each view
    found = {one.id: one.probability for one in answer.heads["label"]}
    assert np.log(found["r"] / found["g"]) == pytest.approx(mean, rel=1e-5)


def test_one_view_is_the_backend_itself_and_unknown_ones_are_refused() -> None:
    class Backend:
        def logits(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
            return {}

    backend = Backend()
    assert with_views(backend, "one") is backend
    assert isinstance(with_views(backend, "flip"), ManyViews)
    with pytest.raises(UsageError, match="--views must be one of one, flip, flip-shift, got 'ten'"):
        with_views(backend, "ten")  # type: ignore[arg-type]


def test_evaluate_measures_the_mean_and_says_so(model: Model, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.parquet"
    found = evaluate(model, pictures, views="flip-shift", threads=1, out=out)
    assert "2 pictures, fp32, the mean of 6 views of each picture (flip-shift)" in found.table()
    assert found.to_json()["views"] == "flip-shift"
    kept = load_predictions(out)
    assert kept.views == "flip-shift"
    assert kept.heads["label"].logits[0].max() == 25
    assert load_predictions(_evaluated_plainly(model, pictures, tmp_path)).views == "one"


def _evaluated_plainly(model: Model, pictures: Path, tmp_path: Path) -> Path:
    return evaluate(model, pictures, threads=1, out=tmp_path / "plain.parquet").outputs[0]


def test_answers_name_their_views(model: Model, pictures: Path, tmp_path: Path) -> None:
    answers = list(predict(model, pictures / "val", views="flip", threads=1))
    assert [answer.to_json()["views"] for answer in answers] == ["flip", "flip"]
    assert "views" not in next(predict(model, pictures / "val", threads=1)).to_json()
    write_predictions(answers, "parquet", tmp_path / "out.parquet")
    metadata = pq.read_metadata(tmp_path / "out.parquet").metadata
    assert json.loads(metadata[b"resnets"]) == {"views": "flip"}


def test_parts_of_other_views_are_refused(model: Model, pictures: Path, tmp_path: Path) -> None:
    predict_in_parts(model, pictures, tmp_path / "answers", views="flip", threads=1)
    with pytest.raises(UsageError, match="has the answers of another command, with another 'views'"):
        predict_in_parts(model, pictures, tmp_path / "answers", threads=1)
