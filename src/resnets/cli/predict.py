"""`resnets predict`."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from resnets.base.errors import Incomplete, UsageError
from resnets.base.machine import keep_freed_memory
from resnets.base.text import counted, printable
from resnets.base.world import world
from resnets.cli.commands import Argument, Command, Option
from resnets.cli.evaluate import MACHINE, MODEL, VIEWS
from resnets.cli.failures import OutputClosed
from resnets.cli.terminal import Terminal

if TYPE_CHECKING:
    from resnets.evaluation.answers import Prediction
    from resnets.verbs.predict import Predictions

STDIN = "-"
FORMAT_BY_ENDING = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


def run(given: dict[str, Any], terminal: Terminal) -> int:
    keep_freed_memory()
    from resnets.evaluation.parts import wants_folder

    if wants_folder(given.get("out"), world()):
        return _run_in_parts(given, terminal)
    out = Path(given.pop("out")) if "out" in given else None
    form = _format(given.pop("format", None), out, json=terminal.json)
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"cannot write {out}: there is no folder {out.parent}; make it, or choose another --out")
    paths = _paths(given.pop("path"), sys.stdin.buffer)

    from resnets.verbs.predict import predict

    seen = out is None and sys.stdout.isatty()  # the lines themselves show how far it is
    with terminal.progress("predicting", unit="files", hidden=seen) as report:
        predictions = predict(paths=paths, progress=report, **given)
        _write(predictions, form, out)
    _say_how(given.get("views", "one"), predictions.skipped, terminal)
    if out is not None:
        _say_written(predictions, out, terminal)
    if predictions.failed:
        raise Incomplete(f"{predictions.failed:,} of {predictions.done:,} files could not be read; each says why")
    return 0


def _run_in_parts(given: dict[str, Any], terminal: Terminal) -> int:
    """Answers into a folder, which several processes may share; the first of them speaks."""
    if "format" in given:
        given["form"] = given.pop("format")
    paths = _paths(given.pop("path"), sys.stdin.buffer)

    from resnets.verbs.predict import predict_in_parts

    with terminal.progress("predicting", unit="files") as report:
        written = predict_in_parts(paths=paths, progress=report, **given)
    if not world().leads:
        return 0
    _say_how(given.get("views", "one"), written.skipped, terminal)
    if terminal.json:
        record = {"files": written.files, "errors": written.errors, "skipped": written.skipped}
        terminal.emit({**record, "outputs": [str(written.folder)], "seconds": terminal.seconds()})
    else:
        terminal.say(
            f"{written.files:,} files in {counted(written.parts, 'part')}: {printable(str(written.folder))}"
        )
    if written.errors:
        raise Incomplete(f"{written.errors:,} of {written.files:,} files could not be read; each says why")
    return 0


def _say_how(views: str, skipped: int, terminal: Terminal) -> None:
    """What a reader of the answers should know."""
    from resnets.evaluation.views import said

    if views != "one":
        terminal.note(f"every answer is {said(views)}")
    if skipped:
        terminal.note(f"{skipped:,} files in folders are no pictures and were not read")


def _format(asked: str | None, out: Path | None, *, json: bool) -> Any:
    """The format that was asked for, else that of the ending of --out, else lines for people or for scripts."""
    by_ending = FORMAT_BY_ENDING.get(out.suffix.lower()) if out is not None else None
    if json and out is None and asked not in (None, "jsonl"):
        raise UsageError(f"--json prints JSON lines, --format {asked} something else; give one of them")
    if asked == "parquet" and out is None:
        raise UsageError("--format parquet needs a file to write to: give --out FILE.parquet")
    return asked or by_ending or ("jsonl" if json else "table")


def _paths(given: Iterable[str], stdin: BinaryIO) -> Iterator[str]:
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


def _write(predictions: "Predictions", form: Any, out: Path | None) -> None:
    from resnets.evaluation.answers import write_predictions

    if out is not None:
        try:
            write_predictions(predictions, form, out)
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}; choose another --out") from error
        return
    sys.stdout.flush()
    try:
        write_predictions(_flushed(predictions, sys.stdout.buffer), form, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def _flushed(predictions: Iterable["Prediction"], stream: BinaryIO) -> Iterator["Prediction"]:
    """The predictions; each is let out before the next is waited for."""
    for prediction in predictions:
        yield prediction
        stream.flush()


def _say_written(predictions: "Predictions", out: Path, terminal: Terminal) -> None:
    if terminal.json:
        record = {"files": predictions.done, "errors": predictions.failed, "skipped": predictions.skipped}
        terminal.emit({**record, "outputs": [str(out)], "seconds": terminal.seconds()})
    else:
        terminal.say(f"{predictions.done:,} files: {printable(str(out))}")


COMMAND = Command(
    arguments=(
        MODEL,
        Argument(
            name="path",
            help="pictures, folders, patterns such as 'a/*.jpg', or - for a list on stdin (by lines or NULs)",
            many=True,
        ),
    ),
    options=(
        Option(name="top", hint=int, help="classes a picture, the likeliest first, where it has one class"),
        VIEWS,
        Option(
            name="format",
            hint=Literal["table", "jsonl", "csv", "parquet"],
            help="by default the ending of --out, else a table to read; --json gives jsonl",
        ),
        Option(
            name="out",
            hint=str,
            metavar="PATH",
            help="write to a file, whole or not at all; or to a folder (answers/), in parts",
        ),
        *MACHINE,
    ),
    details="A file that cannot be read is a row with the reason and makes the exit status 1; the rest is done. "
    "Answers in parts go on after what is done when the same command is given again; torchrun shares them out.",
    examples=(
        "resnets predict runs/digits-resnet20 picture.png",
        "resnets predict model.safetensors photos/ '*.jpg' --top 3 --out answers.csv",
        "find photos -name '*.jpg' -print0 | resnets predict model.safetensors - --json",
        "torchrun --nproc-per-node 4 -m resnets predict model.safetensors photos/ --out answers/",
    ),
    run=run,
)
