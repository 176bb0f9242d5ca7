"""The real process: how fast it answers, what it imports, how it ends."""

import json
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "pyarrow", "sklearn", "PIL")
COUNTING = "sum(number * number for number in range(1_000_000))"  # by a bare interpreter
HELP_COUNTINGS = 5


def resnets(*arguments: str, **options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "resnets", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | options
    )


def heavy_modules_after(code: str) -> list[str]:
    """Which heavy packages a fresh process has imported when it has run `code`."""
    probe = f"{code}\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    return [name for name in HEAVY if f"'{name}'" in done.stderr.splitlines()[-1]]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["models"]])
def test_help_version_and_models_import_nothing_heavy(arguments: list[str]) -> None:
    assert heavy_modules_after(f"from resnets.cli import app; assert app({arguments!r}) == 0") == []


def test_the_check_for_heavy_imports_can_fail() -> None:
    assert heavy_modules_after("import numpy") == ["numpy"]


def processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_there_in_a_blink() -> None:
    turns = range(5)
    counting = min(processor_seconds([sys.executable, "-c", COUNTING]) for _ in turns)
    seconds = min(processor_seconds([sys.executable, "-m", "resnets", "--help"]) for _ in turns)
    assert seconds < HELP_COUNTINGS * counting  # whatever else the machine does


def test_the_module_and_the_command_are_the_same() -> None:
    from resnets import __version__

    command = Path(sys.executable).with_name("resnets")
    if not command.exists():
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == resnets("--version").stdout == f"resnets {__version__}\n"


def test_an_error_is_one_line_and_exit_status_2() -> None:
    done = resnets("train", "--ecpochs", "3", "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "resnets: resnets train has no option --ecpochs (did you mean --epochs?); " + (
        "see resnets train --help\n"
    )


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "resnets", "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 141
    assert errors == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told_in_one_line() -> None:
    command = [sys.executable, "-m", "resnets", "models"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert done.stderr == "resnets: no space left on the disk; free some space and try again\n"


def test_closed_streams_are_no_fault() -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m resnets models >&- 2>&-", shell=True, check=False, timeout=60
    )
    assert done.returncode == 0


def test_output_is_json_whatever_the_terminal_speaks() -> None:
    done = resnets("models", "--json", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "resnet50" in [model["name"] for model in json.loads(done.stdout)["models"]]


def test_a_terminal_that_lacks_a_character_gets_its_number() -> None:
    done = resnets("train", "--größe", "3", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith(r"resnets: resnets train has no option --gr\xf6\xdfe")
