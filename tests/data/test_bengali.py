import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resnets.base.errors import DataError, UsageError
from resnets.data.dataset import open_data
from resnets.data.options import DataOptions
from resnets.data.source import Listing, Traits
from resnets.data.sources import bengali, find_source
from resnets.data.sources.bengali import HEADS, BengaliSource, bengali_files, raw_pixels

SIZE = (3, 5)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 15 pixels, and blocks of a few columns."""
    monkeypatch.setattr(bengali, "SIZE", SIZE)
    monkeypatch.setattr(bengali, "BLOCK_COLUMNS", 4)
    monkeypatch.setattr(bengali, "PANEL_ROWS", 2)


def pixel_file(path: Path, ids: list[str], pixels: np.ndarray, *, rows: int = 1000, **more: Any) -> Path:
    columns = {str(number): pixels[:, number] for number in range(pixels.shape[1])}
    pq.write_table(pa.table({"image_id": ids} | columns | more), path, row_group_size=rows)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of pictures in another order than the table, which lacks one and has one more."""
    root = tmp_path / "kaggle"
    root.mkdir()
    pixels = np.arange(7 * 15, dtype=np.uint8).reshape(7, 15)
    pixel_file(root / "train_image_data_2.parquet", ["p0", "p1", "p2", "p3", "p4"], pixels[:5], rows=2)
    pixel_file(root / "train_image_data_10.parquet", ["p5", "p6"], pixels[5:])
    lines = [f"p{number},{number % 3 * 5},{number % 2},0,x{number % 2}" for number in (6, 5, 4, 2, 1, 0, 9)]
    text = "image_id,grapheme_root,vowel_diacritic,consonant_diacritic,grapheme\n" + "\n".join(lines)
    (root / "train.csv").write_text(text)
    (root / "test.csv").write_text("image_id\n")
    (root / ".hidden").write_text("")
    return root


def of(listing: Listing, name: str) -> list[str | None]:
    ids = [*listing.heads[name].ids, None]
    return [ids[label] for label in listing.labels[name]]


def test_pictures_labels_and_what_stands_beside_are_put_together(folder: Path) -> None:
    source = find_source(folder)
    assert isinstance(source, BengaliSource)
    listing = source.listing()
    assert listing.paths == [f"p{number}" for number in range(7)]
    assert list(listing.heads) == list(HEADS)
    assert of(listing, "grapheme_root") == ["0", "5", "10", None, "5", "10", "0"]
    assert listing.heads["grapheme_root"].ids == ("0", "5", "10")
    assert listing.notes == ["lines of train.csv without a picture: 1 ('p9')"]
    assert (listing.beside, listing.strays) == (1, 1)
    for row in range(7):
        assert np.array_equal(source.read(row), np.arange(15 * row, 15 * row + 15).reshape(SIZE))
    assert source.traits == Traits(mirror=False, drawings=True)


def test_a_picture_without_labels_is_left_out(folder: Path) -> None:
    data = open_data(folder, for_training=False)
    assert data.left_out == {3: "no class is stated for it"}
    assert data.channels == {"grey": 6}


def test_classes_are_those_of_the_class_map(folder: Path) -> None:
    lines = [f"grapheme_root,{number},root{number}" for number in (0, 5, 10, 7)] + [
        "vowel_diacritic,0,",
        "vowel_diacritic,1,i",
    ]
    (folder / "class_map.csv").write_text("component_type,label,component\n" + "\n".join(lines))
    listing = BengaliSource(folder).listing()
    assert listing.heads["grapheme_root"].ids == ("0", "5", "7", "10")
    assert listing.heads["grapheme_root"].names == ("root0", "root5", "root7", "root10")
    assert listing.heads["vowel_diacritic"].names == ("0", "i")
    assert listing.heads["consonant_diacritic"].ids == ("0",)
    assert of(listing, "grapheme_root") == ["0", "5", "10", None, "5", "10", "0"]
    (folder / "class_map.csv").write_text("component_type,label,component\ngrapheme_root,0,a\n")
    with pytest.raises(
        DataError,
        match=r"train.csv has the class '10', '5' in 'grapheme_root', which class_map.csv lacks|'5', '10'",
    ):
        BengaliSource(folder).listing()


def test_label_and_group_columns_can_be_chosen(folder: Path) -> None:
    options = DataOptions(label_column=("vowel_diacritic",), group_column="grapheme")
    listing = BengaliSource(folder, options=options).listing()
    assert list(listing.heads) == ["label"]
    assert listing.groups == ["x0", "x1", "x0", None, "x0", "x1", "x0"]
    with pytest.raises(
        DataError, match="train.csv has no column 'vowel'; its columns are 'image_id', 'grapheme_root'"
    ):
        BengaliSource(folder, options=DataOptions(label_column=("vowel",))).listing()
    with pytest.raises(UsageError, match="--root is not for the folder"):
        find_source(folder, options=DataOptions(root=str(folder)))


def test_pixels_are_turned_over_once_and_again_when_the_file_changes(folder: Path) -> None:
    path = folder / "train_image_data_2.parquet"
    first = raw_pixels(path, rows=5, size=SIZE)
    made = first.stat().st_mtime_ns
    assert raw_pixels(path, rows=5, size=SIZE) == first
    assert first.stat().st_mtime_ns == made
    pixel_file(path, ["p0", "p1", "p2", "p3", "p4"], np.zeros((5, 15), dtype=np.uint8))
    os.utime(path, ns=(1, 1))
    second = raw_pixels(path, rows=5, size=SIZE)
    assert second != first
    assert second.read_bytes() == bytes(75)
    assert {path.suffix for path in first.parent.iterdir()} == {".pixels"}


def test_progress_ends_at_the_whole(folder: Path) -> None:
    said: list[tuple[str, int, int | None]] = []
    BengaliSource(folder, progress=lambda *state: said.append(state)).listing()
    assert said[-1] == ("reading train_image_data_10.parquet", 30, 30)
    assert ("reading train_image_data_2.parquet", 75, 75) in said


def test_the_manifest_opens_the_folder_again(folder: Path, tmp_path: Path) -> None:
    data = open_data(folder, options=DataOptions(label_column=("grapheme_root",)))
    data.manifest.write(tmp_path / "m.parquet")
    again = open_data(tmp_path / "m.parquet")
    assert again.manifest.hash() == data.manifest.hash()
    assert np.array_equal(again.read(6), data.read(6))


def broken(folder: Path, **columns: Any) -> None:
    pixels = np.zeros((2, 15), dtype=np.int64)
    path = folder / "train_image_data_10.parquet"
    table = pa.table({"image_id": ["p5", "p6"]} | {str(number): pixels[:, number] for number in range(15)})
    for name, values in columns.items():
        place = table.column_names.index(name.removeprefix("c"))
        table = table.set_column(place, name.removeprefix("c"), pa.array(values))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"c3": [0, 256]}, "the pixel 3 is no byte"),
        ({"c3": [0, None]}, "no value in some rows of the pixel 3"),
        ({"c3": ["a", "b"]}, "the pixel 3 is no byte"),
        ({"image_id": ["p5", "p1"]}, "the picture 'p1' twice"),
        ({"image_id": ["p5", None]}, "pictures without image_id"),
    ],
)
def test_faulty_pixels_are_refused_and_nothing_is_kept(folder: Path, columns: dict[str, Any], reason: str) -> None:
    broken(folder, **columns)
    with pytest.raises(DataError, match=reason):
        BengaliSource(folder).listing()
    cache = Path(os.environ["RESNETS_CACHE"]) / "tables"
    assert not [path for path in cache.glob("*") if path.suffix != ".pixels"] if cache.exists() else True


def test_another_number_of_pixels_is_refused(folder: Path) -> None:
    pixel_file(folder / "train_image_data_10.parquet", ["p5"], np.zeros((1, 14), dtype=np.uint8))
    with pytest.raises(DataError, match=r"has 15 columns; 15 pixels \(0 to 14, 3 x 5\) and image_id are needed"):
        BengaliSource(folder).listing()


def test_a_full_disk_is_said_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bengali.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 10}))
    os.utime(folder / "train_image_data_2.parquet", ns=(7, 7))
    with pytest.raises(UsageError, match="take 75 bytes in .*tables, which has 10 left; free some space"):
        BengaliSource(folder).listing()


def test_other_folders_are_not_taken_for_it(tmp_path: Path) -> None:
    assert bengali_files(tmp_path) == []
    pixel_file(tmp_path / "train_image_data_0.parquet", ["p5"], np.zeros((1, 15), dtype=np.uint8))
    assert bengali_files(tmp_path) == []


@pytest.mark.slow
def test_the_rendered_graphemes_open_as_kaggle_has_them(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    place = shared_data / "graphemes-rendered"
    options = DataOptions(holdout_combinations=str(place / "holdout_combinations.csv"))
    data = open_data(place, options=options)
    assert {name: len(head) for name, head in data.heads.items()} == dict(zip(HEADS, (168, 11, 7), strict=True))
    vowels, consonants = (np.bincount(data.labels(name)).tolist() for name in HEADS[1:])
    assert vowels == [755, 652, 503, 357, 377, 124, 109, 575, 108, 335, 105]
    assert consonants == [2434, 327, 371, 78, 345, 347, 98]
    assert (len(data.rows("train")), len(data.rows("val"))) == (3183, 817)
    assert "validation is 817 pictures of 318 combinations that are not trained on" in data.notes
    first = data.read(0)
    assert isinstance(first, np.ndarray)
    assert (first.shape, np.unique(first).tolist()) == ((137, 236), [15, 135, 255])
    assert data.channels == {"grey": 4000}
