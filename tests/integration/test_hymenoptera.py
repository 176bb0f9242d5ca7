"""Ants and bees of a known tutorial: the folder as it is, and a copy with what real folders have in them.

The one file that is no photograph, a GIF that says that a picture was not found, is a picture all the same: it is
kept, and named in a warning, so that a person can decide.
"""

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from resnets.data.manifest import Manifest
from resnets.training.run import read_events
from tests.integration.shell import Said, plain, resnets, snapshot

GIF = "train/ants/imageNotFound.gif"
TINY = ("--model", "resnet18", "--size", "32", "--epochs", "1", "--threads", "1")


@pytest.fixture(scope="module")
def hymenoptera(shared_data: Path) -> Path:
    return shared_data / "hymenoptera"


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(run: Path) -> list[dict[str, object]]:
    return Manifest.read(run / "manifest.parquet").table.to_pylist()


def test_the_folder_runs_as_it_is_and_the_gif_is_kept_and_named(hymenoptera: Path) -> None:
    said = resnets("train", hymenoptera, *TINY, "--json")
    assert said.status == 0, said.err
    assert f"1 GIF among 397 JPEG files, kept: '{GIF}'" in said.err
    assert "hymenoptera: 398 pictures (245 train, 153 val), 2 classes, 1 beside" in said.err
    record = said.json
    assert (record["run"], record["split"], record["n"]) == ("runs/hymenoptera-resnet18", "val", 153)
    assert record["left_out"] == 0
    assert {name: one["n"] for name, one in record["heads"]["label"]["classes"].items()} == {
        "ants": 70,
        "bees": 83,
    }

    rows = rows_of(Path(record["run"]))
    assert Counter(row["split"] for row in rows) == {"train": 245, "val": 153}
    (gif,) = [row for row in rows if row["format"] == "GIF"]
    assert (gif["path"], gif["split"], gif["label"], gif["left_out"]) == (GIF, "train", "ants", None)
    assert (gif["width"], gif["height"], gif["mode"]) == (300, 300, "P")

    said = resnets("predict", record["run"], hymenoptera / GIF, hymenoptera / "train/ants/formica.jpeg", "--json")
    assert said.status == 0
    assert {answer["class"] for answer in said.json_lines[0]["heads"]["label"]} == {"ants", "bees"}


def planted(hymenoptera: Path, root: Path) -> Path:
    """A small copy, 17 pictures to train and 6 to validate with, and then what people's folders have."""
    for part, counts in (("train", {"ants": 9, "bees": 8}), ("val", {"ants": 3, "bees": 3})):
        for name, count in counts.items():
            (root / part / name).mkdir(parents=True)
            for file in sorted((hymenoptera / part / name).glob("*.jpg"))[:count]:
                shutil.copyfile(file, root / part / name / file.name)
    ants, bees = root / "train" / "ants", root / "train" / "bees"
    photographs = sorted(ants.iterdir())
    photographs[0].rename(ants / "UPPER.JPG")
    sorted(bees.iterdir())[0].rename(bees / "Upper.Jpeg")
    Image.open(photographs[1]).save(ants / "a png.jpg", "PNG")
    whole = photographs[2].read_bytes()
    photographs[2].write_bytes(whole[: len(whole) // 2])
    photographs[2].rename(ants / "cut.jpg")
    (root / "val" / "bees" / "cut early.jpg").write_bytes(whole[:100])
    (bees / "text.png").write_text("this is no picture")
    (bees / "empty.jpg").touch()
    shutil.copyfile(ants / "UPPER.JPG", root / "train" / "loose.jpg")
    for stray in ("train/.DS_Store", "train/ants/Thumbs.db", "val/bees/desktop.ini", "val/ants/._a.jpg"):
        (root / stray).write_bytes(b"\0")
    (root / ".ipynb_checkpoints").mkdir()
    (root / ".ipynb_checkpoints" / "a.jpg").write_bytes(whole)
    (root / "README.md").write_text("Ants and bees.")
    (root / "train" / "labels.csv").write_text("file,label\n")
    return root


AT_SIGHT = {
    "train/bees/empty.jpg": "an empty file",
    "train/bees/text.png": "not a picture: text",
    "train/loose.jpg": "a picture outside the class folders",
    "val/bees/cut early.jpg": "a JPEG file whose header is cut short or damaged",
}
IN_TRAINING = {"train/ants/cut.jpg": "a truncated JPEG file: it ends before the picture does"}


@pytest.fixture
def trained(hymenoptera: Path, tmp_path: Path) -> tuple[Path, Said]:
    root = planted(hymenoptera, tmp_path / "planted")
    return root, resnets("train", root, *TINY, "--name", "run")


def test_every_file_is_counted_named_and_listed(trained: tuple[Path, Said], tmp_path: Path) -> None:
    _, said = trained
    assert said.status == 0, said.err
    assert plain(said.err + said.out)
    # the log
    assert "planted: 24 pictures (18 train, 6 val), 2 classes, 4 left out, 2 beside, 5 stray" in said.err
    for path, reason in AT_SIGHT.items():
        assert f"warning: left out: {path} ({reason})\n" in said.err
    for path, reason in IN_TRAINING.items():
        assert f"left out: {path}: {reason}\n" in said.err
    # the summary
    assert "of 6 validation pictures right" in said.out
    assert "left out: 5 files, named in runs/run/manifest.parquet\n" in said.out
    # the manifest
    rows = rows_of(tmp_path / "runs" / "run")
    assert {row["path"]: row["left_out"] for row in rows if row["left_out"]} == AT_SIGHT | IN_TRAINING
    kept = [row for row in rows if not row["left_out"]]
    assert Counter((row["split"], row["label"]) for row in kept) == {
        ("train", "ants"): 9,  # cut.jpg is gone, "a png.jpg" was added
        ("train", "bees"): 8,
        ("val", "ants"): 3,
        ("val", "bees"): 3,
    }
    formats = {row["path"]: row["format"] for row in kept}
    assert formats["train/ants/a png.jpg"] == "PNG"
    assert formats["train/ants/UPPER.JPG"] == formats["train/bees/Upper.Jpeg"] == "JPEG"
    manifest = Manifest.read(tmp_path / "runs" / "run" / "manifest.parquet")
    assert (manifest.strays, manifest.beside) == (5, 2)
    # the events
    events = read_events(tmp_path / "runs" / "run" / "events.jsonl")
    assert {event["path"]: event["reason"] for event in events if event["event"] == "left_out"} == IN_TRAINING


def test_evaluate_and_predict_name_the_same_files(trained: tuple[Path, Said], tmp_path: Path) -> None:
    root, _ = trained
    said = resnets("evaluate", "runs/run", root, "--split", "all", "--threads", "1", "--json")
    assert said.status == 0
    assert said.json["n"] == 23
    named = {file["path"]: file["reason"] for file in said.json["left_out_files"]}
    assert named == AT_SIGHT | IN_TRAINING
    assert said.json["left_out"] == len(named)

    said = resnets("predict", "runs/run", root, "--threads", "1", "--json")
    assert said.status == 1
    failed = {
        str(Path(line["path"]).relative_to(root)): line["error"] for line in said.json_lines if "error" in line
    }
    assert failed == {path: reason for path, reason in named.items() if path != "train/loose.jpg"}
    assert len(said.json_lines) == 23 + len(named)


def test_with_strict_data_one_file_is_an_error_and_nothing_is_written(hymenoptera: Path, tmp_path: Path) -> None:
    root = planted(hymenoptera, tmp_path / "planted")
    before = snapshot(tmp_path)
    said = resnets("train", root, *TINY, "--strict-data")
    assert (said.status, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "has files to be left out (5), the first is 'train/ants/cut.jpg' (a truncated JPEG file" in said.err
    assert "go without --strict-data" in said.err
    for path in AT_SIGHT:
        (root / path).unlink()
    assert "(1), the first is 'train/ants/cut.jpg'" in resnets("train", root, *TINY, "--strict-data").err
    (root / "train/ants/cut.jpg").unlink()
    assert not (tmp_path / "runs").exists()
    assert set(snapshot(tmp_path)) <= set(before)
    assert resnets("train", root, *TINY, "--strict-data").status == 0


def test_a_phones_rotation_is_undone_before_the_network_sees_it(hymenoptera: Path, tmp_path: Path) -> None:
    """The first photograph, stored lying down with the orientation that a phone writes, is trained on upright."""
    file = sorted((hymenoptera / "val" / "bees").glob("*.jpg"))[0]
    upright = Image.open(file)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    content = io.BytesIO()
    lying.save(content, "JPEG", exif=exif, quality=95)
    for name in ("ants", "bees"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number, one in enumerate(sorted((hymenoptera / "val" / name).glob("*.jpg"))[:8]):
            shutil.copyfile(one, tmp_path / "pictures" / name / f"{number}.jpg")
    (tmp_path / "pictures" / "bees" / "0.jpg").write_bytes(content.getvalue())
    said = resnets("train", "pictures", *TINY, "--json")
    assert said.status == 0
    rows = {row["path"]: (row["width"], row["height"]) for row in rows_of(Path(json.loads(said.out)["run"]))}
    assert rows["bees/0.jpg"] == upright.size
