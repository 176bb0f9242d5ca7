"""What is printed when a command fails, and what it ends with."""

import errno
import os
from pathlib import Path

import pytest

from resnets.base import errors
from resnets.cli.failures import OutputClosed, failed


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (errors.UsageError("--epochs must be at least 1, got 0"), 2, "--epochs must be at least 1, got 0"),
        (errors.Incomplete("2 of 3 could not be read"), 1, "2 of 3 could not be read"),
        (errors.NotFinite("the loss became nan"), 3, "the loss became nan"),
        (errors.Interrupted("stopped by SIGTERM", signal_number=15), 143, "stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (MemoryError(), 3, "there is not enough memory; try a smaller --batch or --size"),
        (OutOfMemoryError("CUDA out of memory"), 3, "there is not enough memory; try a smaller --batch or --size"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "no space left on the disk; free some space and"),
        (OSError(errno.ENOSPC, "No space left", "/d/x"), 3, "no space left on the disk: /d/x; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/d/x"), 2, "Permission denied: /d/x"),
        (KeyError("x"), 70, "a fault of ours: KeyError: 'x'; please report it"),
        (RuntimeError("two\n  lines"), 70, "a fault of ours: RuntimeError: two lines; please report it"),
        (OSError("no number"), 70, "a fault of ours: OSError: no number; please report it"),
    ],
)
def test_each_failure_has_its_status_and_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failed(error, debug=False) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"resnets: {line}")
    assert printed.err.count("\n") == 1


def test_a_processor_that_lacks_memory_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert failed(caught.value, debug=False) == 3
    assert "not enough memory" in capsys.readouterr().err


def test_a_reader_that_went_away_is_no_error_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(OutputClosed(), debug=True) == 141
    assert capsys.readouterr().err == ""


def test_debug_shows_where_it_happened_and_ends_with_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError) as caught:
        {}["missing"]
    assert failed(caught.value, debug=True) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("test_failures.py" in line for line in lines)
    assert lines[-1].startswith("resnets: a fault of ours: KeyError")


@pytest.mark.parametrize("debug", [False, True])
def test_a_name_in_a_message_cannot_drive_the_terminal(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[31m\nb" + os.fsdecode(b"\xff")
    failed(errors.DataError(f"{name}: no picture"), debug=debug)
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert r"resnets: a\x1b[31m\x0ab\xff: no picture" in printed


def test_a_missing_file_nobody_explained_is_still_no_fault_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "x").read_bytes()
    assert failed(caught.value, debug=False) == 2
    assert capsys.readouterr().err == f"resnets: No such file or directory: {tmp_path / 'x'}\n"
