"""Tables from the command line: columns, groups, held-out combinations; training, resume and evaluation."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.integration.pictures import noise
from tests.integration.shell import resnets

SMALL = ("--epochs", "1", "--threads", "1", "--batch", "16", "--size", "12", "--model", "resnet20")
HEADS = ("--label-column", "shade", "--label-column", "shape")
GROUPED = (*HEADS, "--group-column", "who")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures by 6 people, of 3 shades and 2 shapes, with their table in a folder of its own."""
    place = tmp_path_factory.mktemp("tables")
    (place / "pictures").mkdir()
    (place / "tables").mkdir()
    lines = ["file,shade,shape,who"]
    for number in range(48):
        shade, shape = number % 3, number // 3 % 2
        picture = noise((10, 110, 190)[shade], number)
        picture.crop((0, 0, 12, 6) if shape else (0, 0, 6, 12)).resize((12, 12)).save(
            place / f"pictures/{number}.png"
        )
        lines.append(f"{number}.png,s{shade},{'flat' if shape else 'tall'},person{number // 8}")
    (place / "tables" / "made.csv").write_text("\n".join(lines) + "\n")
    return place


@pytest.fixture(scope="module")
def grouped(data: Path) -> str:
    """What training on groups has said; the run is runs/grouped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(data)
        patch.setenv("RESNETS_CACHE", str(data / "cache"))
        said = resnets("train", "tables/made.csv", "--root", "pictures", *GROUPED, *SMALL, "--name", "grouped")
    assert said.status == 0, said.err
    return said.err


@pytest.fixture(autouse=True)
def inside(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)


def split_of(run: Path) -> dict[str, str]:
    table = pq.read_table(run / "manifest.parquet")
    return dict(zip(table["path"].to_pylist(), table["split"].to_pylist(), strict=True))


def test_a_table_trains_resumes_and_is_evaluated_by_the_same_parts(
    data: Path, grouped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "made.csv: paths in 'file', classes in 'shade', 'shape', groups in 'who';" in grouped
    split = split_of(data / "runs" / "grouped")
    of_person = [{split[f"{8 * person + row}.png"] for row in range(8)} for person in range(6)]
    assert sorted(map(tuple, of_person)) == [("train",)] * 5 + [("val",)]
    evaluated = resnets("evaluate", "runs/grouped", "tables/made.csv", "--json")
    figures = json.loads(evaluated.out)
    assert (figures["split"], figures["n"], sorted(figures["heads"])) == ("val", 8, ["shade", "shape"])
    flags = "--label-column, --group-column, --root"
    assert figures["notes"] == [f"the columns and parts are those of training: {flags}"]
    monkeypatch.chdir(tmp_path)  # the root was given as it is called from another folder
    assert resnets("train", "--resume", data / "runs" / "grouped", "--epochs", "2").status == 0
    repeated = resnets("train", "--config", data / "runs/grouped/config.toml", "--epochs", "1", "--runs", "again")
    assert repeated.status == 0, repeated.err
    assert split_of(next((tmp_path / "again").iterdir())) == split


def test_options_of_evaluate_win_over_those_of_training(grouped: str) -> None:
    evaluated = resnets(
        "evaluate", "runs/grouped", "tables/made.csv", "--root", "pictures", "--split", "all", "--json"
    )
    figures = json.loads(evaluated.out)
    assert figures["n"] == 48
    assert figures["notes"] == []


def test_held_out_combinations_are_what_is_validated(data: Path) -> None:
    (data / "out.csv").write_text("shade,shape\ns1,flat\n")
    command = ("train", "tables/made.csv", "--root", "pictures", *HEADS, *SMALL, "--name", "held")
    said = resnets(*command, "--holdout-combinations", "out.csv", "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["n"] == 8
    split = split_of(data / "runs" / "held")
    assert {name for name, part in split.items() if part == "val"} == {
        f"{number}.png" for number in range(4, 48, 6)
    }
    evaluated = json.loads(resnets("evaluate", "runs/held", "tables/made.csv", "--json").out)
    assert (evaluated["split"], evaluated["n"]) == ("val", 8)


def test_a_table_of_lists_trains_several_classes_a_picture(data: Path) -> None:
    lines = [
        f"{number}.png,{'dark' if number % 3 == 0 else 'light'};{'x' if number % 2 else 'y'}"
        for number in range(48)
    ]
    (data / "pictures" / "tags.csv").write_text("\n".join(["file,tags", *lines]) + "\n")
    said = resnets("train", "pictures/tags.csv", *SMALL, "--name", "tags", "--json")
    assert said.status == 0, said.err
    assert "lists of classes in 'tags', joined by ';'" in said.err
    assert "map" in json.loads(said.out)["heads"]["label"]
    assert pq.read_table("runs/tags/manifest.parquet")["label"][0].as_py() == ["dark", "y"]
