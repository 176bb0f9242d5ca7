import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnets.base.errors import DataError, UsageError
from resnets.data.dataset import open_data
from resnets.data.decode import DecodeError, decode
from tests.data.strange_names import strange_folder


def picture(number: int, format: str = "PNG", mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(target, format)
    return target.getvalue()


def folder(root: Path, **classes: int) -> Path:
    """So many pictures a class, no two equal."""
    for place, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number:03d}.png").write_bytes(picture(1000 * place + number))
    return root


# Known data


def test_digits_have_360_test_pictures_whatever_the_seed() -> None:
    data = open_data("digits")
    assert [len(data.rows(part)) for part in ("train", "val", "test", "all")] == [1149, 288, 360, 1797]
    labels = data.labels("label")
    assert np.bincount(labels[data.rows("test")]).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert data.channels == {"grey": 1797}
    assert data.summary() == "digits: 1,797 pictures (1,149 train, 288 val, 360 test), 10 classes"
    assert not data.parts_stated
    assert data.notes == []


def test_hymenoptera_keeps_the_gif_that_is_no_photograph_and_names_it(
    shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = open_data(shared_data / "hymenoptera")
    assert data.summary() == "hymenoptera: 398 pictures (245 train, 153 val), 2 classes, 1 beside"
    assert data.notes == ["1 GIF among 397 JPEG files, kept: 'train/ants/imageNotFound.gif'"]
    assert caplog.messages == data.notes
    assert data.parts_stated
    assert data.formats == {"JPEG": 397, "GIF": 1}
    assert np.bincount(data.labels("label")[data.rows("val")]).tolist() == [70, 83]


def test_hymenoptera_with_planted_faults(
    shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "planted"
    shutil.copytree(shared_data / "hymenoptera", root, copy_function=shutil.copyfile)
    ants, bees = root / "train" / "ants", root / "train" / "bees"
    for stray in (root / ".DS_Store", ants / ".DS_Store", bees / "Thumbs.db"):
        stray.write_bytes(b"\0\0\0\x01Bud1")
    photograph = ants / "0013035.jpg"
    photograph.rename(ants / "0013035.JPG")  # an upper-case ending
    Image.open(ants / "formica.jpeg").save(ants / "a png.jpg", "PNG")
    whole = (ants / "0013035.JPG").read_bytes()
    (ants / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (ants / "truncated in its header.jpg").write_bytes(whole[:100])
    (bees / "text.png").write_text("this is no picture")
    (bees / "empty.jpg").write_bytes(b"")
    data = open_data(root)
    assert data.summary() == "planted: 400 pictures (247 train, 153 val), 2 classes, 3 left out, 1 beside, 3 stray"
    assert {data.path(row): reason for row, reason in data.left_out.items()} == {
        "train/ants/truncated in its header.jpg": "a JPEG file whose header is cut short or damaged",
        "train/bees/empty.jpg": "an empty file",
        "train/bees/text.png": "not a picture: text",
    }
    assert caplog.messages[:3] == [
        f"left out: {data.path(row)} ({reason})" for row, reason in data.left_out.items()
    ]
    row = {data.path(row): int(row) for row in data.rows("train")}
    assert {"train/ants/0013035.JPG", "train/ants/a png.jpg"} <= set(row)
    with pytest.raises(DecodeError, match="a truncated JPEG file"):  # only a full decode can know
        decode(data.read(row["train/ants/truncated.jpg"]))
    with pytest.raises(DataError, match=r"has files to be left out \(4\), the first is 'train/ants/truncated in"):
        open_data(root, strict=True)


def test_cifar10_gives_a_tenth_of_train_to_validation(shared_data: Path) -> None:
    data = open_data(shared_data / "cifar10")
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [45000, 5000, 10000]
    assert np.bincount(data.labels("label")[data.rows("val")]).tolist() == [500] * 10
    assert data.notes[0].startswith("96 JPEG among 59904 WEBP files, kept: 'train/")


def test_fashion_mnist_opens_as_it_is(shared_data: Path) -> None:
    data = open_data(shared_data / "fashion-mnist", all_train=True)
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [60000, 0, 10000]
    assert data.name == "fashion-mnist"
    assert data.heads["label"].names[:2] == ("T-shirt/top", "Trouser")


# Parts


def test_undivided_folders_are_divided_four_to_one(tmp_path: Path) -> None:
    data = open_data(folder(tmp_path / "x", a=40, b=10))
    assert [len(data.rows(part)) for part in ("train", "val", "test")] == [40, 10, 0]
    assert np.bincount(data.labels("label")[data.rows("val")]).tolist() == [8, 2]


def test_the_split_does_not_depend_on_file_names(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", a=20, b=20)
    before = open_data(root)
    held = {before.read(row) for row in before.rows("val")}
    for path in list(root.glob("*/*.png")):
        path.rename(path.with_name(f"{hash(path.name)}.png"))
    after = open_data(root)
    assert {after.read(row) for row in after.rows("val")} == held


def test_all_train_keeps_nothing_back_but_stated_or_fixed_test_parts(tmp_path: Path) -> None:
    undivided = open_data(folder(tmp_path / "x", a=20, b=20), all_train=True)
    assert [len(undivided.rows(part)) for part in ("train", "val", "test")] == [40, 0, 0]
    digits = open_data("digits", all_train=True)
    assert [len(digits.rows(part)) for part in ("train", "val", "test")] == [1437, 0, 360]
    assert digits.rows("test").tolist() == open_data("digits").rows("test").tolist()


def test_equal_pictures_in_two_classes_are_named_and_stay_together(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", a=20, b=20)
    for number in range(20):
        shutil.copy(root / "a" / f"{number:03d}.png", root / "a" / f"copy {number}.png")
    shutil.copy(root / "a" / "000.png", root / "b" / "same.png")
    data = open_data(root)
    assert data.notes == ["equal pictures that stand in two classes: 1 ('a/000.png = b/same.png')"]
    train, val = ({data.read(row) for row in data.rows(part)} for part in ("train", "val"))
    assert not train & val


def test_equal_pictures_in_two_stated_parts_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "x" / "train", a=3, b=3).parent
    shutil.copytree(root / "train" / "a", root / "val" / "a")
    (root / "val" / "a" / "002.png").unlink()
    notes = open_data(root).notes
    assert notes == [
        "val has no picture of the class 'b'",
        "equal pictures that stand in two parts: 2 "
        "('train/a/000.png = val/a/000.png', 'train/a/001.png = val/a/001.png')",
    ]


def test_a_class_whose_pictures_are_all_left_out_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", a=5, b=5)
    (root / "c").mkdir()
    (root / "c" / "broken.png").write_bytes(b"text")
    data = open_data(root)
    assert data.heads["label"].ids == ("a", "b", "c")
    assert "train has no picture of the class 'c'" in data.notes


def test_an_unknown_part_is_a_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a part is one of train, val, test or all, got 'training'"):
        open_data(folder(tmp_path / "x", a=2, b=2)).rows("training")


# What is refused


def test_no_readable_picture_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_text("text")
    with pytest.raises(
        DataError, match=r"no readable picture in .*: what is there \(2\) was left out, the first is 'a/1.png'"
    ):
        open_data(tmp_path)


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    names = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="holds no picture; check that the right data was given"):
        open_data(tmp_path / "x.parquet")


def test_one_class_is_an_error_for_training_alone(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", only=5)
    with pytest.raises(DataError, match=r"has one class, 'only', for 'label'; two at least are needed"):
        open_data(root)
    assert open_data(root, for_training=False).kept == 5


def test_a_test_part_alone_cannot_be_trained_on(tmp_path: Path) -> None:
    root = folder(tmp_path / "x" / "test", a=2, b=2).parent
    with pytest.raises(DataError, match="has only a test part, nothing to train on"):
        open_data(root)
    assert len(open_data(root, for_training=False).rows("test")) == 4


def test_unlabelled_rows_are_left_out_with_the_reason(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", a=3, b=3)
    (root / "loose.png").write_bytes(picture(5))
    assert list(open_data(root).left_out.values()) == ["a picture outside the class folders"]


def test_only_ten_left_out_files_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder(tmp_path / "x", a=3, b=3)
    for number in range(25):
        (root / "a" / f"text {number:02d}").write_text("text")
    with caplog.at_level(logging.WARNING, logger="resnets"):
        data = open_data(root)
    assert len(data.left_out) == 25
    assert sum(message.startswith("left out: text") or "a/text" in message for message in caplog.messages) == 10
    assert "left out: 15 more files; the manifest names them all" in caplog.messages


# Class names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.csv", 'a,Ant\nb,"Bee, honey"\n'),
        ("names.csv", '\ufeffid,name\r\na,Ant\r\n\r\nb,"Bee, honey",ignored\r\n'),
        ("names.tsv", "folder\tname\na\tAnt\nb\tBee, honey\n"),
        ("names.json", '{"b": "Bee, honey", "a": "Ant"}'),
    ],
)
def test_shown_names_come_from_a_file_and_the_order_does_not(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    data = open_data(folder(tmp_path / "x", b=2, a=2, c=2), classes=tmp_path / name)
    assert data.heads["label"].ids == ("a", "b", "c")
    assert data.heads["label"].names == ("Ant", "Bee, honey", "c")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,Ant\nantt,x\n", "names the class 'antt', which the data lacks; the classes are 'a', 'bees'"),
        ("a,Ant\nbee,x\n", "names the class 'bee', which the data lacks; did you mean 'bees'?"),
        ("a,Ant\na,Other\n", "line 2: the class 'a' is there twice"),
        ("a\n", "line 1: an id and a name are needed, got 'a'"),
        ('{"a": ["n1", "Ant"]}', "must give each class id one name as text; 'a' does not"),
        ('{"a": ', "are no JSON that can be read"),
    ],
)
def test_wrong_class_names_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(DataError) as caught:
        open_data(folder(tmp_path / "x", a=2, bees=2), classes=tmp_path / "names")
    assert reason in str(caught.value)


def test_a_missing_file_of_class_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the class names .*nothing.csv cannot be read"):
        open_data(folder(tmp_path / "x", a=2, b=2), classes=tmp_path / "nothing.csv")


# Channels, names


def test_the_channels_of_the_kept_pictures_are_counted(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", a=4, b=4)
    (root / "a" / "grey.png").write_bytes(picture(50, mode="L"))
    (root / "a" / "alpha.png").write_bytes(picture(51, mode="RGBA"))
    assert open_data(root).channels == {"rgb": 8, "grey": 1, "rgba": 1}


def test_strange_names_are_text_everywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = strange_folder(tmp_path)
    (root / "train" / "broken \x1b[31m\n.png").write_bytes(picture(0))
    data = open_data(root)
    assert len(data.rows("train")) > 30
    assert all(decode(data.read(row)).size == (16, 16) for row in data.rows("all"))
    for text in [*caplog.messages, data.summary(), *data.notes]:
        assert text.isprintable()
        text.encode("utf-8")
    (root / "val" / "an \x1b[31mother\n").mkdir()
    (root / "val" / "an \x1b[31mother\n" / "1.png").write_bytes(picture(1))
    with pytest.raises(DataError) as caught:
        open_data(root)
    assert str(caught.value).isprintable()
    assert "'an \\x1b[31mother\\x0a'" in str(caught.value)
