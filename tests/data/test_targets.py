"""Labels in memory: several by name, several classes a picture, missing ones, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from resnets.base.errors import DataError
from resnets.data.dataset import open_data
from resnets.data.source import MISSING

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 4, 4), dtype=np.uint8)


def test_a_mapping_of_labels_gives_a_head_each() -> None:
    labels = {"root": [10, 9, 10, 9, 2, 2], "vowel": np.array(["i", "a"] * 3), "mark": torch.arange(6) % 2}
    data = open_data((PIXELS, labels))
    assert {name: head.ids for name, head in data.heads.items()} == {
        "root": ("2", "9", "10"),
        "vowel": ("a", "i"),
        "mark": ("0", "1"),
    }
    assert data.labels("root").tolist() == [2, 1, 2, 1, 0, 0]
    assert data.labels("vowel").tolist() == [1, 0, 1, 0, 1, 0]


def test_none_and_nan_are_missing_labels() -> None:
    labels = {"root": [0, None, 1, 0, 1, 0], "vowel": [float("nan"), 1, 0, 1, 0, None]}
    data = open_data((PIXELS, labels))
    assert data.labels("root").tolist() == [0, MISSING, 1, 0, 1, 0]
    assert data.labels("vowel").tolist() == [MISSING, 1, 0, 1, 0, MISSING]
    assert data.kept == 6


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
def test_rows_of_0_and_1_are_several_classes_a_picture(kind: Any) -> None:
    rows = [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0]]
    data = open_data((PIXELS, kind(rows)))
    assert (data.heads["label"].kind, data.heads["label"].ids) == ("multi", ("0", "1", "2"))
    assert data.labels("label").tolist() == rows
    assert data.labels("label").dtype == np.float32


def test_cells_of_nan_or_minus_one_are_not_known() -> None:
    rows = np.array([[1, np.nan], [0, -1], [np.nan, np.nan], [1, 1], [0, 1], [1, 0]])
    data = open_data((PIXELS, {"tags": rows, "label": np.arange(6) % 2}))
    found = data.labels("tags")
    assert np.isnan(found[:3]).tolist() == [[False, True], [False, True], [True, True]]
    assert found[3:].tolist() == [[1, 1], [0, 1], [1, 0]]
    assert data.kept == 6  # the third has a label of its other head


class Tagged:
    """A dataset whose items say several things of a picture, and whose classes have names."""

    classes = {"kind": ("cat", "dog"), "tags": ("wet", "old", "big")}  # noqa: RUF012

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> Any:
        return PIXELS[row], {"kind": row % 2, "tags": np.array([row > 2, True, False])}


def test_a_dataset_may_give_mappings_and_name_the_classes_of_each() -> None:
    data = open_data(Tagged())
    assert data.heads["kind"].ids == ("cat", "dog")
    assert data.heads["tags"].ids == ("wet", "old", "big")
    assert data.labels("tags")[3].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "useful"),
    [
        ({"root": [0, 1, 0]}, "6 pictures cannot have 3 labels"),
        ([[0, 1], [1, 0], [2, 0], [0, 0], [0, 1], [1, 1]], "are 0 and 1 .*got 2"),
        ([[0, 1], [1, 0], [0], [0, 0], [0, 1], [1, 1]], "as long as there are classes .2."),
        ({"root": [0.5, 1, 0, 1, 0, 1]}, "must be a whole number or text"),
    ],
)
def test_what_is_no_label_is_refused(labels: Any, useful: str) -> None:
    with pytest.raises(DataError, match=useful):
        open_data((PIXELS, labels))


def test_parts_must_have_the_same_labels() -> None:
    parts = {"train": (PIXELS, {"root": [0, 1] * 3, "vowel": [0, 1] * 3}), "val": (PIXELS, {"root": [0, 1] * 3})}
    with pytest.raises(DataError, match="val has the labels 'root', train 'root', 'vowel'"):
        open_data(parts)
