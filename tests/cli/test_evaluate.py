"""`resnets evaluate`: figures for people and for scripts, with a stranger's names."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import resnets
from resnets.cli import app
from tests.integration.pictures import class_folders


def test_figures_for_scripts_have_the_documented_keys(
    strange: Path, strange_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.parquet"
    assert app(["evaluate", str(strange_model), str(strange), "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.isascii()
    result = json.loads(printed.out)
    assert {
        "n",
        "left_out",
        "left_out_files",
        "split",
        "precision",
        "heads",
        "seconds",
        "outputs",
    } <= result.keys()
    assert (result["n"], result["split"], result["precision"]) == (12, "val", "fp32")
    assert result["outputs"] == [str(out)]
    assert pq.read_table(out).num_rows == 12
    figures = result["heads"]["label"]
    low, high = figures["top1_interval"]
    assert low <= figures["top1"] <= high
    assert sum(one["n"] for one in figures["classes"].values()) == 12


def test_figures_for_people_show_names_that_cannot_drive_the_terminal(
    strange: Path, strange_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["evaluate", str(strange_model), str(strange), "--split", "train"]) == 0
    printed = capsys.readouterr()
    assert "training: 44 pictures, fp32" in printed.out
    assert "top-1" in printed.out
    assert all(line.isprintable() for line in (printed.out + printed.err).splitlines())
    assert r"\x1b[31mred" in printed.out


def test_a_weights_file_is_measured_with_its_receipt_and_what_was_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = class_folders(tmp_path / "pictures", {"dark": 4, "light": 4})
    torch.save(resnets.build("resnet20", num_classes=2).state_dict(), tmp_path / "resnet20-own.pth")
    assert app(["evaluate", str(tmp_path / "resnet20-own.pth"), str(pictures), "--split", "all"]) == 0
    said = capsys.readouterr().err
    assert "weights resnet20-own.pth (torchvision's names): 116 as they are (269,202 parameters)" in said
    assert "warning: resnet20-own.pth: assumed: pictures are prepared at 32x32" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "digits has 10 of 10 classes that the model does not know"),
        (["no/such/folder"], "there is no folder or file no/such/folder"),
        (["--split", "tets"], "--split must be one of: train, val, test, all, got 'tets' (did you mean test?)"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    strange: Path,
    strange_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = [] if not arguments[0].startswith("-") else [str(strange)]
    assert app(["evaluate", str(strange_model), *data, *arguments, "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.splitlines()[-1].startswith("resnets: ")
