"""Where a command prints: the result on stdout; progress, warnings and remarks on stderr."""

import contextlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from resnets.base.text import printable
from resnets.cli.failures import OutputClosed

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_PAUSE_SECONDS = 10.0  # between two lines of progress where stderr is no terminal
REDRAWS_PER_SECOND = 5
WEIGHTS = "resnets.weights"  # the logger of receipts: shown, where other remarks are for --debug

Report = Callable[[int, int | None], None]  # done so far, all where that is known


class Terminal:
    """The two streams of one command. Inside its `with` block the package's warnings are printed by it.

    json: results are JSON. quiet: stderr has errors alone. interactive: stderr is a terminal that may be redrawn.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.debug = debug
        self.interactive = sys.stderr.isatty() and not quiet
        self.started = time.monotonic()
        self._console: Console | None = None

    def __enter__(self) -> "Terminal":
        self._handler = _Lines(self)
        self._logger = logging.getLogger("resnets")
        self._level, self._showwarning = self._logger.level, warnings.showwarning
        self._logger.addHandler(self._handler)
        self._logger.setLevel(logging.ERROR if self.quiet else logging.DEBUG if self.debug else logging.WARNING)
        logging.getLogger(WEIGHTS).setLevel(logging.ERROR if self.quiet else logging.INFO)
        warnings.showwarning = self._show_warning
        return self

    def __exit__(self, *_: object) -> None:
        warnings.showwarning = self._showwarning
        self._logger.setLevel(self._level)
        logging.getLogger(WEIGHTS).setLevel(logging.NOTSET)
        self._logger.removeHandler(self._handler)

    @property
    def console(self) -> "Console":
        """rich's console on stderr."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        return self._console

    def seconds(self) -> float:
        """Since the command began."""
        return round(time.monotonic() - self.started, 3)

    def say(self, text: str = "") -> None:
        """One line of the result for people; the caller has made names `printable`."""
        self._write(text)

    def emit(self, record: dict[str, Any]) -> None:
        """One JSON object on one line of stdout. ASCII, so that every name survives; NaN and infinity are null."""
        self._write(json.dumps(_finite(record), allow_nan=False))

    def _write(self, line: str) -> None:
        try:
            print(line)
        except BrokenPipeError as error:
            raise OutputClosed from error

    def note(self, text: str) -> None:
        """One line on stderr; nothing with --quiet."""
        if not self.quiet:
            self.remark(text)

    def remark(self, text: str) -> None:
        """One line on stderr, above a live display."""
        if self._console is not None:
            from rich.text import Text

            self.console.print(Text(text))
        else:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def progress(self, label: str, *, unit: str = "", hidden: bool = False) -> Iterator[Report]:
        """Yield `report(done, all)`: a bar that goes away at the end, or a line now and then; hidden: nothing."""
        if self.quiet or hidden:
            yield lambda done, total: None
        elif self.interactive:
            with self._bar(label, unit) as report:
                yield report
        else:
            yield self.lines(label, unit)

    @contextlib.contextmanager
    def _bar(self, label: str, unit: str) -> Iterator[Report]:
        from rich import progress as bars

        is_bytes = unit == "bytes"
        bar = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=None),
            bars.DownloadColumn() if is_bytes else bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            redirect_stdout=False,  # stdout is the result's
            redirect_stderr=False,
            refresh_per_second=REDRAWS_PER_SECOND,
            expand=True,
        )
        with bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def lines(self, label: str, unit: str = "") -> Report:
        """Progress as a line now and then, for a stderr that is no terminal."""
        last = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal last
            if time.monotonic() - last >= PLAIN_PAUSE_SECONDS:
                last = time.monotonic()
                of = f" of {total:,}" if total is not None else ""
                self.note(f"{label}: {done:,}{of} {unit}".rstrip())

        return report

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[["RenderableType"], None]]:
        """Yield `show(renderable)`, which draws the last lines of the terminal; they go away at the end."""
        from rich.live import Live

        display = Live(
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=REDRAWS_PER_SECOND,
        )
        with display:
            yield display.update

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: str | None = None,
    ) -> None:
        """Other packages' warnings: their text in one line; where it came from with --debug."""
        where = f" ({filename}:{lineno})" if self.debug else ""
        self.note(f"warning: {printable(' '.join(str(message).split()))}{where}")


class _Lines(logging.Handler):
    """The package's log as lines of the terminal."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        kind = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self.terminal.remark(kind + printable(record.getMessage()))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Lines of a table in columns; the columns numbered in `right` are aligned to the right.

    Widths are what a terminal shows, where some characters take two cells.
    """
    from rich.cells import cell_len

    shown = [list(headings), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(row[column]) for row in shown) for column in range(len(headings))]

    def line(row: Sequence[str]) -> str:
        cells = []
        for column, cell in enumerate(row):
            gap = " " * (widths[column] - cell_len(cell))
            cells.append(gap + cell if column in right else cell + gap)
        return "  ".join(cells).rstrip()

    return [line(row) for row in shown]


def _finite(value: Any) -> Any:
    """The value with NaN and infinity as None, which JSON can hold."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
