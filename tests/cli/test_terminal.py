"""stdout has the result alone, stderr everything else; nothing but lines where stderr is no terminal."""

import json
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from resnets.cli.failures import OutputClosed
from resnets.cli.live import Watch, duration, watching
from resnets.cli.terminal import Terminal, table

log = logging.getLogger("resnets")


def test_a_result_for_scripts_is_one_line_of_json_that_any_parser_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = {"path": "é\n" + os.fsdecode(b"\xff"), "loss": float("nan"), "top": [float("inf"), 0.5], "t": (1,)}
    Terminal(json=True).emit(record)
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert printed.out.isascii()
    assert json.loads(printed.out) == {**record, "loss": None, "top": [None, 0.5], "t": [1]}


def test_warnings_of_the_package_are_lines_on_stderr_with_escaped_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Terminal():
        log.warning("left out: %s", "a\x1b[2J.png")
        log.info("not shown")
    log.warning("after the command")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "warning: left out: a\\x1b[2J.png\n"


def test_warnings_of_other_packages_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning("over\n  two lines"), UserWarning, "x.py", 3)
    assert capsys.readouterr().err == "warning: over two lines\n"


def test_quiet_silences_all_but_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(quiet=True) as terminal:
        log.warning("unseen")
        terminal.note("unseen")
        with terminal.progress("reading") as report, watching(terminal) as watch:
            report(1, 2)
            watch({"event": "epoch", "epoch": 1, "loss": 1.0, "seconds": 1.0})
        log.error("seen")
    assert capsys.readouterr().err == "error: seen\n"


def test_what_became_of_weights_is_shown_but_to_who_wants_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with Terminal(quiet=quiet):
            logging.getLogger("resnets.weights").info("weights a.pth: 3 as they are")
    assert capsys.readouterr().err == "weights a.pth: 3 as they are\n"


def test_debug_shows_the_remarks_too(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(debug=True):
        log.info("going on in 0.5 s")
    assert capsys.readouterr().err == "going on in 0.5 s\n"


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Terminal().progress("reading", unit="pictures") as report:
        report(1, 2000)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("resnets.cli.terminal.PLAIN_PAUSE_SECONDS", 0.0)
        report(1000, 2000)
        report(2000, None)
    assert capsys.readouterr().err == "reading: 1,000 of 2,000 pictures\nreading: 2,000 pictures\n"


def test_a_closed_stdout_ends_the_command_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(OutputClosed):
            Terminal().say("x")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            closed.flush()  # else closing complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_columns_are_aligned_by_the_cells_a_terminal_shows() -> None:
    lines = table(["path", "share"], [["茶.png", "9%"], ["tea\x07.png", "10%"]], right=[1])
    assert lines == ["path         share", "茶.png          9%", "tea\\x07.png    10%"]


def test_an_epoch_is_a_line_and_the_best_has_a_star(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal, watching(terminal) as watch:
        watch({"event": "plan", "text": "resnet20"})
        watch({"event": "progress", "step": 1, "steps": 9})
        watch({"event": "left_out", "path": "a\x1b.png", "reason": "no picture"})
        watch(an_epoch(1, best=False))
        watch(an_epoch(2, best=True))
        watch({"event": "something new"})
    assert capsys.readouterr().err.splitlines() == [
        "resnet20",
        "left out: a\\x1b.png: no picture",
        "epoch     loss  val loss  val top-1  images/s  waiting     time  * best",
        "    1   0.5000    0.2500     93.75%    12,345       3%     1:05",
        "    2   0.5000    0.2500     93.75%    12,345       3%     1:05 *",
    ]


def test_several_heads_have_a_score_and_a_column_each(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal, watching(terminal) as watch:
        watch(an_epoch_of_heads(1))
    assert capsys.readouterr().err.splitlines() == [
        "epoch     loss  val loss  val score    root  a\\x07b  tags_and_more  images/s  waiting     time  * best",
        "    1   0.5000    0.2500     0.8125  0.7500  0.5000         0.9000    12,345       3%     1:05 *",
    ]


@pytest.mark.parametrize(
    ("width", "left_out"), [(200, set()), (80, {"root"}), (60, {"root", "images/s"}), (20, {"root", "images/s"})]
)
def test_what_a_terminal_has_no_room_for_is_left_out(width: int, left_out: set[str]) -> None:
    from rich.console import Console

    terminal = Terminal()
    terminal._console = Console(width=width, stderr=True)
    columns = Watch(terminal, show=lambda _: None).columns_for(an_epoch_of_heads(1))
    assert {"root", "images/s"} - {heading for heading, _, _ in columns} == left_out


def an_epoch_of_heads(number: int) -> dict[str, Any]:
    heads = {"root": {"macro_recall": 0.75, "top1": 0.7}, "a\x07b": {"map": 0.5}, "tags_and_more": {"map": 0.9}}
    epoch = {key: value for key, value in an_epoch(number, best=True).items() if key != "val_top1"}
    return epoch | {"val_score": 0.8125, "val_heads": heads}


def test_without_validation_its_columns_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal() as terminal, watching(terminal) as watch:
        watch({key: value for key, value in an_epoch(1, best=False).items() if not key.startswith("val")})
    assert capsys.readouterr().err.splitlines()[0].split()[:4] == ["epoch", "loss", "images/s", "waiting"]


@pytest.mark.parametrize("width", [40, 60, 70, 80, 120])
def test_the_bar_fits_the_terminal(width: int, drawn: Callable[[int, list[dict[str, Any]]], list[str]]) -> None:
    events = [
        {"event": "step", "loss": 12.345},
        {"event": "progress", "step": 1, "steps": 900, "epoch": 1, "epochs": 100, "batch": 1, "batches": 9}
        | {"images_per_second": 123456.7, "waiting": 0.1, "matrix_share": 0.614},
    ]
    lines = drawn(width, events)
    assert len(lines) == 1
    assert lines[0].startswith("epoch 1/100")
    assert ("123,457/s" in lines[0]) == (width >= 60)
    assert ("waiting 10%" in lines[0]) == (width >= 70)
    assert ("matrix 61%" in lines[0]) == (width >= 80)


@pytest.fixture
def drawn() -> Callable[[int, list[dict[str, Any]]], list[str]]:
    """(columns, events) -> the lines of the live display."""
    from rich.console import Console

    def draw(width: int, events: list[dict[str, Any]]) -> list[str]:
        terminal = Terminal()
        terminal._console = console = Console(width=width, height=20, stderr=True, color_system=None)
        shown: list[Any] = []
        watch = Watch(terminal, show=shown.append)
        for event in events:
            watch(event)
        with console.capture() as captured:
            console.print(shown[-1])
        return captured.get().splitlines()

    return draw


def test_on_a_terminal_lines_stay_and_the_bar_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Terminal() as terminal, watching(terminal) as watch:
            watch.progress("looking at the pictures", 5, 56)
            watch(an_epoch(1, best=True))
            log.warning("left out: %s", "a\x1b[2J.png")
        with terminal.progress("measuring") as report:
            report(3, 4)
        stderr.flush()
        pieces = []
        while select.select([reader], [], [], 0.1)[0]:
            pieces.append(os.read(reader, 4096))
        seen = b"".join(pieces).decode()
    os.close(reader)
    assert capsys.readouterr().out == ""
    assert "looking at the pictures" in seen
    assert "5/56" in seen
    assert "3/4" in seen
    assert "    1   0.5000    0.2500     93.75%     1:05 *" in seen  # narrow: without images/s
    assert "warning: left out: a\\x1b[2J.png" in seen
    assert seen.rstrip().endswith("\x1b[2K")  # the last line was wiped


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (7, "0:07"), (59.6, "1:00"), (11100, "3:05:00")])
def test_durations_read_as_clocks(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def an_epoch(number: int, *, best: bool) -> dict[str, Any]:
    return {
        "event": "epoch",
        "epoch": number,
        "loss": 0.5,
        "val_loss": 0.25,
        "val_top1": 0.9375,
        "images_per_second": 12345.0,
        "waiting": 0.031,
        "seconds": 65.0,
        "best": best,
    }
