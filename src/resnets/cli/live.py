"""A training run as it is watched: a line an epoch, and on a terminal a bar below that shows the one in hand."""

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from resnets.base.text import printable
from resnets.cli.figures import PARTS
from resnets.cli.terminal import Report, Terminal
from resnets.evaluation.score import OF_SCORE

if TYPE_CHECKING:
    from rich.console import RenderableType

BEST = "  * best"
LEAST_BAR = 8  # columns; what leaves it less room is not shown
SHOWN_HEADS, WIDEST_HEAD = 4, 16  # of several heads so many are shown, so many characters of a name

Event = dict[str, Any]
Column = tuple[str, int, Callable[[Event], str]]  # heading, width, the cell


@contextlib.contextmanager
def watching(terminal: Terminal) -> Iterator["Watch"]:
    """Yield what a training run calls with its events, and its `progress` with what is read before and after."""
    if terminal.interactive:
        with terminal.live() as show:
            yield Watch(terminal, show=show)
    else:
        yield Watch(terminal)


class Watch:
    """Called with each event of a run; remembers the last loss, and when the first step was seen."""

    def __init__(self, terminal: Terminal, *, show: "Callable[[RenderableType], None] | None" = None) -> None:
        self.terminal = terminal
        self.show = show
        self.columns: list[Column] = []
        self.loss: float | None = None
        self.first: tuple[int, float] | None = None  # step and time
        self.lines: dict[str, Report] = {}  # of `progress`, where there is no live display

    def __call__(self, event: Event) -> None:
        match event["event"]:
            case "step":
                self.loss = event["loss"]
            case "progress" if self.show is not None:
                self.show(self.bar(event))
            case "epoch":
                self.epoch(event)
            case "left_out":
                self.terminal.note(f"left out: {printable(event['path'])}: {printable(event['reason'])}")
            case "measuring":
                part = PARTS.get(event["part"], event["part"])
                self.progress(f"measuring the {part} pictures", event["done"], event["total"])
            case _ if "text" in event:
                self.terminal.note(printable(event["text"]))

    def progress(self, label: str, done: int, total: int | None) -> None:
        """Draw how far something other than training is."""
        if self.show is not None:
            self.show(self.line([label], done, total, [f"{done:,}/{total:,}"] if total else []))
        else:
            self.lines.setdefault(label, self.terminal.lines(label))(done, total)

    def epoch(self, event: Event) -> None:
        """Print the line of an epoch that ended, after the headings if it is the first."""
        if not self.columns:
            self.columns = self.columns_for(event)
            headings = "  ".join(heading.rjust(width) for heading, width, _ in self.columns)
            self.terminal.note(headings + (BEST if "best" in event else ""))
        cells = [cell(event).rjust(width) for _, width, cell in self.columns]
        self.terminal.note("  ".join(cells) + (" *" if event.get("best") else ""))

    def columns_for(self, event: Event) -> list[Column]:
        """The columns that an event has values for, and that a terminal has room for."""
        columns: list[Column] = []
        judged = [*JUDGED, *_of_heads(event)]
        for every in ([*judged, RATE, WAITING, TIME], [*JUDGED, RATE, WAITING, TIME], [*JUDGED, TIME]):
            columns = [column for column in every if column[2](event)]
            needed = sum(width + 2 for _, width, _ in columns) - 2 + len(BEST)
            if self.show is None or needed <= self.terminal.console.width:
                break
        return columns

    def bar(self, event: Event) -> "RenderableType":
        """epoch 3/40 ━━━━━━━━ 45/90  loss 0.532  1,234/s  waiting 2%  matrix 61%  0:12 left"""
        before = [f"epoch {event['epoch']}/{event['epochs']}"]
        after = [f"{event['batch']}/{event['batches']}"]
        if self.loss is not None:
            after.append(f"loss {self.loss:.3f}")
        left = self.remaining(event["step"], event["steps"])
        room = self.terminal.console.width - LEAST_BAR - len(" ".join(["", *before, *after, left or "00:00 left"]))
        wanted = [f"{event['images_per_second']:,.0f}/s", f"waiting {event['waiting']:.0%}"]
        if "matrix_share" in event:
            wanted.append(f"matrix {event['matrix_share']:.0%}")
        for text, needed in zip(wanted, accumulate(len(text) + 1 for text in wanted), strict=True):
            if needed <= room:
                after.append(text)
        return self.line(before, event["batch"], event["batches"], [*after, left])

    def line(self, before: list[str], done: int, total: int | None, after: list[str]) -> "RenderableType":
        """Texts, a bar that takes the width that is left, texts."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(expand=True, padding=(0, 1))
        cells: list[RenderableType] = [
            *before,
            ProgressBar(total=total, completed=done, pulse=total is None),
            *after,
        ]
        for cell in cells:
            grid.add_column(ratio=None if isinstance(cell, str) else 1, no_wrap=True)
        grid.add_row(*cells)
        return grid

    def remaining(self, step: int, steps: int) -> str:
        """The time the rest will take at the rate so far."""
        now = time.monotonic()
        if self.first is None:
            self.first = (step, now)
        first_step, first_time = self.first
        if step <= first_step:
            return ""
        return f"{duration((now - first_time) / (step - first_step) * (steps - step))} left"


def duration(seconds: float) -> str:
    """0:07, 12:30, 3:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(key: str, form: str) -> Callable[[Event], str]:
    return lambda event: format(event[key], form) if event.get(key) is not None else ""


def _of_heads(event: Event) -> list[Column]:
    """A column for each of a few heads: what it brings to the score."""
    heads = event.get("val_heads", {})
    if len(heads) > SHOWN_HEADS:
        return []
    words = {name: printable(name)[:WIDEST_HEAD] for name in heads}
    return [(word, max(6, len(word)), _part(name)) for name, word in words.items()]


def _part(head: str) -> Callable[[Event], str]:
    def cell(event: Event) -> str:
        figures = event["val_heads"].get(head, {})
        return next((f"{figures[key]:.4f}" for key in OF_SCORE if key in figures), "")

    return cell


JUDGED: list[Column] = [
    ("epoch", 5, _number("epoch", "d")),
    ("loss", 7, _number("loss", ".4f")),
    ("val loss", 8, _number("val_loss", ".4f")),
    ("val top-1", 9, _number("val_top1", ".2%")),
    ("val mAP", 8, _number("val_map", ".4f")),
    ("val score", 9, _number("val_score", ".4f")),
]
RATE: Column = ("images/s", 8, _number("images_per_second", ",.0f"))
WAITING: Column = ("waiting", 7, _number("waiting", ".0%"))
TIME: Column = ("time", 7, lambda event: duration(event["seconds"]))
