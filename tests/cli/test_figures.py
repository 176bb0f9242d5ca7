"""Figures in words, and the command that is printed to be typed."""

import sys
from pathlib import Path

import pytest

from resnets.base.program import own_command
from resnets.cli.figures import headline, percent, score_line


def test_a_figure_has_its_n_its_interval_and_the_part_it_is_of() -> None:
    figures = {"n": 1360, "top1": 0.98891, "top1_interval": [0.9718, 0.9957]}
    assert headline("", figures, split="test") == (
        "98.89% of 1,360 test pictures right (top-1, 95% interval 97.18 to 99.57%)"
    )
    assert headline("root\x1b", figures, split="val").startswith("root\\x1b: 98.89% of 1,360 validation pictures")
    assert headline("", figures, split=None).startswith("98.89% of 1,360 pictures right")


def test_a_multi_label_figure_says_what_it_is() -> None:
    assert headline("", {"n": 10, "f1_micro": 0.5}, split="val") == (
        "f1 0.5000 over all classes of 10 validation pictures"
    )


def test_mean_average_precision_has_its_interval_and_f1_beside_it() -> None:
    figures = {"n": 10, "f1_micro": 0.5, "f1_macro": 0.4, "map": 0.75, "map_interval": [0.7, 0.8]}
    assert headline("tags", figures, split="val") == (
        "tags: mean average precision 0.7500 (95% interval 0.7000 to 0.8000), f1 0.4000 a class, "
        "of 10 validation pictures"
    )


def test_the_score_of_several_heads_has_its_interval_and_their_weights() -> None:
    score = {
        "value": 0.93124,
        "interval": [0.9204, 0.94111],
        "sklearn": 0.9,
        "weights": {"ro\x1bot": 2.0, "v": 0.5},
    }
    assert score_line(score) == "score 0.9312 (95% interval 0.9204 to 0.9411): ro\\x1bot 2, v 0.5"


def test_a_share_that_is_not_there_is_a_dash() -> None:
    assert percent(None) == "-"
    assert percent(0.5) == "50.00%"


def test_the_command_to_type_next_is_the_one_that_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "resnets"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert own_command() == [str(program)]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_command() == ["resnets"]
    monkeypatch.setattr(sys, "argv", ["/x/resnets/__main__.py"])
    assert own_command() == [sys.executable, "-m", "resnets"]
    monkeypatch.setattr(sys, "argv", ["a_notebook"])
    assert own_command() == ["resnets"]
