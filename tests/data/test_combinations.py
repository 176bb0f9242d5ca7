from pathlib import Path

import numpy as np
import pytest

from resnets.base.errors import DataError, UsageError
from resnets.data.combinations import held_out
from resnets.data.dataset import open_data
from resnets.data.options import DataOptions
from resnets.labels import Head
from tests.data.test_table import pictures, table

ROOTS, VOWELS = np.meshgrid(np.arange(10), np.arange(6))
LABELS = [np.tile(ROOTS.ravel(), 3), np.tile(VOWELS.ravel(), 3)]  # 60 combinations, 3 pictures of each
HEADS = {"root": Head(ids=tuple("abcdefghij")), "vowel": Head(ids=tuple("012345"))}


def combinations(chosen: np.ndarray, labels: list[np.ndarray] = LABELS) -> set[tuple[int, ...]]:
    return set(zip(*(column[chosen].tolist() for column in labels), strict=True))


def test_a_share_holds_out_whole_combinations_and_keeps_every_class() -> None:
    chosen = held_out(HEADS, LABELS, "0.2")
    assert len(combinations(chosen)) == 12
    assert not combinations(chosen) & combinations(~chosen)
    for column in LABELS:
        assert set(column[~chosen]) == set(column)


def test_the_order_of_pictures_and_of_classes_does_not_matter() -> None:
    chosen = held_out(HEADS, LABELS, "0.2")
    order = np.random.default_rng(0).permutation(len(chosen))
    assert np.array_equal(held_out(HEADS, [column[order] for column in LABELS], "0.2"), chosen[order])
    turned = {"root": Head(ids=tuple("jihgfedcba")), "vowel": HEADS["vowel"]}
    assert np.array_equal(held_out(turned, [9 - LABELS[0], LABELS[1]], "0.2"), chosen)


def test_the_last_pictures_of_a_class_train_whatever_the_share_is() -> None:
    chosen = held_out(HEADS, LABELS, "0.99")
    for column in LABELS:
        assert set(column[~chosen]) == set(column)
    assert len(combinations(~chosen)) >= 10


def test_a_picture_that_lacks_a_label_trains() -> None:
    labels = [LABELS[0].copy(), LABELS[1].copy()]
    labels[1][:50] = -1
    assert not held_out(HEADS, labels, "0.5")[:50].any()


def test_a_file_names_combinations_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("vowel,root,written\n3,b,x\n0,j,y\n9,a,z\n")
    assert combinations(held_out(HEADS, LABELS, str(path))) == {(1, 3), (9, 0)}
    path.write_text("vowel\n3\n")
    with pytest.raises(DataError, match="leaves no training picture of the class '3' of 'vowel'"):
        held_out(HEADS, LABELS, str(path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("other\n1\n", "has no column of the heads 'root', 'vowel'; it has 'other'"),
        ("root,vowel\nx,0\n", "holds no picture out"),
    ],
)
def test_a_file_that_holds_nothing_out_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "out.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        held_out(HEADS, LABELS, str(tmp_path / "out.csv"))


def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a CSV file or a share between 0 and 1, got 1.5"):
        DataOptions(holdout_combinations="1.5")
    with pytest.raises(UsageError, match="must be a CSV file or a share such as 0.2, got 'nowhere.csv'"):
        held_out(HEADS, LABELS, "nowhere.csv")
    with pytest.raises(UsageError, match="needs two label columns or more.* this data has 'root'"):
        held_out({"root": HEADS["root"]}, LABELS[:1], "0.2")
    with pytest.raises(UsageError, match="divide the pictures in two ways; give one of them"):
        DataOptions(holdout_combinations="0.2", group_column="writer")


def test_held_out_pictures_are_the_validation_part(tmp_path: Path) -> None:
    lines = [f"{number}.png,{'ab'[number % 2]},{number // 2 % 3}" for number in range(24)]
    path = table(tmp_path, "image,letter,digit", *lines)
    (tmp_path / "out.csv").write_text("letter,digit\nb,2\n")
    options = DataOptions(label_column=("letter", "digit"), holdout_combinations=str(tmp_path / "out.csv"))
    data = open_data(path, options=options)
    assert data.rows("val").tolist() == [row for row in range(24) if row % 6 == 5]
    assert len(data.rows("train")) == 20
    assert "validation is 4 pictures of 1 combination that are not trained on" in data.notes
    assert not data.parts_stated


def test_a_stated_validation_part_is_not_changed(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "b.png", "c.png"])
    path = tmp_path / "x.csv"
    path.write_text("image,p,q,split\na.png,1,1,train\nb.png,2,2,train\nc.png,1,2,val\n")
    options = DataOptions(label_column=("p", "q"), holdout_combinations="0.5")
    with pytest.raises(DataError, match="states a validation part; --holdout-combinations needs data without one"):
        open_data(path, options=options)
