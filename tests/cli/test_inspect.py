"""`resnets inspect`: a table that fits, JSON, a page with nothing but text and pictures, a stranger's names."""

import html.parser
import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from resnets.cli import app
from resnets.data.manifest import Manifest
from tests.understanding.faults import encoded, picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures of each of two classes, one of them twice, with a stray file."""
    chance = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for name in ("a class with a name of many words", "b"):
        (root / name).mkdir(parents=True)
        for number in range(12):
            (root / name / f"{number}.png").write_bytes(encoded(picture(chance)))
    long = "a-long-name-" * 15
    (root / "b" / f"{long}.png").write_bytes((root / "b" / "3.png").read_bytes())
    (root / ".DS_Store").write_bytes(b"")
    return root


def test_the_table_fits_a_terminal_and_names_the_worst(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["inspect", str(pictures), "--out", str(tmp_path / "out"), "--leave-out", "duplicates,blank"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if not line.startswith(("wrote", "train:"))]
    assert max(map(cell_len, table)) <= 80
    assert lines[0] == "pictures"
    assert "files      25, 24 kept, 1 left out, 1 stray" in lines
    (duplicates,) = [line for line in table if line.startswith("duplicates")]
    assert duplicates.split()[1] == "1"
    assert "…" in duplicates
    assert any(line.startswith("strays") and ".DS_Store" in line for line in table)
    assert lines[-1].endswith(str(tmp_path / "out" / "manifest.parquet"))


def test_json_is_one_object_with_the_documented_keys(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["inspect", str(pictures), "--json", "--out", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"files", "kept", "left_out", "findings", "seconds", "outputs"} <= found.keys()
    assert (found["files"], found["kept"], found["left_out"]) == (25, 25, [])
    assert {(finding["kind"], finding["count"]) for finding in found["findings"]} == {
        ("duplicates", 1),
        ("strays", 1),
    }
    assert [Path(path).name for path in found["outputs"]] == ["report.html", "manifest.parquet"]


class Page(html.parser.HTMLParser):
    """What a browser would do with a page: its tags, what they load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_pictures_and_names_as_text_alone(
    strange: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["inspect", str(strange), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert all(line.isprintable() for line in (printed.out + printed.err).splitlines())
    source = (tmp_path / "out" / "report.html").read_text("utf-8")
    page = Page()
    page.feed(source)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "form", "svg", "base"}
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert sum(link.startswith("data:image/") for link in page.links) > 5
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in source
    assert "<img src=x onerror=alert(1)>&amp;" in page.text
    assert r"a\x0ab.png" in page.text
    assert all(line.isprintable() for line in page.text.splitlines())
    manifest = Manifest.read(tmp_path / "out" / "manifest.parquet")
    files = {os.fsencode(path.relative_to(strange)) for path in strange.rglob("*") if path.is_file()}
    assert {os.fsencode(path) for path in manifest.paths()} == files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder or file nowhere"),
        (["empty"], "holds no class folders"),
        (["file.txt"], "is no source of pictures"),
        (["pictures", "--out", "file.txt"], "cannot write to file.txt: it is a file; give --out a folder"),
        (["pictures", "--out", "no/such"], "the folder above it is not there; choose another --out"),
        (["pictures", "--out", "/proc/out"], "cannot write to /proc/out"),
        (["pictures", "--leave-out", "blnak", "--out", "out"], "did you mean blank"),
        (
            ["pictures", "--accept", "some", "--labels"],
            "--accept must be a whole number or one of: all, got 'some'",
        ),
        (["pictures", "--split", "tets", "--labels"], "did you mean test?"),
        (["pictures", "more"], "has no use for 'more'"),
        ([], "resnets inspect needs DATA"),
    ],
)
def test_what_cannot_be_inspected_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pictures.parent)
    Path("empty").mkdir()
    Path("file.txt").write_text("text")
    before = sorted(os.listdir("."))
    assert app(["inspect", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err.splitlines()[-1]
    assert sorted(os.listdir(".")) == before


def test_a_folder_that_can_no_longer_be_written_is_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    if os.access(out, os.W_OK):
        pytest.skip("root may write everywhere")
    assert app(["inspect", str(pictures), "--out", str(out)]) == 2
    assert "Permission denied; choose another --out" in capsys.readouterr().err


def test_a_class_that_training_lacks_is_refused_as_train_refuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = np.random.default_rng(0)
    for folder in ("train/cat", "train/dog", "val/Cat"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(encoded(picture(chance)))
    assert app(["inspect", str(tmp_path)]) == 2
    assert "has the class 'Cat' that train lacks" in capsys.readouterr().err
