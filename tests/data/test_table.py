import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnets.base.errors import DataError, UsageError
from resnets.data.dataset import Data, open_data
from resnets.data.manifest import Manifest
from resnets.data.options import DataOptions
from resnets.data.source import Listing
from resnets.data.sources import find_source
from resnets.data.sources.parquet import ParquetSource
from resnets.data.sources.table import TableSource
from resnets.labels import Head


def picture(value: int) -> bytes:
    target = io.BytesIO()
    Image.new("L", (6, 4), value).save(target, "PNG")
    return target.getvalue()


def pictures(root: Path, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))


def table(root: Path, *lines: str, name: str = "labels.csv") -> Path:
    """A CSV file, and a picture for each name in its lines that ends in .png and has no `missing` in it."""
    cells = [cell for line in lines for cell in line.replace("\t", ",").replace(";", ",").split(",")]
    pictures(root, list(dict.fromkeys(cell for cell in cells if cell.endswith(".png") and "missing" not in cell)))
    path = root / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def listed(path: Path, **options: Any) -> Listing:
    return TableSource(path, options=DataOptions(**options)).listing()


def ids_of(listing: Listing, head: str = "label") -> list[str | None]:
    ids = [*listing.heads[head].ids, None]
    return [ids[label] for label in listing.labels[head]]


# Text


def test_a_csv_file_is_a_source_and_its_roles_are_said(tmp_path: Path) -> None:
    path = table(tmp_path, "image,species", "a.png,cat", "b.png,dog", "c.png,cat")
    source = find_source(path)
    assert isinstance(source, TableSource)
    listing = source.listing()
    assert listing.paths == ["a.png", "b.png", "c.png"]
    assert ids_of(listing) == ["cat", "dog", "cat"]
    assert listing.parts is None
    assert listing.notes == [
        "labels.csv: paths in 'image', classes in 'species'; --image-column, --label-column and --split-column "
        "say otherwise"
    ]
    assert source.read(1) == picture(1)
    assert source.name == tmp_path.name
    assert source.origin == f"the table {path}"


def test_named_columns_are_not_said_again(tmp_path: Path) -> None:
    path = table(tmp_path, "image,a,b", "x.png,1,2", "y.png,2,1")
    assert listed(path, image_column="image", label_column=("a", "b")).notes == []


@pytest.mark.parametrize(("delimiter", "name"), [("\t", "x.tsv"), ("\t", "x.csv"), (";", "x.csv"), (",", "x.csv")])
def test_tabs_and_semicolons_divide_cells_too(tmp_path: Path, delimiter: str, name: str) -> None:
    lines = [delimiter.join(cells) for cells in (("path", "class"), ("a.png", "x"), ("b.png", "y"))]
    assert ids_of(listed(table(tmp_path, *lines, name=name))) == ["x", "y"]


def test_quotes_line_breaks_and_a_mark_of_utf8_are_understood(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "b,c.png"])
    text = '\ufeff"image","label"\r\n"a.png","two\nlines"\r\n"b,c.png","a ""quoted"" one"\r\n'
    (tmp_path / "x.csv").write_bytes(text.encode())
    listing = listed(tmp_path / "x.csv")
    assert listing.paths == ["a.png", "b,c.png"]
    assert ids_of(listing) == ["two\nlines", 'a "quoted" one']


def test_blanks_around_names_and_labels_do_not_count(tmp_path: Path) -> None:
    listing = listed(table(tmp_path, "path , label", "a.png, cat", "b.png,cat ", "c.png,dog"))
    assert ids_of(listing) == ["cat", "cat", "dog"]


def test_paths_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = b"caf\xe9.png"
    (tmp_path / os.fsdecode(name)).write_bytes(picture(1))
    (tmp_path / "x.csv").write_bytes(b"image,label\n" + name + b",a\nx.png,b\n")
    source = TableSource(tmp_path / "x.csv")
    assert os.fsencode(source.listing().paths[0]) == name
    assert source.read(0) == picture(1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no table that can be read: Empty CSV file"),
        (b"image,label\n", "has no rows"),
        (b"image,label\na.png\n", "Expected 2 columns, got 1"),
        (b"image,image\na.png,b\n", "two columns called 'image'"),
        ("image,label\na.png,x\n".encode("utf-16"), "UTF-16 text; save the table as UTF-8"),
        (b"image,lab\xe9l\na.png,x\n", "names of the columns .* are not UTF-8"),
        (b"image,label\na.png,caf\xe9\n", "'label' of x.csv is not UTF-8 text; save the table as UTF-8"),
        (b"," * 1001, "1,002 columns, the limit of a table is 1,000"),
        (b"PAR1 is no Parquet file", "is no Parquet file that can be read"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    pictures(tmp_path, ["a.png"])
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        open_data(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)


def test_a_hundred_thousand_rows_are_listed_in_seconds(tmp_path: Path) -> None:
    pictures(tmp_path, [f"p/{number:05d}.png" for number in range(40)])
    rows = [f"p/{number % 40:05d}.png,{number % 7},{number % 11},w{number % 50}" for number in range(100_000)]
    path = tmp_path / "labels.csv"
    path.write_text("image,a,b,writer\n" + "\n".join(rows) + "\n")
    started = os.times()
    listing = listed(path, label_column=("a", "b"), group_column="writer")
    ended = os.times()
    assert len(listing.paths) == len(set(listing.paths)) == 100_000
    assert listing.labels["b"][:12].tolist() == [*range(11), 0]
    assert listing.groups is not None
    assert listing.groups[51] == "w1"
    assert ended.user + ended.system - started.user - started.system < 5


# Which column is which


def test_paths_are_found_by_what_is_there_not_by_the_name(tmp_path: Path) -> None:
    path = table(tmp_path, "id,where,kind", "1,a.png,x", "2,b.png,y", "3,c.png,x", "4,d.png,y")
    listing = listed(path)
    assert listing.paths == ["a.png", "b.png", "c.png", "d.png"]
    assert ids_of(listing) == ["x", "y", "x", "y"]


def test_names_without_an_ending_are_found(tmp_path: Path) -> None:
    pictures(tmp_path, ["train/17.jpg", "train/18.jpg"])
    path = table(tmp_path, "id_code,diagnosis", "17,0", "18,2", name="train.csv")
    listing = listed(path, root=str(tmp_path / "train"))
    assert listing.paths == ["17.jpg", "18.jpg"]
    assert "paths in 'id_code' (with .jpg behind it)" in listing.notes[0]


def test_backslashes_of_windows_are_read(tmp_path: Path) -> None:
    pictures(tmp_path, ["cats/a.png", "dogs/b.png"])
    (tmp_path / "x.csv").write_text("path,label\ncats\\a.png,cat\ndogs\\b.png,dog\n")
    listing = listed(tmp_path / "x.csv")
    assert listing.paths == ["cats/a.png", "dogs/b.png"]
    assert "backslashes read as /" in listing.notes[0]


@pytest.mark.parametrize(
    ("lines", "options", "reason"),
    [
        (["image,it", "a.png,x", "b.png,y"], {"image_column": "it"}, "'x' is no file in .* 'image'"),
        (["image,label", "missing1.png,x", "missing2.png,y"], {}, "'missing1.png' is no file in .*--root"),
        (["image,label", "https://x.org/a,x", "https://x.org/b,y"], {}, "holds addresses, which are not fetched"),
        (["image,label", ",x", ",y"], {"image_column": "image"}, "'image' of labels.csv is empty|holds no paths"),
        (["image,i,j", "a.png,x,p", "b.png,y,q", "c.png,x,p", "d.png,y,q"], {}, "hold the classes: 'i', 'j'; say"),
        (["image,score", "a.png,0.25", "b.png,0.5", "c.png,0.25"], {}, "no column that looks like classes"),
        (["image,label,set", "a.png,x,train", "b.png,y,dev"], {"split_column": "set"}, "'set' .* 'dev'; a part"),
        (["image,label", "a.png,", "b.png,"], {"label_column": ("label",)}, "names no class"),
        (["image,label,split", "a.png,x,train", "b.png,y,val"], {}, "'y' that .* lacks"),
    ],
)  # fmt: skip
def test_what_a_column_cannot_be_is_said(
    tmp_path: Path, lines: list[str], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        listed(table(tmp_path, *lines), **options)
    assert "\n" not in str(caught.value)


def test_the_folder_that_has_the_pictures_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, ["images/a.png", "images/b.png"])
    (tmp_path / "labels.csv").write_text("file,label\na.png,x\nb.png,y\n")
    with pytest.raises(DataError, match=f"in images there is one: --root {tmp_path}/images"):
        listed(tmp_path / "labels.csv")
    assert listed(tmp_path / "labels.csv", root=str(tmp_path / "images")).paths == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"label_column": ("lable",)}, "no column in labels.csv named 'lable'; did you mean label"),
        ({"image_column": "picture"}, "named 'picture'.*the columns are 'image', 'label'"),
        ({"split_column": "part"}, "named 'part'"),
        ({"group_column": "writer"}, "named 'writer'"),
        ({"multi_label": ("tags",)}, "named 'tags'"),
        ({"multi_label": ("tags=label,dog",)}, "named 'dog'"),
        ({"label_column": ("image",)}, "'image' of labels.csv holds the pictures, not the labels"),
        ({"root": "nowhere"}, "--root .*nowhere is no folder"),
    ],
)
def test_a_column_that_is_not_there_is_answered_with_the_nearest(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    path = table(tmp_path, "image,label", "a.png,x", "b.png,y")
    with pytest.raises(UsageError, match=reason):
        listed(path, **options)


def test_columns_belong_to_tables_alone(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/1.png", "b/2.png"])
    with pytest.raises(UsageError, match="--label-column belongs to tables, and the folder .* is none"):
        open_data(tmp_path, options=DataOptions(label_column=("x",)))
    with pytest.raises(UsageError, match="--root belongs to tables, and digits .* is none"):
        open_data("digits", options=DataOptions(root="."))


def test_the_columns_that_a_model_answers_are_looked_for_first(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label,root,vowel", "a.png,p,1,3", "b.png,q,2,3", "c.png,p,1,4", "d.png,q,2,4")
    expected = {"root": Head(ids=("1", "2")), "vowel": Head(ids=("3", "4"))}
    listing = TableSource(path, expected=expected).listing()
    assert list(listing.heads) == ["root", "vowel"]
    assert list(TableSource(path).listing().heads) == ["label"]
    assert ids_of(TableSource(path).listing()) == ["p", "q", "p", "q"]


# Parts and groups


def test_a_split_column_is_known_by_its_values(tmp_path: Path) -> None:
    lines = ["a.png,x,train", "b.png,y,Train", "c.png,x,valid", "d.png,y,validation", "e.png,x,test"]
    listing = listed(table(tmp_path, "image,label,phase", *lines))
    assert listing.parts == ["train", "train", "val", "val", "test"]


def test_rows_without_a_part_are_left_out(tmp_path: Path) -> None:
    data = open_data(table(tmp_path, "image,label,split", "a.png,x,train", "b.png,y,train", "c.png,x,"))
    assert data.left_out == {2: "the column 'split' states no part for it"}


def test_groups_go_whole_to_one_part(tmp_path: Path) -> None:
    lines = [f"w{writer}/{row}.png,{row % 3},w{writer}" for writer in range(10) for row in range(9)]
    path = table(tmp_path, "image,label,writer", *lines)
    for number in range(90):  # other contents: each picture is one of its own
        (tmp_path / lines[number].partition(",")[0]).write_bytes(picture(number + 100))
    data = open_data(path, options=DataOptions(group_column="writer"))
    part = dict(zip(data.manifest.paths(), data.manifest.table["split"].to_pylist(), strict=True))
    of_writer = {writer: {part[name] for name in part if name.startswith(f"w{writer}/")} for writer in range(10)}
    assert all(len(parts) == 1 for parts in of_writer.values())
    assert len(data.rows("val")) == 18  # two writers of ten
    assert "--group-column writer keeps them together" in " ".join(open_data(path).notes)


def test_groups_in_two_stated_parts_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label,split,who", "a.png,x,train,1", "b.png,y,train,2", "c.png,x,val,1")
    notes = listed(path, group_column="who").notes
    assert "values of 'who' that stand in two parts: 1 ('1')" in notes


# Paths and the root


@pytest.mark.parametrize("path", ["../out.png", "/etc/passwd", "in/../../out.png"])
def test_paths_leave_the_root_only_where_that_is_allowed(tmp_path: Path, path: str) -> None:
    pictures(tmp_path, ["out.png", "data/in/a.png"])
    (tmp_path / "data" / "x.csv").write_text(f"image,label\nin/a.png,x\n{path},y\n")
    with pytest.raises(DataError, match="paths of x.csv that lead out of .*: 1 .*or --allow-outside"):
        listed(tmp_path / "data" / "x.csv")
    assert len(listed(tmp_path / "data" / "x.csv", allow_outside=True).paths) == 2


def test_a_link_to_a_folder_outside_leaves_the_root(tmp_path: Path) -> None:
    pictures(tmp_path, ["far/a.png", "data/own/b.png"])
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "data" / "inner").symlink_to(tmp_path / "data" / "own")
    (tmp_path / "data" / "x.csv").write_text("image,label\ninner/b.png,x\nlinked/a.png,y\n")
    with pytest.raises(DataError, match=r": 1 \('linked/a.png'\)"):
        listed(tmp_path / "data" / "x.csv")
    source = TableSource(tmp_path / "data" / "x.csv", options=DataOptions(allow_outside=True))
    source.listing()
    assert source.read(1) == picture(0)


def test_a_folder_without_classes_points_to_its_table(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label", "in/a.png,x", "in/b.png,y")
    with pytest.raises(DataError, match=f"one class, 'in'.* or give the table {path}"):
        open_data(tmp_path)
    (tmp_path / "classes.csv").write_text("")
    with pytest.raises(DataError, match="the table with the classes, one of 'classes.csv', 'labels.csv'"):
        open_data(tmp_path)
    pictures(tmp_path / "flat", ["a.png"])
    (tmp_path / "flat" / "labels.csv").write_text("image,label\na.png,x\n")
    with pytest.raises(DataError, match=f"outside class folders.* or give the table {tmp_path}/flat/labels.csv"):
        open_data(tmp_path / "flat")


def test_absolute_paths_inside_the_root_are_relative(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "b.png"])
    (tmp_path / "x.csv").write_text(f"image,label\n{tmp_path}/a.png,x\n./b.png,y\n")
    assert listed(tmp_path / "x.csv").paths == ["a.png", "b.png"]


def test_missing_files_and_empty_paths_are_left_out_with_the_reason(tmp_path: Path) -> None:
    data = open_data(table(tmp_path, "image,label", "a.png,x", "b.png,y", "missing.png,x", ",y", "c.png,x"))
    assert data.left_out == {2: "cannot be read: No such file or directory", 3: "the table states no path for it"}
    assert data.path(3) == "row 4"


def test_a_picture_that_two_rows_name_is_two_rows(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label", "a.png,x", "b.png,y", "a.png,x")
    path.write_text(path.read_text() + "./a.png,y\na.png#2,x\n")
    data = open_data(path)
    assert [data.path(row) for row in range(5)] == ["a.png", "b.png", "a.png#3", "a.png#4", "a.png#2"]
    assert "pictures that two rows of labels.csv name, kept as rows: 1 ('a.png')" in data.notes
    assert any(note.startswith("equal pictures that stand in two classes: 1") for note in data.notes)
    assert data.read(3) == picture(0)


def test_a_named_pipe_is_left_out_unopened(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label", "a.png,x", "b.png,y", "pipe,x")
    os.mkfifo(tmp_path / "pipe")
    assert open_data(path).left_out == {2: "not a regular file"}


# Labels


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["10", "9", "2"], ("2", "9", "10")),
        (["10", "9", "b"], ("10", "9", "b")),
        (["é", "Z", "a"], ("Z", "a", "é")),
        (["3.0", "20.0", "1"], ("1", "3", "20")),
        (["01", "1", "2"], ("01", "1", "2")),
        (["3.5", "20.0", "1"], ("1", "20.0", "3.5")),
    ],
)
def test_classes_are_ordered_by_value_or_by_code_point(
    tmp_path: Path, values: list[str], ids: tuple[str, ...]
) -> None:
    lines = [f"{number}.png,{value}" for number, value in enumerate(values)]
    listing = listed(table(tmp_path, "image,label", *lines))
    assert listing.heads["label"].ids == ids


def test_label_columns_are_heads_in_the_order_of_the_flags(tmp_path: Path) -> None:
    path = table(tmp_path, "image,root,vowel", "a.png,7,1", "b.png,,0", "c.png,9,", "d.png,,")
    data = open_data(path, options=DataOptions(label_column=("vowel", "root")), for_training=False)
    assert list(data.heads) == ["vowel", "root"]
    assert data.labels("root").tolist() == [0, -1, 1, -1]
    assert data.labels("vowel").tolist() == [1, 0, -1, -1]
    assert data.left_out == {3: "no class is stated for it"}
    assert data.labelled("root").tolist() == [True, False, True, False]


def test_one_label_column_is_the_head_called_label(tmp_path: Path) -> None:
    path = table(tmp_path, "image,root,vowel", "a.png,7,1", "b.png,9,0")
    assert list(listed(path, label_column=("root",)).heads) == ["label"]


# Several classes a picture


def presence(listing: Listing, head: str = "label") -> list[list[int]]:
    assert listing.heads[head].kind == "multi"
    assert listing.labels[head].dtype == np.int8
    return listing.labels[head].tolist()


@pytest.mark.parametrize("separator", [";", "|", " ; "])
def test_lists_in_cells_are_several_classes_a_picture(tmp_path: Path, separator: str) -> None:
    lines = [f"a.png,dog{separator}cat", "b.png,cat", "c.png,", f"d.png,{separator}"]
    listing = listed(table(tmp_path, "image,tags", *lines))
    assert listing.heads["label"].ids == ("cat", "dog")
    assert presence(listing) == [[1, 1], [1, 0], [-1, -1], [0, 0]]
    assert f"lists of classes in 'tags', joined by '{separator.strip()}'" in listing.notes[0]
    alone = f"a cell with '{separator.strip()}' alone is a picture with none of the classes"
    assert listing.notes[1] == f"empty cells of 'tags', of which nothing is known: 1; {alone}"


def test_a_separator_in_few_cells_makes_no_lists(tmp_path: Path) -> None:
    lines = [f"{number}.png,{'red' if number % 2 else 'blue'}" for number in range(30)]
    listing = listed(table(tmp_path, "image,label", *lines, "x.png,light;blue"))
    assert listing.heads["label"].ids == ("blue", "light;blue", "red")


def test_lists_are_read_as_asked(tmp_path: Path) -> None:
    path = table(tmp_path, "image,tags", "a.png,dog;cat", "b.png,cat", "c.png,dog;cat")
    assert listed(path, multi_label=("none",)).heads["label"].ids == ("cat", "dog;cat")
    blanks = table(tmp_path, "image,tags", "a.png,haze primary", "b.png,primary", "c.png,water", name="blanks.csv")
    assert listed(blanks, multi_label=("tags",)).heads["label"].ids == ("haze", "primary", "water")


def test_columns_of_0_and_1_are_a_head(tmp_path: Path) -> None:
    path = table(
        tmp_path, "image,age,cat,dog,bird", "a.png,3,1,0,1", "b.png,4,0,,1.0", "c.png,3,,,", "d.png,4,0,0,0"
    )
    listing = listed(path, label_column=("age",), multi_label=("seen=dog,cat,bird",))
    assert list(listing.heads) == ["age", "seen"]
    assert listing.heads["seen"].ids == ("dog", "cat", "bird")
    assert presence(listing, "seen") == [[0, 1, 1], [-1, 0, 1], [-1, -1, -1], [0, 0, 0]]
    with pytest.raises(
        DataError, match="'age' of labels.csv holds '3', '4'; a column of a multi-label head holds 0, 1"
    ):
        listed(path, multi_label=("seen=age,cat",))


def test_columns_of_0_and_1_are_found_where_there_is_nothing_else(tmp_path: Path) -> None:
    several = table(tmp_path, "image,cat,dog", "a.png,1,1", "b.png,0,1", "c.png,1,0", "d.png,0,0")
    assert presence(listed(several)) == [[1, 1], [0, 1], [1, 0], [0, 0]]
    one = table(tmp_path, "image,cat,dog", "a.png,1,0", "b.png,0,1", "c.png,1,0", "d.png,0,1", name="one.csv")
    listing = listed(one)
    assert (listing.heads["label"].kind, ids_of(listing)) == ("single", ["cat", "dog", "cat", "dog"])
    assert presence(listed(one, multi_label=("label=cat,dog",)))[0] == [1, 0]


def test_several_classes_a_picture_go_through_the_manifest(tmp_path: Path) -> None:
    lines = ["a.png,1,0,1", "b.png,0,,1", "c.png,1,1,0", "d.png,0,0,0", "e.png,1,0,"]
    path = table(tmp_path, "image,cat,dog,bird", *lines)
    data = open_data(path, options=DataOptions(multi_label=("seen=cat,dog,bird",)))
    wanted = np.array([[1, 0, 1], [0, np.nan, 1], [1, 1, 0], [0, 0, 0], [1, 0, np.nan]], dtype=np.float32)
    assert data.labels("label").dtype == np.float32
    assert np.array_equal(data.labels("label"), wanted, equal_nan=True)
    assert data.manifest.table["label"].to_pylist() == [["cat", "bird"], ["bird"], ["cat", "dog"], [], ["cat"]]
    assert data.manifest.table["label.unknown"].to_pylist() == [None, ["dog"], None, None, ["bird"]]
    data.manifest.write(tmp_path / "manifest.parquet")
    again = open_data(tmp_path / "manifest.parquet")
    assert again.heads == data.heads
    assert np.array_equal(again.labels("label"), wanted, equal_nan=True)
    assert again.manifest.hash() == data.manifest.hash()


def test_undivided_lists_are_divided_so_that_every_class_trains(tmp_path: Path) -> None:
    tags = [["ab"[number % 2]] + ["rare"] * (number < 4) + ["c"] * (number % 3 == 0) for number in range(60)]
    lines = [f"{number}.png,{'|'.join(of)}" for number, of in enumerate(tags)]
    data = open_data(table(tmp_path, "image,tags", *lines))
    labels = data.labels("label")
    assert (labels[data.rows("train")].sum(axis=0) > 0).all()
    assert len(data.rows("val")) == pytest.approx(12, abs=1)
    assert labels[data.rows("val")].sum(axis=0).tolist() == pytest.approx([6, 6, 4, 1], abs=1)


# Parquet


def write(path: Path, columns: dict[str, Any], *, features: dict[str, Any] | None = None) -> Path:
    made = pa.table(columns)
    if features is not None:
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path)
    return path


def structs(count: int, *, paths: bool = False) -> pa.Array:
    rows = [{"bytes": picture(number), "path": f"{number}.png" if paths else None} for number in range(count)]
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def test_parquet_with_paths_is_a_table(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "b.png"])
    path = write(tmp_path / "x.parquet", {"file": ["a.png", "b.png"], "label": pa.array([10.0, None])})
    source = find_source(path)
    assert isinstance(source, TableSource)
    listing = source.listing()
    assert (listing.paths, ids_of(listing)) == (["a.png", "b.png"], ["10", None])


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_with_pictures_and_several_labels_is_a_table(tmp_path: Path, struct: bool) -> None:
    images = structs(3, paths=True) if struct else pa.array([picture(number) for number in range(3)])
    columns = {"scan": images, "root": [2, 10, None], "vowel": ["a", "b", "a"]}
    source = TableSource(
        write(tmp_path / "x.parquet", columns), options=DataOptions(label_column=("root", "vowel"))
    )
    listing = source.listing()
    assert listing.paths == (
        ["0.png", "1.png", "2.png"] if struct else [f"x.parquet/{row:06d}" for row in range(3)]
    )
    assert listing.heads["root"].ids == ("2", "10")
    assert listing.labels["root"].tolist() == [0, 1, -1]
    assert source.read(2) == picture(2)


def test_hugging_faces_table_goes_its_own_way_until_columns_are_named(tmp_path: Path) -> None:
    features = {
        "image": {"_type": "Image"},
        "fine_label": {"_type": "ClassLabel", "names": ["oak", "ash", "trout"]},
        "coarse_label": {"_type": "ClassLabel", "names": ["tree", "fish"]},
    }
    columns = {"image": structs(3), "fine_label": [2, 0, 1], "coarse_label": [1, 0, -1]}
    for part in ("train", "test"):
        path = write(tmp_path / f"{part}-0.parquet", columns, features=features)
    assert isinstance(find_source(tmp_path), ParquetSource)
    assert isinstance(find_source(path), ParquetSource)
    source = find_source(tmp_path, options=DataOptions(label_column=("coarse_label",)))
    assert isinstance(source, TableSource)
    listing = source.listing()
    assert listing.heads["label"].ids == ("tree", "fish")
    assert ids_of(listing) == ["fish", "tree", None] * 2
    assert listing.parts == ["test"] * 3 + ["train"] * 3
    assert source.read(4) == picture(1)


def test_files_beside_the_parts_are_not_used_and_are_named(tmp_path: Path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    columns = {"image": structs(2), "label": [0, 1], "sort": ["x", "y"]}
    write(tmp_path / "train-0.parquet", columns, features=features)
    write(tmp_path / "metadata.parquet", {"about": ["nothing"]})
    note = "not used, for the name begins with no part (train, val, test): 'metadata.parquet'"
    assert isinstance(find_source(tmp_path), ParquetSource)
    assert find_source(tmp_path).listing().notes == [note]
    listing = find_source(tmp_path, options=DataOptions(label_column=("sort",))).listing()
    assert listing.notes[0] == note
    assert ids_of(listing) == ["x", "y"]


def test_lists_in_parquet_are_several_classes_a_picture(tmp_path: Path) -> None:
    columns = {"image": structs(4), "tags": [["b", "a"], [], None, ["a"]]}
    listing = listed(write(tmp_path / "x.parquet", columns))
    assert presence(listing) == [[1, 1], [0, 0], [-1, -1], [1, 0]]


def test_parquet_that_is_no_table_is_one_line(tmp_path: Path) -> None:
    wide = write(tmp_path / "wide.parquet", {str(number): [1] for number in range(1001)})
    with pytest.raises(DataError, match="1,001 columns, the limit of a table is 1,000; a folder with Kaggle's"):
        find_source(wide).listing()
    with pytest.raises(UsageError, match="--root belongs to a column of paths"):
        listed(write(tmp_path / "x.parquet", {"image": structs(2), "label": [0, 1]}), root=str(tmp_path))
    write(tmp_path / "two" / "train.parquet", {"image": structs(2), "a": [0, 1]})
    write(tmp_path / "two" / "test.parquet", {"image": structs(2), "b": [0, 1]})
    with pytest.raises(DataError, match="train.parquet has other columns than test.parquet"):
        find_source(tmp_path / "two", options=DataOptions(label_column=("a",))).listing()


# The manifest of a table


def reopened(data: Data, path: Path) -> Data:
    data.manifest.write(path)
    return open_data(path)


def test_the_manifest_of_a_table_opens_its_pictures(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label", "a.png,x", "b.png,y", "a.png,x", "missing.png,y", "d.png,y")
    data = open_data(path)
    again = reopened(data, tmp_path / "manifest.parquet")
    assert again.manifest.hash() == data.manifest.hash()
    assert [again.path(row) for row in range(3)] == ["a.png", "b.png", "a.png#2"]
    assert again.read(2) == picture(0)
    stored = Manifest.read(tmp_path / "manifest.parquet").address
    assert stored == {
        "kind": "table",
        "root": str(tmp_path),
        "table": str(path),
        "image_column": "image",
        "allow_outside": False,
    }
    path.unlink()
    with pytest.raises(DataError, match="which is not there; put it back"):
        open_data(tmp_path / "manifest.parquet")


def test_the_manifest_of_a_table_with_a_root_and_bytes_opens_too(tmp_path: Path) -> None:
    pictures(tmp_path, ["far/a.png", "far/b.png", "tables/none.png"])
    path = tmp_path / "tables" / "x.csv"
    path.write_text("id,label\na,1\nb,2\n")
    data = open_data(path, options=DataOptions(root=str(tmp_path / "far")))
    assert reopened(data, tmp_path / "m.parquet").manifest.hash() == data.manifest.hash()
    stored = write(tmp_path / "x.parquet", {"scan": structs(4), "kind": ["p", "q", "p", "q"]})
    data = open_data(stored)
    assert reopened(data, tmp_path / "m.parquet").manifest.hash() == data.manifest.hash()


# Real data


def test_the_handwritten_graphemes_are_a_table_of_five_writers(shared_data: Path) -> None:
    path = shared_data / "graphemes-handwritten" / "labels.csv"
    heads = ("grapheme_root", "vowel_diacritic", "consonant_diacritic")
    listing = listed(path, label_column=heads, group_column="writer")
    assert len(listing.paths) == 2875
    assert {name: len(head) for name, head in listing.heads.items()} == dict(zip(heads, (132, 10, 5), strict=True))
    assert np.bincount(listing.labels["consonant_diacritic"]).tolist() == [2195, 220, 5, 170, 285]
    assert listing.heads["consonant_diacritic"].ids == ("0", "2", "3", "4", "5")
    assert listing.groups is not None
    writers = [f"writer{number}" for number in range(1, 6)]
    assert [listing.groups.count(writer) for writer in writers] == [576, 575, 576, 574, 574]
    with pytest.raises(
        DataError, match="several columns that could hold the classes: 'grapheme', 'grapheme_root'"
    ):
        listed(path)
