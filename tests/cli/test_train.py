"""`resnets train`: what is refused before anything is written, and what is printed at the end."""

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
        (["no/such/folder"], "there is no folder or file 'no/such/folder'"),
        (["digitz"], "did you mean 'digits'?"),
        (["digits", "--model", "resnet21"], "there is no network named 'resnet21'; did you mean resnet20"),
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
