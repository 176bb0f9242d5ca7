import gzip
import io
import json
import os
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from resnets.base.errors import DataError, UsageError
from resnets.data.decode import decode, header
from resnets.data.manifest import examine
from resnets.data.source import Listing, Traits
from resnets.data.sources import find_source, shadowed
from resnets.data.sources.arrays import ArraySource, pixels_of
from resnets.data.sources.digits import DigitsSource
from resnets.data.sources.folder import FolderSource
from resnets.data.sources.idx import IdxSource
from resnets.data.sources.parquet import ParquetSource


def picture(value: int = 0, format: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(target, format)
    return target.getvalue()


def folder(root: Path, *files: str) -> Path:
    """Pictures, each another red, where the names say; text where a name ends in .txt or .csv."""
    for number, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some text" if path.suffix in (".txt", ".csv", ".md") else picture(number))
    return root


def labels_of(listing: Listing) -> dict[str, str | None]:
    ids = [*listing.heads["label"].ids, None]
    return {path: ids[label] for path, label in zip(listing.paths, listing.labels["label"], strict=True)}


# Digits


def test_digits_are_scaled_from_sixteen_to_the_full_range() -> None:
    source = DigitsSource()
    listing = source.listing()
    assert len(listing.paths) == 1797
    assert listing.labels["label"][:10].tolist() == list(range(10))
    first = source.read(0)
    assert isinstance(first, np.ndarray)
    assert first.dtype == np.uint8
    # scikit-learn's first row: 0 0 5 13 9 1 0 0
    assert first[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert source.traits == Traits(mirror=False, drawings=True, three_way=True)


# Folders


def test_hymenoptera_is_listed_whole(shared_data: Path) -> None:
    listing = FolderSource(shared_data / "hymenoptera").listing()
    assert listing.parts is not None
    assert {part: listing.parts.count(part) for part in ("train", "val", "test")} == {
        "train": 245,
        "val": 153,
        "test": 0,
    }
    assert listing.heads["label"].ids == ("ants", "bees")
    assert (listing.beside, listing.strays, listing.left_out, listing.notes) == (1, 0, {}, [])
    assert "train/ants/imageNotFound.gif" in listing.paths
    assert "train/ants/formica.jpeg" in listing.paths


def test_classes_are_folder_names_by_code_point(tmp_path: Path) -> None:
    listing = FolderSource(folder(tmp_path, "10/a", "9/a", "Zebra/a", "ant/a", "élan/a")).listing()
    assert listing.heads["label"].ids == ("10", "9", "Zebra", "ant", "élan")
    assert listing.parts is None


def test_pictures_at_any_depth_belong_to_the_class_folder(tmp_path: Path) -> None:
    listing = FolderSource(folder(tmp_path, "cat/a.png", "cat/deep/er/b.png", "dog/cat/c.png")).listing()
    assert labels_of(listing) == {"cat/a.png": "cat", "cat/deep/er/b.png": "cat", "dog/cat/c.png": "dog"}


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_every_name_of_a_validation_folder_is_known(tmp_path: Path, name: str) -> None:
    listing = FolderSource(folder(tmp_path, "train/a/1.png", "train/b/2.png", f"{name}/a/3.png")).listing()
    assert listing.parts == (["train"] * 2 + ["val"] if name[0] == "v" else ["val"] + ["train"] * 2)


def test_train_and_test_alone_are_parts(tmp_path: Path) -> None:
    listing = FolderSource(folder(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png")).listing()
    assert dict(zip(listing.paths, listing.parts or [], strict=True))["test/a/3.png"] == "test"


def test_a_lone_train_folder_is_undivided(tmp_path: Path) -> None:
    listing = FolderSource(folder(tmp_path, "train/a/1.png", "train/b/2.png", "README.md")).listing()
    assert listing.parts is None
    assert listing.heads["label"].ids == ("a", "b")
    assert listing.beside == 1


def test_parts_without_train_can_be_evaluated(tmp_path: Path) -> None:
    listing = FolderSource(folder(tmp_path, "test/a/1.png", "val/b/2.png")).listing()
    assert listing.parts == ["test", "val"]
    assert listing.heads["label"].ids == ("a", "b")


def test_trains_among_vehicles_are_a_class(tmp_path: Path) -> None:
    listing = FolderSource(folder(tmp_path, "bus/1.png", "car/2.png", "train/3.png")).listing()
    assert listing.heads["label"].ids == ("bus", "car", "train")


def test_two_validation_folders_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"two folders for its val part, 'val', 'valid'; rename or move one"):
        FolderSource(folder(tmp_path, "train/a/1.png", "val/a/2.png", "valid/a/3.png")).listing()


def test_parts_that_hold_pictures_directly_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'test', 'train' in .* hold no class folders; .* such as test/CLASS/"):
        FolderSource(folder(tmp_path, "train/cat.1.png", "test/1.png")).listing()


def test_a_class_that_train_lacks_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = folder(tmp_path, "train/ants/1.png", "train/bees/2.png", "val/ants/3.png", "val/Bees/4.png")
    with pytest.raises(
        DataError, match=r"val of .* has the class 'Bees' that train lacks \(train has 'ants', 'bees'\)"
    ):
        FolderSource(root).listing()


def test_empty_class_folders_make_no_class(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "c").mkdir()
    listing = FolderSource(tmp_path).listing()
    assert listing.heads["label"].ids == ("a", "b")
    assert listing.notes == [f"no class is made of empty folders in {tmp_path}: 'c'"]


def test_strays_are_counted_and_nothing_else(tmp_path: Path) -> None:
    names = [".DS_Store", "Thumbs.db", "desktop.ini", "a/.DS_Store", "a/Thumbs.db", "b/.ipynb_checkpoints/x.png"]
    listing = FolderSource(folder(tmp_path, "a/1.png", "b/2.png", *names, "__MACOSX/a/._1.png")).listing()
    assert listing.paths == ["a/1.png", "b/2.png"]
    assert (listing.strays, listing.beside) == (7, 0)  # a stray folder counts once


def test_pictures_outside_the_class_folders_are_left_out_and_other_files_beside(tmp_path: Path) -> None:
    names = [
        "train/a/1.png",
        "train/b/2.png",
        "val/a/3.png",
        "val/b/4.png",
        "train/loose.png",
        "cover.png",
        "extra/a/5.png",
    ]
    listing = FolderSource(folder(tmp_path, *names, "README.md", "train/labels.csv", "extra/notes.txt")).listing()
    reasons = {listing.paths[row]: reason for row, reason in listing.left_out.items()}
    assert reasons == {
        "train/loose.png": "a picture outside the class folders",
        "cover.png": "a picture outside the train, val folders",
        "extra/a/5.png": "a picture outside the train, val folders",
    }
    assert listing.beside == 3
    assert labels_of(listing)["extra/a/5.png"] is None


def test_whatever_stands_in_a_class_folder_is_a_row(tmp_path: Path) -> None:
    listing = FolderSource(folder(tmp_path, "a/1.png", "a/labels.csv", "b/2.png", "b/sub/notes.txt")).listing()
    assert listing.paths == ["a/1.png", "a/labels.csv", "b/2.png", "b/sub/notes.txt"]
    assert listing.beside == 0


def test_folder_links_are_not_followed_and_file_links_are(tmp_path: Path) -> None:
    outside = folder(tmp_path / "outside", "x/1.png")
    root = folder(tmp_path / "root", "a/1.png", "b/2.png")
    (root / "b" / "linked").symlink_to(outside / "x", target_is_directory=True)
    (root / "c").symlink_to(outside / "x", target_is_directory=True)
    (root / "b" / "file.png").symlink_to(outside / "x" / "1.png")
    (root / "b" / "loop").symlink_to(root, target_is_directory=True)
    (root / "b" / "nothing.png").symlink_to(tmp_path / "missing")
    listing = FolderSource(root).listing()
    assert listing.paths == ["a/1.png", "b/2.png", "b/file.png", "b/nothing.png"]
    assert listing.notes == ["folder links are not followed: 'b/linked', 'b/loop', 'c'"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_left_out_unopened(tmp_path: Path) -> None:
    root = folder(tmp_path, "a/1.png", "b/2.png")
    os.mkfifo(root / "a" / "pipe.png")
    os.mkfifo(root / "pipe")
    source = FolderSource(root)
    listing = source.listing()
    assert examine(source, listing).left_out == {1: "not a regular file"}
    assert listing.beside == 1


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds no class folders; put the pictures of each class into a folder of its own"
    ):
        FolderSource(tmp_path).listing()


def test_a_flat_folder_of_pictures_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 2 pictures outside class folders; .*`resnets predict`"):
        FolderSource(folder(tmp_path, "1.png", "2.png")).listing()


def test_a_folder_above_the_data_is_pointed_out(tmp_path: Path) -> None:
    folder(tmp_path, "download/train/a/1.png", "download/train/b/2.png", "download/val/a/3.png")
    with pytest.raises(DataError, match=r"holds one folder, 'download', that is divided itself; give .*/download"):
        FolderSource(tmp_path).listing()


def test_an_empty_validation_folder_is_noted(tmp_path: Path) -> None:
    folder(tmp_path, "train/a/1.png", "train/b/2.png")
    (tmp_path / "val").mkdir()
    assert FolderSource(tmp_path).listing().notes == [f"val of {tmp_path} holds no class folder with files"]


def test_a_file_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnets.data.sources.folder.FILE_LIMIT", 100)
    source = FolderSource(folder(tmp_path, "a/1.png", "b/2.png"))
    (tmp_path / "a" / "1.png").write_bytes(bytes(101))
    facts = examine(source, source.listing())
    assert facts.left_out[0] == "a file of 101 bytes; the limit is 100 bytes"


def test_traits_names_and_shown_class_names_can_be_given(tmp_path: Path) -> None:
    root = folder(tmp_path, "n01440764/1.png", "n02102040/2.png")
    source = FolderSource(root, name="imagenette", traits=Traits(mirror=True), class_names={"n01440764": "tench"})
    assert (source.name, source.traits.mirror) == ("imagenette", True)
    assert source.listing().heads["label"].names == ("tench", "n02102040")


# Parquet


def test_cifar10_is_read_as_it_is(shared_data: Path) -> None:
    source = ParquetSource(shared_data / "cifar10")
    listing = source.listing()
    labels, parts = listing.labels["label"], np.array(listing.parts)
    assert labels[parts == "test"][:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert labels[parts == "train"][:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert np.bincount(labels[parts == "train"]).tolist() == [5000] * 10
    assert listing.heads["label"].ids[3:6] == ("cat", "deer", "dog")
    assert listing.paths[50000] == "test/00000.webp"
    first = source.read(50000)
    assert header(first)[:3] == ("WEBP", 32, 32)
    assert np.asarray(decode(first))[0, 0].tolist() == [158, 112, 49]  # test_batch, picture 0, as published


def test_rows_of_parquet_are_the_same_in_any_order_and_thread(tmp_path: Path) -> None:
    contents = [picture(value) for value in range(60)]
    write_parquet(tmp_path / "train.parquet", contents, [0, 1] * 30, names=["a", "b"], row_group_size=7)
    source = ParquetSource(tmp_path / "train.parquet")
    source.listing()
    rows = np.random.default_rng(0).integers(0, 60, 300).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, rows)) == [contents[row] for row in rows]


def test_the_cache_of_row_groups_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnets.data.sources.parquet.CACHED_BYTES", 3000)
    write_parquet(tmp_path / "train.parquet", [bytes(1000)] * 20, [0, 1] * 10, row_group_size=2)
    source = ParquetSource(tmp_path / "train.parquet")
    source.listing()
    for row in range(20):
        source.read(row)
    assert 1 <= len(source._pictures._cache) <= 2


def write_parquet(
    path: Path,
    contents: list[bytes | None],
    labels: list[Any] | None,
    *,
    names: list[str] | None = None,
    paths: list[str] | None = None,
    column: str = "image",
    row_group_size: int = 1000,
) -> Path:
    structs = [
        {"bytes": content, "path": place}
        for content, place in zip(contents, paths or [None] * len(contents), strict=True)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns: dict[str, Any] = {column: pa.array(structs, kind)}
    if labels is not None:
        columns["label"] = pa.array(labels)
    table = pa.table(columns)
    if names is not None:
        features = {column: {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def test_hugging_faces_layout_of_files_is_known(tmp_path: Path) -> None:
    for part, values in (
        ("train-00000-of-00002", [0, 1]),
        ("train-00001-of-00002", [1, 1]),
        ("validation-00000-of-00001", [0]),
    ):
        write_parquet(tmp_path / "data" / f"{part}.parquet", [picture()] * len(values), values, names=["x", "y"])
    (tmp_path / "README.md").write_text("a data card")
    source = find_source(tmp_path)
    assert isinstance(source, ParquetSource)
    listing = source.listing()
    assert listing.parts == ["train"] * 4 + ["val"]
    assert listing.labels["label"].tolist() == [0, 1, 1, 1, 0]
    assert listing.paths[2] == "train-00001-of-00002.parquet/000000"


def test_one_file_has_the_part_that_its_name_says(tmp_path: Path) -> None:
    test = ParquetSource(write_parquet(tmp_path / "birds" / "test.parquet", [picture()] * 2, [0, 1]))
    assert test.listing().parts == ["test", "test"]
    assert test.name == "birds-test"
    other = ParquetSource(write_parquet(tmp_path / "testimony.parquet", [picture()] * 2, [0, 1]))
    assert other.listing().parts is None
    assert other.name == "testimony"


def test_files_of_no_part_are_named(tmp_path: Path) -> None:
    for name in ("train", "test", "metadata"):
        write_parquet(tmp_path / f"{name}.parquet", [picture()] * 2, [0, 1])
    listing = ParquetSource(tmp_path).listing()
    assert len(listing.paths) == 4
    assert listing.notes == ["not used, for the name begins with no part (train, val, test): 'metadata.parquet'"]


@pytest.mark.parametrize(
    ("labels", "ids", "positions"),
    [
        ([10, 9, 10, 2], ("2", "9", "10"), [2, 1, 2, 0]),
        (["b", "B", "é", "b"], ("B", "b", "é"), [1, 0, 2, 1]),
        ([1, None, -1, 1], ("-1", "1"), [1, -1, 0, 1]),
    ],
)
def test_labels_without_names_are_ordered_by_value(
    tmp_path: Path, labels: list[Any], ids: tuple[str, ...], positions: list[int]
) -> None:
    listing = ParquetSource(write_parquet(tmp_path / "x.parquet", [picture()] * 4, labels)).listing()
    assert listing.heads["label"].ids == ids
    assert listing.labels["label"].tolist() == positions


def test_hugging_faces_minus_one_is_no_label(tmp_path: Path) -> None:
    listing = ParquetSource(
        write_parquet(tmp_path / "x.parquet", [picture()] * 3, [0, -1, 1], names=["a", "b"])
    ).listing()
    assert listing.labels["label"].tolist() == [0, -1, 1]


def test_names_of_two_files_are_matched_by_name_not_by_number(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [picture()] * 2, [0, 1], names=["cat", "dog"])
    write_parquet(tmp_path / "test.parquet", [picture()] * 2, [0, 1], names=["dog", "cat"])
    assert ParquetSource(tmp_path).listing().labels["label"].tolist() == [0, 1, 1, 0]


def test_unusable_tables_are_refused_with_the_reason(tmp_path: Path) -> None:
    text = tmp_path / "text.parquet"
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), text)
    with pytest.raises(
        DataError, match=r"has no column of pictures \(img or image.*its columns are 'text', 'label'"
    ):
        ParquetSource(text).listing()
    with pytest.raises(DataError, match=r"has no labels in a column called label"):
        ParquetSource(write_parquet(tmp_path / "none.parquet", [picture()], None)).listing()
    with pytest.raises(DataError, match=r"label 7 is not one of its 2 class names"):
        ParquetSource(write_parquet(tmp_path / "wrong.parquet", [picture()], [7], names=["a", "b"])).listing()
    with pytest.raises(DataError, match=r"must be whole numbers or text, not double"):
        ParquetSource(write_parquet(tmp_path / "float.parquet", [picture()], [0.5])).listing()
    write_parquet(tmp_path / "both" / "train.parquet", [picture()], ["a"])
    write_parquet(tmp_path / "both" / "test.parquet", [picture()], ["b"])
    with pytest.raises(DataError, match=r"test.parquet has the class 'b' that the training part lacks"):
        ParquetSource(tmp_path / "both").listing()
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"is no Parquet file that can be read"):
        find_source(broken)


def test_a_damaged_page_is_a_data_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [picture(number) for number in range(50)], [0, 1] * 25)
    good = path.read_bytes()
    path.write_bytes(good[:4] + bytes(2000) + good[2004:])
    with pytest.raises(DataError, match=r"x.parquet is no Parquet file that can be read: "):
        ParquetSource(path).listing()


def test_a_row_without_bytes_is_an_error_of_that_row(tmp_path: Path) -> None:
    source = ParquetSource(
        write_parquet(tmp_path / "x.parquet", [picture(1), None], [0, 1], paths=["1.png", "2.png"])
    )
    assert source.listing().paths == ["1.png", "2.png"]
    assert source.read(0) == picture(1)
    with pytest.raises(DataError, match=r"the table holds no bytes for it"):
        source.read(1)


# IDX


def idx(path: Path, values: np.ndarray, *, cut: int = 0, count: int | None = None) -> None:
    shape = (len(values) if count is None else count, *values.shape[1:])
    content = struct.pack(f">{len(shape) + 1}I", 0x0800 + values.ndim, *shape) + values.tobytes()
    content = content[: len(content) - cut]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_folder(root: Path, ending: str = ".gz", **options: Any) -> Path:
    root.mkdir(exist_ok=True)
    pictures = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
    for part, rows in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
        idx(root / f"{part}-images-idx3-ubyte{ending}", pictures[rows], **options)
        idx(root / f"{part}-labels-idx1-ubyte{ending}", np.array([1, 0, 2, 2, 0], dtype=np.uint8)[rows])
    return root


def test_fashion_mnist_is_known_by_its_label_files(shared_data: Path) -> None:
    source = IdxSource(shared_data / "fashion-mnist")
    assert source.name == "fashion-mnist"
    assert source.traits == Traits(mirror=True, drawings=True)
    listing = source.listing()
    parts = np.array(listing.parts)
    assert {part: int((parts == part).sum()) for part in ("train", "test")} == {"train": 60000, "test": 10000}
    assert listing.heads["label"].ids == tuple("0123456789")
    assert listing.heads["label"].names[9] == "Ankle boot"
    assert np.bincount(listing.labels["label"][parts == "test"]).tolist() == [1000] * 10
    pixels = np.stack([source.read(row) for row in np.flatnonzero(parts == "test")]) / 255
    assert round(float(pixels.mean()), 5) == 0.28685
    assert round(float(pixels.std()), 5) == 0.35244


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read_packed_or_not(tmp_path: Path, ending: str) -> None:
    source = find_source(idx_folder(tmp_path / "mine", ending))
    assert isinstance(source, IdxSource)
    assert (source.name, source.traits) == ("mine", Traits())
    listing = source.listing()
    assert listing.labels["label"].tolist() == [1, 0, 2, 2, 0]
    assert listing.parts == ["train"] * 3 + ["test"] * 2
    assert listing.paths == ["train/00000", "train/00001", "train/00002", "test/00000", "test/00001"]
    assert np.asarray(source.read(3)).tolist() == [[18, 19], [20, 21], [22, 23]]


def test_damaged_idx_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"should hold 18 bytes by its header and has 17; get it again"):
        IdxSource(idx_folder(tmp_path / "short", "", cut=1)).listing()
    with pytest.raises(DataError, match=r"should hold 12 bytes by its header and has more than 12"):
        IdxSource(idx_folder(tmp_path / "long", "", count=2)).listing()
    swapped = idx_folder(tmp_path / "swapped")
    shutil.copy(swapped / "train-labels-idx1-ubyte.gz", swapped / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"begins with 0x00000801, not with the magic number 0x00000803"):
        IdxSource(swapped).listing()
    alone = idx_folder(tmp_path / "alone")
    (alone / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"lack the labels of the test part"):
        IdxSource(alone).listing()
    other = idx_folder(tmp_path / "other")
    idx(other / "train-labels-idx1-ubyte.gz", np.zeros(2, dtype=np.uint8))
    with pytest.raises(DataError, match=r"has 3 pictures and .* 2 labels; one of them belongs to other data"):
        IdxSource(other).listing()
    torn = idx_folder(tmp_path / "torn")
    path = torn / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"is truncated or damaged"):
        IdxSource(torn).listing()


def test_an_idx_file_never_unpacks_more_than_its_header_states(tmp_path: Path) -> None:
    bomb = idx_folder(tmp_path / "bomb")
    idx(bomb / "train-images-idx3-ubyte.gz", np.zeros((3, 1000, 1000), dtype=np.uint8), count=2**30)
    with pytest.raises(DataError, match=r"states .* bytes; the limit is 2,147,483,648"):
        IdxSource(bomb).listing()


# Arrays and datasets


def test_arrays_with_labels_are_a_source() -> None:
    pictures = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    source = find_source((pictures, [7, 5, 7, 12]))
    listing = source.listing()
    assert listing.heads["label"].ids == ("5", "7", "12")
    assert listing.labels["label"].tolist() == [1, 0, 1, 2]
    assert listing.parts is None
    assert np.array_equal(np.asarray(source.read(2)), pictures[2])


def test_parts_in_memory_are_a_mapping() -> None:
    pictures = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    source = find_source({"train": (pictures, ["b", "a", "b"]), "test": (pictures[:1], ["a"])})
    listing = source.listing()
    assert listing.parts == ["train"] * 3 + ["test"]
    assert listing.heads["label"].ids == ("a", "b")
    with pytest.raises(DataError, match=r"train, val, test, got 'training'"):
        find_source({"training": (pictures, [0, 1, 2])})
    with pytest.raises(DataError, match=r"test has the class 'c' that train lacks"):
        find_source({"train": (pictures, ["b", "a", "b"]), "test": (pictures[:1], ["c"])}).listing()


class Shapes(torch.utils.data.Dataset[tuple[Any, int]]):
    """A user's own dataset."""

    classes = ("round", "square", "never seen")

    def __init__(self, convert: Any = lambda pixels: pixels) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
        self.convert = convert

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.convert(self.pixels[index]), index % 2


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """What torchvision's ToTensor does."""
    return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div(255)


@pytest.mark.parametrize(
    "convert",
    [lambda pixels: pixels, Image.fromarray, to_tensor, lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1)],
    ids=["array", "pillow", "float tensor", "uint8 tensor"],
)
def test_a_dataset_gives_its_pixels_whatever_it_wraps_them_in(convert: Any) -> None:
    dataset = Shapes(convert)
    source = find_source(dataset)
    listing = source.listing()
    assert listing.heads["label"].ids == ("round", "square", "never seen")
    assert listing.labels["label"].tolist() == [0, 1] * 3
    assert np.array_equal(np.asarray(source.read(4)), dataset.pixels[4])
    assert source.origin == "arrays in memory (Shapes)"


class Named(Shapes):
    def __init__(self, *classes: str, labels: list[Any]) -> None:
        super().__init__()
        self.classes = classes  # type: ignore[assignment]
        self.labels = labels

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.pixels[index], self.labels[index]


def test_numbers_of_two_datasets_are_matched_by_name() -> None:
    train = Named("ant", "bee", "cat", labels=[0, 1, 2, 0, 1, 2])
    val = Named("ant", "cat", labels=[0, 1, 0, 1, 0, 1])  # lacks bees: its 1 is not train's 1
    listing = find_source({"train": train, "val": val}).listing()
    assert listing.heads["label"].ids == ("ant", "bee", "cat")
    assert listing.labels["label"].tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 0, 2, 0, 2]


def test_text_labels_follow_the_stated_order() -> None:
    source = find_source(Named("z", "y", labels=["y", "z"] * 3))
    assert source.listing().heads["label"].ids == ("z", "y")
    assert source.listing().labels["label"].tolist() == [1, 0] * 3


def test_labels_outside_the_stated_classes_are_refused() -> None:
    with pytest.raises(DataError, match="the label 2 is not one of its 2 classes"):
        find_source(Named("a", "b", labels=[0, 1, 2, 0, 1, 2])).listing()


def test_every_float_of_to_tensor_goes_back() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for dtype in (torch.float32, torch.float64):
        tensor = torch.from_numpy(values).to(dtype).div(255)
        assert np.array_equal(np.asarray(pixels_of(tensor)), values)
    assert np.array_equal(np.asarray(pixels_of(values.astype(np.float32) * np.float32(1 / 255))), values)


@pytest.mark.parametrize(
    "convert",
    [
        lambda pixels: (to_tensor(pixels) - 0.5) / 0.5,
        lambda pixels: to_tensor(pixels) * 0.9,
        lambda pixels: pixels.astype(np.float32),
        lambda pixels: pixels.astype(np.int64),
    ],
    ids=["normalised", "scaled", "0 to 255 as floats", "whole numbers"],
)
def test_other_pixels_are_refused_in_one_line(convert: Any) -> None:
    with pytest.raises(
        DataError, match=r"pixels must be uint8, or k / 255 .* take Normalize, ToTensor and scaling out"
    ):
        find_source(Shapes(convert)).listing()


def test_a_dataset_that_augments_is_refused() -> None:
    chance = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"differs from one reading to the next; take random transforms out"):
        find_source(Shapes(lambda pixels: np.roll(pixels, chance.integers(1, 5), axis=1))).listing()


def test_targets_are_believed_only_where_they_agree() -> None:
    dataset = Shapes()
    dataset.targets = [0, 1, 0, 1, 0, 1]  # type: ignore[attr-defined]
    assert find_source(dataset).listing().labels["label"].tolist() == [0, 1] * 3
    dataset.targets = [1, 0, 1, 0, 1, 0]  # type: ignore[attr-defined]
    assert find_source(dataset).listing().labels["label"].tolist() == [0, 1] * 3


def test_what_is_no_dataset_is_named() -> None:
    pictures = np.zeros((2, 4, 4), dtype=np.uint8)
    with pytest.raises(DataError, match=r"needs a length and items by number, got int"):
        find_source(7)
    with pytest.raises(DataError, match=r"2 pictures cannot have 3 labels"):
        find_source((pictures, [0, 1, 2]))
    with pytest.raises(DataError, match=r"a label must be a whole number or text, got float: 0.5"):
        find_source((pictures, [0.5, 1.0])).listing()
    with pytest.raises(DataError, match=r"a picture must be \(height, width\).*got \(3, 5, 5\)"):
        find_source((np.zeros((2, 3, 5, 5), dtype=np.uint8), [0, 1])).listing()
    with pytest.raises(DataError, match=r"items must be pairs \(picture, label\), got ndarray"):
        find_source(pictures).listing()
    with pytest.raises(DataError, match=r"the only part has no picture"):
        ArraySource({None: ([], [])}).listing()


# Which source it is


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UsageError, match=r"there is no folder or file digit; did you mean digits"):
        find_source("digit")
    with pytest.raises(UsageError, match=r"did you mean pictures"):
        find_source("picture")
    with pytest.raises(
        UsageError, match=r"no folder or file nowhere/at/all; names that are known: digits, cifar10"
    ):
        find_source("nowhere/at/all")
    with pytest.raises(UsageError, match=r"is not fetched; download it"):
        find_source("https://example.org/data.zip")


def test_a_name_wins_over_a_folder_called_so_and_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder(tmp_path, "digits/a/1.png", "digits/b/2.png"))
    assert isinstance(find_source("digits"), DigitsSource)
    assert shadowed("digits") == "digits is the data set of this name; to use what is called so here give ./digits"
    assert isinstance(find_source("./digits"), FolderSource)
    assert isinstance(find_source(Path("digits")), FolderSource)
    assert shadowed("./digits") is None


def test_a_single_picture_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(picture())
    with pytest.raises(DataError, match=r"is no source of pictures: .* for single pictures use `resnets predict`"):
        find_source(path)


def test_a_source_of_the_users_own_is_taken_as_it_is() -> None:
    source = DigitsSource()
    assert find_source(source) is source


def test_opening_data_imports_no_torch() -> None:
    code = "import sys, resnets.data.dataset; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
