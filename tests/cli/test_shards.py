"""`resnets shards`: what it says and writes, with a stranger's names."""

import json
from pathlib import Path

import pytest

from resnets import open_data
from resnets.cli import app


def test_shards_of_strange_names_are_written_and_read(
    strange: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    assert app(["shards", str(strange), str(out), "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    data = open_data(strange, for_training=False)
    assert record["pictures"] == {part: len(data.rows(part)) for part in ("train", "val")}
    assert record["shards"] == 2
    assert record["outputs"] == sorted(str(path) for path in out.iterdir())
    assert open_data(out, for_training=False).heads == data.heads


def test_a_left_out_file_is_counted(tmp_path: Path, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "notes.png").write_text(name)
        for number, path in enumerate(sorted(strange.rglob("*.png"))[:6]):
            (tmp_path / "in" / name / f"{number}.png").write_bytes(path.read_bytes())
    assert app(["shards", str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("; 2 files left out, see manifest.parquet\n")
    assert app(["shards", str(tmp_path / "in"), str(tmp_path / "strict"), "--strict-data"]) == 2
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "."], ". is there already; choose another name"),
        (["digits", "no/such/place"], "cannot write no/such/place: its folder is not there"),
        (["digits", "out", "--megabytes", "0"], "--megabytes must be at least 1, got 0"),
        (["nothing", "out"], "there is no folder or file nothing"),
    ],
)
def test_a_wrong_use_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app(["shards", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
