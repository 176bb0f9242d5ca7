"""`resnets embed`: where features go, what is printed, and how it ends."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from resnets.cli import app
from resnets.weights.modelfile import load


def test_parquet_holds_a_row_a_file_and_json_tells_what_was_written(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features.parquet"
    command = ["embed", str(strange_model), str(strange / "val"), "--out", str(out)]
    assert app(command) == 0
    assert capsys.readouterr().out == f"12 files: {out}\n"
    assert app([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record.pop("seconds") > 0
    assert record == {"files": 12, "errors": 0, "skipped": 0, "outputs": [str(out)]}
    features = pq.read_table(out)["features"]
    assert len(features) == 12
    assert features.type.list_size == load(strange_model).network.spec.features


def test_json_lines_go_to_stdout_with_every_name_and_the_floats_of_parquet(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["embed", str(strange_model), str(strange), "--out", str(tmp_path / "f.pq")]) == 0
    capsys.readouterr()
    assert app(["embed", str(strange_model), str(strange), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.out.isascii()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert all(Path(row["path"]).is_file() for row in rows)
    expected = pq.read_table(tmp_path / "f.pq")["features"].to_pylist()
    assert np.array_equal(np.float32([row["features"] for row in rows]), np.float32(expected))


def test_features_in_parts_go_into_a_folder_and_bad_files_are_told_of(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["embed", str(strange_model), str(strange / "val"), "none.png", "--out", f"{tmp_path}/features/"]
    for _ in range(2):  # the second time nothing is left to do
        assert app(command) == 1
        printed = capsys.readouterr()
        assert printed.out == f"13 files in 1 part: {tmp_path}/features\n"
        assert "1 of 13 files could not be read; each says why" in printed.err
    assert (tmp_path / "features" / "part-00000-of-00001.parquet").exists()


@pytest.mark.parametrize(
    "options",
    [[], ["--out", "f.npy"], ["--out", "f.csv"], ["--format", "parquet"], ["--format", "parquet", "--json"]],
)
def test_features_for_no_file_or_an_unknown_one_are_refused(
    options: list[str], strange: Path, strange_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["embed", str(strange_model), str(strange), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "give --out FILE.parquet, FILE.jsonl or FOLDER/, or --json for JSON lines on stdout" in printed.err


def test_an_out_folder_that_is_not_there_is_refused(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["embed", str(strange_model), str(strange), "--out", str(tmp_path / "no" / "f.parquet")]) == 2
    assert "there is no folder" in capsys.readouterr().err
