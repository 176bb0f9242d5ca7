"""`resnets models` and `resnets summary`."""

import json

import pytest

from resnets import models
from resnets.cli import app


def test_models_are_listed_with_what_tells_them_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(models())
    assert len(set(lines)) >= len(lines) - 2  # v1 and v1.5 differ in bottlenecks alone: 18 and 34 are the same


def test_models_as_json_are_specs_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["models", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seconds"] >= 0
    by_name = {record["name"]: record for record in result["models"]}
    assert by_name["resnet50_v1"]["stride_in"] == "1x1"
    assert by_name["resnet20"]["depths"] == [3, 3, 3]


def test_a_summary_has_the_sums_of_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["summary", "resnet50", "--size", "224"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "25,557,032 parameters; 4.09 G multiply-adds for one picture of 3 × 224 × 224"
    assert lines[1].split() == ["conv1", "Conv2d", "64", "×", "112", "×", "112", "9,408", "118,013,952"]


def test_a_summary_as_json_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["summary", "resnet20", "--size", "48x32", "--classes", "7", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["size"] == [48, 32]
    assert result["layers"][-1]["output"] == [7]
    assert result["parameters"] == sum(layer["parameters"] for layer in result["layers"]) == 269_722 - 3 * 65
    assert result["multiply_adds"] == sum(layer["multiply_adds"] for layer in result["layers"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet52"], "there is no network named 'resnet52'; did you mean resnet152"),
        (["resnet50", "--size", "big"], "--size must be N or HxW in pixels"),
        (["resnet50", "--classes", "0"], "must be"),
        (["none/such.safetensors"], "none/such.safetensors"),
    ],
)
def test_a_summary_that_cannot_be_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(["summary", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("resnets: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
