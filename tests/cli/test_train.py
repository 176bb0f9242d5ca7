"""`resnets train`: what is refused before anything is written, and what is printed at the end."""

import json
import shlex
import tomllib
from pathlib import Path

import pytest

from resnets.cli import app


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command prints."""
    assert app(["train", *arguments, "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("resnets: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_pictures_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "resnets train needs DATA" in refusal(capsys)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--lr", "0.1"], "--lr"),
        (["--seed", "0"], "--seed"),  # the default, but given by hand
        (["--no-flip", "--epochs", "9"], "--no-flip"),
        (["--config", "run.toml"], "--config"),
        (["digits"], "DATA (digits)"),
    ],
)
def test_a_resume_refuses_by_name_what_would_change_the_run(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, "--resume", "runs/x", *flags)
    assert line.startswith(f"resnets: {named.replace('--no-', '--')} cannot be given with --resume")
    assert "--epochs, --threads, --track" in line


def test_a_run_that_is_not_there_cannot_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "runs/x" in refusal(capsys, "--resume", "runs/x", "--epochs", "9", "--threads", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wieght_decay = 0.1", "there is no option in run.toml named 'wieght_decay'; did you mean weight_decay"),
        ("epochs = 'ten'", "run.toml: epochs must be a whole number, got 'ten'"),
        ("epochs = ", "run.toml is not TOML"),
        ("lr = -1.0", "--lr must be above 0, got -1.0"),
    ],
)
def test_a_wrong_config_file_is_refused(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.toml").write_text(text)
    assert message in refusal(capsys, "digits", "--config", "run.toml")


def test_a_config_file_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read none.toml: No such file or directory" in refusal(capsys, "--config", "none.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/folder"], "there is no folder or file no/such/folder"),
        (["digitz"], "did you mean digits"),
        (["digits", "--model", "resnet21"], "there is no network named 'resnet21'; did you mean resnet"),
        (["digits", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["digits", "--size", "0"], "--size must be from 1 to 8192 pixels"),
        (["digits", "--augment", "rrc", "--pad", "2"], "--pad belongs to --augment pad-crop, not to rrc"),
        (["digits", "--name", "a/b"], "--name is one folder name, got 'a/b'"),
        (["digits", "--track", "wandd"], "wandd"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_nothing_written(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert message in refusal(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_told_to_scripts_then_extended_and_told_to_people(
    strange: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.toml").write_text("epochs = 5\nseed = 3\nbatch = 11\nprecision = 'fp32'\n")
    flags = ["--config", "run.toml", "--epochs", "1", "--threads", "1", "--name", "first"]
    assert app(["train", str(strange), *flags, "--json"]) == 0
    printed = capsys.readouterr()
    assert all(line.isprintable() for line in printed.err.splitlines())
    record = json.loads(printed.out)
    assert {"run", "model", "split", "n", "heads", "seconds", "outputs"} <= record.keys()
    assert (record["run"], record["split"], record["n"]) == ("runs/first", "val", 12)
    assert record["model"] in record["outputs"]
    resolved = tomllib.loads(Path("runs/first/config.toml").read_text())
    assert (resolved["epochs"], resolved["seed"], resolved["batch"]) == (1, 3, 11)  # flags win over the file

    assert app(["train", "--resume", "runs/first", "--epochs", "2"]) == 0
    printed = capsys.readouterr()
    assert "2 epochs" in printed.err
    figure, model, command = printed.out.splitlines()
    assert " of 12 validation pictures right (top-1, 95% interval " in figure
    assert model == "model:    runs/first/model.safetensors"
    program, verb, *arguments = shlex.split(command.removeprefix("predict:"))
    assert (program, verb) == ("resnets", "predict")
    assert app([verb, *arguments]) == 0  # what is printed can be typed
    assert capsys.readouterr().out.startswith(arguments[-1])
