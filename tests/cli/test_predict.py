"""`resnets predict`: what it reads, what it prints, and how it ends, with a stranger's names throughout."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from resnets.cli import app
from resnets.cli.filewise import listed
from resnets.weights.modelfile import load


class Stdin:
    """A standard input that holds these bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def pictures(strange: Path) -> list[str]:
    return sorted(str(path) for path in (strange / "train").rglob("*") if path.is_file())


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_name_survives_as_json_in_the_order_given(
    strange: Path, strange_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = pictures(strange)[::-1]
    assert app(["predict", str(strange_model), "--json", "--top", "1", "--", *given]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.isascii()
    lines = json_lines(printed.out)
    assert [line["path"] for line in lines] == given
    assert {line["heads"]["label"][0]["id"] for line in lines} <= set(load(strange_model).heads["label"].ids)


def test_no_name_drives_a_terminal(strange: Path, strange_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["predict", str(strange_model), str(strange), str(strange / "no\x1b[31m\nsuch")]) == 1
    printed = capsys.readouterr()
    lines = printed.out.removesuffix("\n").split("\n")
    assert len(lines) == len(pictures(strange)) + 12 + 1  # train, val, and the one that is not there
    assert all(line.isprintable() for line in lines)
    assert all(line.isprintable() for line in printed.err.splitlines())
    assert printed.err.splitlines()[-1] == f"resnets: 1 of {len(lines)} files could not be read; each says why"


def test_no_name_is_a_formula_in_a_spreadsheet(
    strange: Path, strange_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = next(path for path in (strange / "train").iterdir() if path.name.startswith("<"))
    monkeypatch.chdir(folder)
    names = sorted(os.listdir())
    assert app(["predict", str(strange_model), "--out", str(tmp_path / "a.csv"), "--quiet", "--", *names]) == 0
    content = (tmp_path / "a.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.reader(io.StringIO(content, newline="")))
    assert len({row[0] for row in rows[1:]}) == len(names)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_parquet_is_chosen_by_the_ending_and_json_tells_what_was_written(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.parquet"
    assert app(["predict", str(strange_model), str(strange / "val"), "--out", str(out), "--json"]) == 0
    (record,) = json_lines(capsys.readouterr().out)
    assert record.pop("seconds") > 0
    assert record == {"files": 12, "errors": 0, "skipped": 0, "outputs": [str(out)]}
    assert pq.read_table(out).num_rows == 12 * 2


@pytest.mark.parametrize("divider", [b"\n", b"\r\n", b"\0"])
def test_a_list_comes_from_stdin(
    divider: bytes,
    strange: Path,
    strange_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = [path for path in pictures(strange) if "\n" not in path or divider == b"\0"]
    monkeypatch.setattr(sys, "stdin", Stdin(divider.join(map(os.fsencode, given)) + divider))
    assert app(["predict", str(strange_model), "-", "--json", "--top", "1"]) == 0
    assert [line["path"] for line in json_lines(capsys.readouterr().out)] == given


def test_a_list_may_lack_its_last_end_and_have_empty_lines() -> None:
    assert list(listed(b"a\n\n b \nc")) == ["a", " b ", "c"]
    assert list(listed(b"a\nb\0c")) == ["a\nb", "c"]
    assert list(listed(b"")) == []


def test_bad_files_are_rows_in_their_place_and_the_rest_is_done(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = pictures(strange)[0]
    (tmp_path / "text.png").write_text("no picture")
    given = ["none.png", good, str(tmp_path / "text.png"), str(tmp_path / "*.jpg"), good]
    assert app(["predict", str(strange_model), *given, "--json"]) == 1
    printed = capsys.readouterr()
    lines = json_lines(printed.out)
    assert [line["path"] for line in lines] == given
    assert ["error" in line for line in lines] == [True, False, True, True, False]
    assert printed.err == "resnets: 3 of 5 files could not be read; each says why\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top", "0"], "--top and --batch must be at least 1"),
        (["--out", "none/a.csv"], "there is no folder none"),
        (["--format", "parquet"], "give --out FILE.parquet"),
        (["--format", "csv", "--json"], "--json prints JSON lines"),
        (["--format", "xml"], "--format must be one of: table, jsonl, csv, parquet, got 'xml'"),
        (["--device", "gpu"], "--device must be cpu, cuda"),
    ],
)
def test_a_wrong_use_is_refused_before_anything_is_printed(
    flags: list[str], message: str, strange: Path, strange_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["predict", str(strange_model), str(strange), *flags]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_a_model_that_is_not_there_is_refused(strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["predict", "no/model.safetensors", str(strange)]) == 2
    assert "no/model.safetensors" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_no_half_file(
    strange: Path,
    strange_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise KeyboardInterrupt

    stdin = Stdin(b"")
    stdin.buffer = Interrupting()
    monkeypatch.setattr(sys, "stdin", stdin)
    command = ["predict", str(strange_model), str(strange / "val"), "-", "--out", str(tmp_path / "a.jsonl")]
    assert app(command) == 130
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "resnets: stopped by Ctrl-C\n")
    assert list(tmp_path.iterdir()) == []


def test_answers_in_parts_go_into_a_folder(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(strange_model), str(strange / "val"), "--out", f"{tmp_path}/answers/"]
    assert app(command) == 0
    assert app([*command, "--json"]) == 0  # nothing is left to do
    said, record = capsys.readouterr().out.splitlines()
    assert said == f"12 files in 1 part: {tmp_path}/answers"
    (line,) = json_lines(record)
    assert line.pop("seconds") > 0
    assert line == {"files": 12, "errors": 0, "skipped": 0, "outputs": [f"{tmp_path}/answers"]}
    (part,) = (tmp_path / "answers").glob("part-*")
    assert app([*command[:3], "--json"]) == 0
    assert part.read_text() == capsys.readouterr().out


def test_bad_files_in_parts_are_still_told_of(
    strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(strange_model), "none.png", "--out", f"{tmp_path}/answers/", "--format", "parquet"]
    for _ in range(2):
        assert app(command) == 1
        assert "1 of 1 files could not be read" in capsys.readouterr().err
    assert app([*command[:-1], "csv"]) == 2
