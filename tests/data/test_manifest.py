import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnets.base.errors import DataError
from resnets.base.files import content_hash
from resnets.data.dataset import Data, open_data, reopen
from resnets.data.manifest import KEY, Manifest, examine
from resnets.data.sources.digits import DigitsSource
from resnets.data.sources.folder import FolderSource
from tests.data.strange_names import BYTES_CLASS, MARKUP_CLASS, strange_folder


def picture(red: int, format: str = "PNG", size: tuple[int, int] = (9, 6)) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(target, format)
    return target.getvalue()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two classes of ten pictures, undivided, and a text in one of them."""
    for number in range(20):
        path = tmp_path / "small" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (tmp_path / "small" / "a" / "notes.txt").write_text("no picture")
    return tmp_path / "small"


def test_a_row_has_the_facts_of_its_file(small: Path) -> None:
    (small / "a" / "00.png").write_bytes(picture(99, "JPEG", (30, 20)))
    rows = {row["path"]: row for row in open_data(small).manifest.table.to_pylist()}
    content = (small / "a" / "00.png").read_bytes()
    assert rows["a/00.png"] == {
        "path": "a/00.png",
        "path_bytes": None,
        "size": len(content),
        "content": content_hash(content),
        "width": 30,
        "height": 20,
        "mode": "RGB",
        "channels": "rgb",
        "format": "JPEG",
        "label": "a",
        "split": "train",
        "left_out": None,
    }
    left_out = rows["a/notes.txt"]
    assert (left_out["size"], left_out["content"]) == (10, content_hash(b"no picture"))
    assert (left_out["label"], left_out["left_out"]) == ("a", "not a picture: text")
    assert {left_out[name] for name in ("width", "height", "mode", "channels", "format", "split")} == {None}


def test_a_manifest_reads_back_as_it_was_written(small: Path, tmp_path: Path) -> None:
    manifest = open_data(small).manifest
    manifest.write(tmp_path / "manifest.parquet")
    again = Manifest.read(tmp_path / "manifest.parquet")
    assert again.table.equals(manifest.table)
    for name in ("name", "origin", "traits", "address", "heads", "strays", "beside", "split_seed"):
        assert getattr(again, name) == getattr(manifest, name)
    assert again.hash() == manifest.hash()
    assert again.left_out() == {10: "not a picture: text"}


def test_the_hash_is_of_the_data_and_not_of_its_place(small: Path, tmp_path: Path) -> None:
    before = open_data(small).manifest.hash()
    moved = small.rename(tmp_path / "moved")
    assert open_data(moved).manifest.hash() == before
    (moved / "a" / "00.png").rename(moved / "a" / "other.png")
    renamed = open_data(moved).manifest.hash()
    (moved / "a" / "other.png").write_bytes(picture(77))
    changed = open_data(moved).manifest.hash()
    (moved / "a" / "other.png").rename(moved / "b" / "other.png")
    assert len({before, renamed, changed, open_data(moved).manifest.hash()}) == 4


def test_pixels_are_hashed_with_their_shape() -> None:
    flat, tall = np.zeros((2, 8), dtype=np.uint8), np.zeros((8, 2), dtype=np.uint8)
    contents = [open_data(([one, one], [0, 1])).manifest.table["content"][0].as_py() for one in (flat, tall)]
    assert contents[0] != contents[1]


def test_digits_have_a_manifest_too() -> None:
    data = open_data("digits")
    assert data.manifest.address == {"kind": "digits"}
    assert set(data.manifest.table["format"].to_pylist()) == {"pixels"}
    assert len(set(data.manifest.table["content"].to_pylist())) == 1797  # no two digits are equal


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    root = strange_folder(tmp_path)
    data = open_data(root)
    data.manifest.write(tmp_path / "m.parquet")
    paths = Manifest.read(tmp_path / "m.parquet").paths()
    on_disk = {
        os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names
    }
    assert set(paths) == on_disk
    raw = data.manifest.table["path_bytes"].to_pylist()
    shown = data.manifest.table["path"].to_pylist()
    for path, name, text in zip(paths, raw, shown, strict=True):
        assert name is None or name == os.fsencode(path)
        assert text.encode("utf-8")
        assert (name is None) == (text == path)
    if os.path.isdir(os.path.join(os.fsencode(root), b"train", BYTES_CLASS)):
        assert data.heads["label"].ids == (MARKUP_CLASS, "caf\\xe9 \x1b[31mred")


def test_looking_reports_its_progress() -> None:
    source = DigitsSource()
    seen: list[tuple[int, int]] = []
    examine(source, source.listing(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1797, 1797)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_file_that_cannot_be_read_is_left_out_with_the_reason(small: Path) -> None:
    source = FolderSource(small)
    listing = source.listing()
    (small / "b" / "01.png").unlink()
    facts = examine(source, listing)
    assert facts.left_out == {10: "not a picture: text", 11: "cannot be read: No such file or directory"}


# A manifest as a source


def test_a_manifest_is_a_source_with_the_same_rows_and_parts(small: Path, tmp_path: Path) -> None:
    data = open_data(small)
    data.manifest.write(tmp_path / "m.parquet")
    again = open_data(tmp_path / "m.parquet")
    assert again.manifest.hash() == data.manifest.hash()
    assert (again.name, again.origin, again.traits) == (data.name, data.origin, data.traits)
    assert again.manifest.split_seed == data.manifest.split_seed == 0
    for part in ("train", "val", "test", "all"):
        assert again.rows(part).tolist() == data.rows(part).tolist()
    assert again.read(3) == data.read(3)


def test_a_manifest_in_memory_opens_again_without_reading(small: Path) -> None:
    data = open_data(small)
    again = reopen(data.manifest)
    assert again.rows("val").tolist() == data.rows("val").tolist()
    assert again.labels("label").tolist() == data.labels("label").tolist()
    assert again.read(0) == data.read(0)


def test_what_was_in_memory_opens_again_with_its_source(tmp_path: Path) -> None:
    pictures = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4)
    data = open_data((pictures, [0, 1] * 10))
    data.manifest.write(tmp_path / "m.parquet")
    manifest = Manifest.read(tmp_path / "m.parquet")
    again = reopen(manifest, data.source)
    assert np.array_equal(np.asarray(again.read(7)), pictures[7])
    with pytest.raises(DataError, match="which no file can bring back; give the data itself"):
        reopen(manifest)


def test_tables_and_idx_files_open_again_by_their_paths(shared_data: Path) -> None:
    data = open_data(shared_data / "cifar10-jpeg", for_training=False)
    again = reopen(data.manifest)
    assert again.read(9999) == data.read(9999)


def test_a_split_of_ones_own_is_honoured(small: Path, tmp_path: Path) -> None:
    manifest = open_data(small).manifest
    parts = ["test" if path.startswith("b") else "train" for path in manifest.paths()]
    edit(manifest, tmp_path / "m.parquet", split=[*parts[:4], None, *parts[5:]])
    data = open_data(tmp_path / "m.parquet")
    assert [data.path(row)[0] for row in data.rows("test")] == ["b"] * 10
    assert len(data.rows("val")) == 0
    assert data.left_out[4] == "the manifest states no part for it"


def edit(manifest: Manifest, target: Path, **columns: list[object]) -> None:
    """The manifest with other columns, written by hand."""
    table = manifest.table
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    manifest.write(target)
    pq.write_table(table.replace_schema_metadata(pq.read_schema(target).metadata), target)


def test_changed_files_are_named(small: Path, tmp_path: Path) -> None:
    open_data(small).manifest.write(tmp_path / "m.parquet")
    (small / "b" / "03.png").write_bytes(picture(200))
    notes = open_data(tmp_path / "m.parquet").notes
    assert notes == ["files that have changed since the manifest was written: 1 ('b/03.png')"]


def test_a_manifest_without_its_data_says_what_is_missing(small: Path, tmp_path: Path) -> None:
    open_data(small).manifest.write(tmp_path / "m.parquet")
    small.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"is of the folder .*small, which is not there; put it back"):
        open_data(tmp_path / "m.parquet")


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret.png", "a/../../x.png"])
def test_a_manifest_cannot_name_files_outside_its_folder(small: Path, tmp_path: Path, path: str) -> None:
    manifest = open_data(small).manifest
    edit(manifest, tmp_path / "m.parquet", path=[path, *manifest.paths()[1:]])
    with pytest.raises(DataError, match=r"names files outside its folder: "):
        open_data(tmp_path / "m.parquet")


def test_unusable_manifests_are_refused(small: Path, tmp_path: Path) -> None:
    manifest = open_data(small).manifest
    path = tmp_path / "m.parquet"
    edit(manifest, path, split=["other"] * len(manifest))
    with pytest.raises(DataError, match="the split is 'other'; it must be one of train, val, test"):
        Manifest.read(path)
    edit(manifest, path, label=["zebra"] * len(manifest))
    with pytest.raises(DataError, match="column 'label' has the class 'zebra', which its head lacks"):
        open_data(path)
    manifest.write(path)
    metadata = pq.read_schema(path).metadata
    pq.write_table(manifest.table.drop_columns(["content"]).replace_schema_metadata(metadata), path)
    with pytest.raises(DataError, match="the column content is not there; write it again"):
        Manifest.read(path)
    later = {KEY: json.dumps(json.loads(metadata[KEY]) | {"format": 2}).encode()}
    pq.write_table(manifest.table.replace_schema_metadata(later), path)
    with pytest.raises(DataError, match="was written by a later version of resnets"):
        Manifest.read(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"the manifest .* cannot be used: "):
        Manifest.read(path)
    with pytest.raises(DataError, match=r"nothing.parquet cannot be used: .*No such file"):
        Manifest.read(tmp_path / "nothing.parquet")


def test_types_that_other_tools_change_are_put_right(small: Path, tmp_path: Path) -> None:
    manifest = open_data(small).manifest
    table, path = manifest.table, tmp_path / "m.parquet"
    table = table.set_column(1, "path_bytes", pa.nulls(len(table)))
    for name, kind in (("width", pa.float64()), ("content", pa.binary()), ("path", pa.large_string())):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(place).cast(kind))
    manifest.write(path)
    metadata = pq.read_schema(path).metadata
    table = table.append_column("my.notes", pa.array(["mine"] * len(table)))
    pq.write_table(table.replace_schema_metadata(metadata), path)
    again = Manifest.read(path)
    assert again.hash() == manifest.hash()
    assert again.table.select(manifest.table.column_names).equals(manifest.table)
    assert again.table["my.notes"][0].as_py() == "mine"


def test_damaged_manifests_raise_nothing_but_data_errors(small: Path, tmp_path: Path) -> None:
    open_data(small).manifest.write(tmp_path / "good.parquet")
    good, path = (tmp_path / "good.parquet").read_bytes(), tmp_path / "damaged.parquet"
    chance, refused = np.random.default_rng(0), 0
    for _ in range(100):
        content = bytearray(good)
        for place in chance.integers(4, len(content), 4):
            content[place] = chance.integers(256)
        path.write_bytes(content[: chance.integers(1, len(content))] if chance.random() < 0.3 else content)
        try:
            Manifest.read(path)
        except DataError:
            refused += 1
    assert refused > 30


def test_labels_may_be_called_as_the_manifests_own_columns(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    tags = np.eye(2, dtype=np.float32)[[0, 1] * 10]
    tags[3, 0] = np.nan
    labels = {
        "size": ["small", "large"] * 10,
        "format": tags,
        "finding": ["a", "b", "b", "a"] * 5,
        "kind": [0, 1] * 10,
    }
    data = open_data((pixels, labels))
    names = data.manifest.table.column_names
    assert [name for name in names if "label." in name] == [
        "label.size",
        "label.format",
        "label.format.unknown",
        "label.finding",
    ]
    data.manifest.write(tmp_path / "manifest.parquet")
    read = Manifest.read(tmp_path / "manifest.parquet")
    assert list(read.heads) == ["size", "format", "finding", "kind"]
    for head in data.heads:
        assert np.array_equal(read.labels(head), data.manifest.labels(head)), head
    assert read.labels("format")[3].tolist() == [-1, 1]
    assert read.hash() == data.manifest.hash()
    with pytest.raises(DataError, match=r"two labels would have the column 'label.size' of the manifest"):
        open_data((pixels, {"size": labels["size"], "label.size": labels["size"]}))


def test_data_is_what_the_contract_says(small: Path) -> None:
    data: Data = open_data(small)
    widths, heights = data.sizes
    assert widths.dtype == heights.dtype == np.int32
    assert (widths[0], heights[0], widths[10]) == (9, 6, 0)
    assert data.labels("label").dtype == np.int64
    assert not data.labels("label").flags.writeable
    assert data.rows("train").dtype == np.int64
