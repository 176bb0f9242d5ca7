"""What the verbs that answer for files one by one share: their paths, where answers go, what is said of them."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from resnets.base.errors import Incomplete, UsageError
from resnets.base.machine import keep_freed_memory
from resnets.base.text import counted, printable
from resnets.base.world import world
from resnets.cli.commands import Argument, Option
from resnets.cli.failures import OutputClosed
from resnets.cli.terminal import Terminal

if TYPE_CHECKING:
    from resnets.evaluation.filewise import Answered, Answers

STDIN = "-"
FORMAT_BY_ENDING = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}

PATH = Argument(
    name="path",
    help="pictures, folders, shards (.tar), patterns such as 'a/*.jpg', or - for a list on stdin (lines or NULs)",
    many=True,
)
OUT = Option(
    name="out",
    hint=str,
    metavar="PATH",
    help="write to a file, whole or not at all; or to a folder (answers/), in parts",
)
DETAILS = (
    "A file that cannot be read is a row with the reason and makes the exit status 1; the rest is done. "
    "Answers in parts go on after what is done when the same command is given again; torchrun shares them out."
)

Write = Callable[[Iterable[Any], Any, Path | BinaryIO, Any], None]  # answers, format, where to, and all answers


def answer_files(
    given: dict[str, Any],
    terminal: Terminal,
    *,
    doing: str,
    alone: Callable[..., "Answers[Any]"],
    parts: Callable[..., "Answered"],
    form: Callable[..., Any],
    write: Write,
) -> int:
    """Answer to one file or stdout (`alone`), or into a folder that processes may share (`parts`).

    form: (--format or None, the file or None, json=) -> the format; it refuses what cannot be.
    """
    from resnets.evaluation.parts import wants_folder

    keep_freed_memory()
    if wants_folder(given.get("out"), world()):
        return _in_parts(parts, doing, given, terminal)
    out = Path(given.pop("out")) if "out" in given else None
    chosen = form(given.pop("format", None), out, json=terminal.json)
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"cannot write {out}: there is no folder {out.parent}; make it, or choose another --out")
    paths = named_paths(given.pop("path"), sys.stdin.buffer)
    seen = out is None and sys.stdout.isatty()  # the lines themselves show how far it is
    with terminal.progress(doing, unit="files", hidden=seen) as report:
        answers = alone(paths=paths, progress=report, **given)
        _write(answers, chosen, write, out)
    _say_how(given, answers.skipped, terminal)
    if out is not None:
        said = f"{answers.done:,} files: {printable(str(out))}"
        _say_written(answers.done, answers.failed, answers.skipped, out, said, terminal)
    _refuse_errors(answers.failed, answers.done)
    return 0


def _in_parts(verb: Callable[..., "Answered"], doing: str, given: dict[str, Any], terminal: Terminal) -> int:
    """The first of several processes speaks."""
    if "format" in given:
        given["form"] = given.pop("format")
    paths = named_paths(given.pop("path"), sys.stdin.buffer)
    with terminal.progress(doing, unit="files") as report:
        done = verb(paths=paths, progress=report, **given)
    if not world().leads:
        return 0
    _say_how(given, done.skipped, terminal)
    said = f"{done.files:,} files in {counted(done.parts, 'part')}: {printable(str(done.folder))}"
    _say_written(done.files, done.errors, done.skipped, done.folder, said, terminal)
    _refuse_errors(done.errors, done.files)
    return 0


def by_ending(out: Path | None) -> str | None:
    """The format that the ending of --out asks for."""
    return FORMAT_BY_ENDING.get(out.suffix.lower()) if out is not None else None


def named_paths(given: Iterable[str], stdin: BinaryIO) -> Iterator[str]:
    """The paths as given, with `-` replaced by the list that stdin has."""
    for path in given:
        if path == STDIN:
            yield from listed(stdin.read())
        else:
            yield path


def listed(content: bytes) -> Iterator[str]:
    """The names of a list: one a line, or divided by NULs where it has any, as `find -print0` writes them."""
    if b"\0" in content:
        names = content.split(b"\0")
    else:
        names = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    for name in names:
        if name:
            yield os.fsdecode(name)


def _write(answers: "Answers[Any]", form: Any, write: Write, out: Path | None) -> None:
    if out is not None:
        try:
            write(answers, form, out, answers)
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}; choose another --out") from error
        return
    sys.stdout.flush()
    try:
        write(_flushed(answers, sys.stdout.buffer), form, sys.stdout.buffer, answers)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def _flushed(answers: Iterable[Any], stream: BinaryIO) -> Iterator[Any]:
    """The answers; each is let out before the next is waited for."""
    for answer in answers:
        yield answer
        stream.flush()


def _say_how(given: dict[str, Any], skipped: int, terminal: Terminal) -> None:
    """What a reader of the answers should know."""
    from resnets.evaluation.views import said

    views = given.get("views", "one")
    if views != "one":
        terminal.note(f"every answer is {said(views)}")
    if skipped:
        terminal.note(f"{skipped:,} files in folders and shards are no pictures and were not read")


def _say_written(files: int, errors: int, skipped: int, out: Path, said: str, terminal: Terminal) -> None:
    if terminal.json:
        record = {"files": files, "errors": errors, "skipped": skipped, "outputs": [str(out)]}
        terminal.emit(record | {"seconds": terminal.seconds()})
    else:
        terminal.say(said)


def _refuse_errors(errors: int, files: int) -> None:
    if errors:
        raise Incomplete(f"{errors:,} of {files:,} files could not be read; each says why")
