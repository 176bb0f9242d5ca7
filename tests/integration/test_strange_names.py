"""One folder of a stranger's names meets every verb: names are text, never markup, and every byte survives."""

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from resnets.data.manifest import Manifest
from resnets.evaluation.predictions import load_predictions
from resnets.training.config import read_config
from resnets.weights.modelfile import load
from tests.data.strange_names import MARKUP_CLASS, strange_folder
from tests.integration.shell import Said, plain, resnets

BROKEN = b"\x1b[2J=broken\n\xff.png"  # a text file of a picture's ending
FOLDER = b"caf\xe9 =1+1\x1b[31m\n<b>"
NAME = os.fsdecode(b"-r\xfcn \x1b[31m\n;`id`")
SMALL = ("--epochs", "1", "--threads", "1", "--batch", "16")


@dataclass(frozen=True, kw_only=True)
class Travelled:
    """The pictures, the run that was trained on them, and what was said while it was."""

    data: Path
    run: Path
    said: Said

    def pictures(self) -> list[str]:
        """All files that are pictures, sorted."""
        files = [str(path) for path in self.data.rglob("*") if path.is_file()]
        return sorted(path for path in files if not os.fsencode(path).endswith(BROKEN))


@pytest.fixture(scope="module")
def travelled(tmp_path_factory: pytest.TempPathFactory) -> Travelled:
    """The strange folder, moved to where its own path is strange, with a text file; trained on once."""
    place = tmp_path_factory.mktemp("strange")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNETS_CACHE", str(place / "cache"))
        data = place / os.fsdecode(FOLDER)
        try:
            os.rename(strange_folder(place), data)
        except OSError:
            pytest.skip("this file system takes no names that are not UTF-8")
        (data / "train" / MARKUP_CLASS / os.fsdecode(BROKEN)).write_text("no picture")
        runs = place / os.fsdecode(b"r\xe9sultats")
        said = resnets("train", data, *SMALL, "--runs", runs, f"--name={NAME}", "--json")
    return Travelled(data=data, run=runs / NAME, said=said)


def test_training_tells_people_and_scripts_names_as_text(travelled: Travelled) -> None:
    assert travelled.said.status == 0
    assert plain(travelled.said.err)
    assert r"left out: train/<img src=x onerror=alert(1)>&amp;" in travelled.said.err
    assert r"\x1b[2J=broken\x0a\xff.png (not a picture: text)" in travelled.said.err
    assert travelled.said.out.isascii()
    record = travelled.said.json
    assert record["run"] == str(travelled.run)
    assert {Path(path).parent for path in record["outputs"]} == {travelled.run}
    assert (record["split"], record["n"], record["left_out"]) == ("val", 12, 1)


def test_the_run_folder_keeps_every_byte_of_every_name(travelled: Travelled) -> None:
    manifest = Manifest.read(travelled.run / "manifest.parquet")
    files = {os.fsencode(path.relative_to(travelled.data)) for path in travelled.data.rglob("*") if path.is_file()}
    assert {os.fsencode(path) for path in manifest.paths()} == files
    assert list(manifest.left_out().values()) == ["not a picture: text"]
    assert load(travelled.run / "model.safetensors").heads == manifest.heads
    assert manifest.heads["label"].ids == (MARKUP_CLASS, "caf\\xe9 \x1b[31mred")
    events = (travelled.run / "events.jsonl").read_text()
    assert events.isascii()
    assert plain(events)
    address, _ = read_config(travelled.run / "config.toml")
    assert address == str(travelled.data)
    paths = load_predictions(travelled.run / "predictions.parquet").paths
    assert sorted(paths) == sorted(path for path in manifest.paths() if path.startswith("val/"))


def test_the_run_is_extended(travelled: Travelled) -> None:
    said = resnets("train", "--resume", travelled.run, "--epochs", "2")
    assert said.status == 0
    assert "resumed at step" in said.err
    assert plain(said.err + said.out)


def test_its_config_repeats_it_in_a_folder_with_a_plain_name(
    travelled: Travelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = travelled.run / "config.toml"
    said = resnets("train", "--config", config, "--epochs", "1", "--runs", "again", "--json")
    assert said.status == 0
    (made,) = os.listdir("again")
    assert re.fullmatch(r"[A-Za-z0-9._-]+", made)
    assert not made.startswith(("-", "."))


def test_evaluate_shows_and_writes_names_as_text(travelled: Travelled) -> None:
    said = resnets("evaluate", travelled.run, travelled.data, "--threads", "1")
    assert said.status == 0
    assert plain(said.out + said.err)
    assert r"caf\xe9 \x1b[31mred" in said.out
    assert r"\x1b[2J=broken\x0a\xff.png" in said.out

    out = travelled.run.parent / os.fsdecode(b"=\xe9\x1b.parquet")
    said = resnets("evaluate", travelled.run, travelled.data, "--threads", "1", "--out", out, "--json")
    assert (said.status, said.out.isascii()) == (0, True)
    (left_out,) = said.json["left_out_files"]
    assert os.fsencode(left_out["path"]).endswith(BROKEN)
    assert said.json["outputs"] == [str(out)]
    assert set(said.json["heads"]["label"]["classes"]) == {MARKUP_CLASS, "caf\\xe9 \x1b[31mred"}
    assert {f"{travelled.data}/{path}" for path in load_predictions(out).paths} <= set(travelled.pictures())


def test_evaluate_takes_the_manifest_as_a_source(travelled: Travelled) -> None:
    manifest = travelled.run / "manifest.parquet"
    said = resnets("evaluate", travelled.run, manifest, "--threads", "1", "--split", "train", "--json")
    assert said.status == 0
    assert (said.json["n"], said.json["left_out"]) == (44, 1)
    assert plain(said.err)


def test_predict_shows_a_table_that_cannot_drive_a_terminal(travelled: Travelled) -> None:
    said = resnets("predict", travelled.run, travelled.data, "--threads", "1")
    assert said.status == 1  # the text file
    assert plain(said.out + said.err)
    lines = said.out.removesuffix("\n").split("\n")
    assert len(lines) == len(travelled.pictures()) + 1
    assert [line for line in lines if r"\xff.png  error: not a picture: text" in line]


def test_predict_writes_csv_without_formulas(travelled: Travelled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(travelled.data / "train" / MARKUP_CLASS)
    names = sorted(os.listdir("."))
    out = travelled.run.parent / os.fsdecode(b"=\xe9.csv")
    said = resnets("predict", travelled.run, "--threads", "1", "--out", out, "--", *names)
    assert said.status == 1
    assert plain(said.out + said.err)
    content = out.read_bytes().decode("utf-8", "surrogateescape")
    head, *rows = csv.reader(io.StringIO(content, newline=""))
    assert head == ["path", "head", "rank", "class", "id", "probability", "error"]
    assert {row[0].removeprefix("'") for row in rows} == {name.removeprefix("'") for name in names}
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_predict_writes_json_lines_that_give_every_name_back(travelled: Travelled) -> None:
    pictures = travelled.pictures()
    said = resnets("predict", travelled.run, "--format", "jsonl", "--threads", "1", "--", *pictures)
    assert (said.status, said.err) == (0, "")
    assert said.out.isascii()
    assert [line["path"] for line in said.json_lines] == pictures
    assert {line["heads"]["label"][0]["class"] for line in said.json_lines} <= {
        MARKUP_CLASS,
        "caf\\xe9 \x1b[31mred",
    }


def test_predict_writes_parquet_with_the_bytes_of_every_name(travelled: Travelled) -> None:
    out = travelled.run.parent / os.fsdecode(b"\xe9.parquet")
    said = resnets(
        "predict", travelled.run, travelled.data, "--top", "1", "--threads", "1", "--out", out, "--json"
    )
    assert said.status == 1
    assert (said.json["files"], said.json["errors"], said.json["outputs"]) == (57, 1, [str(out)])
    with out.open("rb") as handle:
        rows = pq.read_table(handle).to_pylist()
    paths = [row["path_bytes"] or row["path"].encode() for row in rows]
    assert sorted(path for path, row in zip(paths, rows, strict=True) if row["error"] is None) == sorted(
        map(os.fsencode, travelled.pictures())
    )


def test_summary_and_models_say_nothing_that_drives_a_terminal(travelled: Travelled) -> None:
    for command in (("summary", travelled.run), ("summary", travelled.run / "model.safetensors"), ("models",)):
        said = resnets(*command)
        assert (said.status, said.err) == (0, "")
        assert plain(said.out)
        assert resnets(*command, "--json").json


@pytest.mark.parametrize(
    "command",
    [
        ("train", "{strange}"),
        ("train", "--resume", "{strange}"),
        ("train", "digits", "--model", "{strange}"),
        ("train", "digits", "--config", "{strange}"),
        ("train", "digits", "--classes", "{strange}"),
        ("train", "digits", "--track", "{strange}"),
        ("train", "digits", "--{strange}", "1"),
        ("evaluate", "{strange}", "digits"),
        ("predict", "{strange}", "x.png"),
        ("summary", "{strange}"),
        ("{strange}",),
    ],
)
def test_an_error_about_a_strange_name_is_one_plain_line(command: tuple[str, ...]) -> None:
    strange = os.fsdecode(b"no\xe9\x1b[31m\nsuch")
    said = resnets(*[word.replace("{strange}", strange) for word in command])
    assert (said.status, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert plain(said.err)
    assert "such" in said.err
