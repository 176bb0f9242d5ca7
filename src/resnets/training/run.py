"""The run folder: made before the first step, locked by one writer, its events only ever appended to."""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnets.base.errors import OutOfSpace, RunError, WorkStopped
from resnets.base.files import sync
from resnets.base.program import command_line
from resnets.base.text import printable

EVENTS, MODEL, CONFIG = "events.jsonl", "model.safetensors", "config.toml"
MANIFEST, PREDICTIONS = "manifest.parquet", "predictions.parquet"
LAUNCH = ".torchrun"  # names the start by torchrun that began a run


def new_run_folder(runs: Path, *, name: str | None, default: str) -> Path:
    """Make `runs/NAME`; a default name that is taken gets -2, -3, …, a name that was given must be free.

    Raises RunError where the name is taken or the folder cannot be made.
    """
    if name is not None:
        refuse_taken(runs, name)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        if name is not None:
            return _make(runs / name)
        for number in range(1, 100_000):
            with contextlib.suppress(FileExistsError):
                return _make(runs / (default if number == 1 else f"{default}-{number}"))
    except OSError as error:
        raise RunError(
            f"cannot make a run folder in {runs}: {error.strerror}; choose another with --runs"
        ) from error
    raise RunError(f"no free name for {default!r} in {runs}; give one with --name")


def refuse_taken(runs: Path, name: str) -> None:
    """Raise RunError where `runs/NAME` is there already."""
    if (runs / name).exists():
        raise RunError(
            f"there is already a run named {name!r} in {runs}; "
            f"give another --name, or go on with it: {command_line('train', '--resume', str(runs / name))}"
        )


def refuse_unwritable(runs: Path) -> None:
    """Raise RunError where no run folder could be made in `runs`; nothing is made."""
    nearest = next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        reason = f"{printable(str(nearest))} is a file"
    elif not os.access(nearest, os.W_OK | os.X_OK):
        reason = f"{printable(str(nearest.absolute()))} cannot be written"
    else:
        return
    raise RunError(f"cannot make a run folder in {runs}: {reason}; choose another with --runs")


def plain_name(text: str) -> str:
    """A stranger's name as the name of a folder: letters, digits, dot, dash and underscore, 40 at most."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:40] or "data"


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's lock; the kernel lets it go when the process ends, however it ends."""
    try:
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunError(f"cannot write in {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another process is writing {folder}; wait for it to end, or stop it first") from error
        for torn in folder.glob(".*.part*"):
            torn.unlink(missing_ok=True)  # what a killed process had begun to write
        yield
    finally:
        os.close(handle)


class Events:
    """The append-only `events.jsonl`: one JSON object a line, each with `event` and `time` (seconds, Unix)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_line(path)

    def append(self, event: str, **values: Any) -> dict[str, Any]:
        """Append one event and give it back."""
        record = {"event": event, "time": round(time.time(), 3), **values}
        line = json.dumps(record, allow_nan=True) + "\n"
        try:
            with self.path.open("a", encoding="ascii") as handle:
                handle.write(line)
        except OSError as error:
            raise OutOfSpace(f"cannot write {self.path}: {error.strerror}; the last checkpoint is kept") from error
        return record

    def length(self) -> int:
        """Bytes written so far, flushed to the disk: what a checkpoint remembers."""
        if not self.path.exists():
            return 0
        sync(self.path)
        return self.path.stat().st_size


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as handle:
        content = handle.read()
        handle.truncate(content.rfind(b"\n") + 1)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events that count: lines that a resume went back behind are superseded and left out."""
    kept: list[tuple[int, dict[str, Any]]] = []
    offset = 0
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}; is it a run folder?") from error
    for line in lines:
        if not line.endswith(b"\n"):
            break  # torn by a kill; the next writer cuts it
        try:
            record = json.loads(line)
        except ValueError as error:
            raise WorkStopped(f"{path}: the line at byte {offset} is damaged") from error
        if record["event"] == "resume":
            kept = [(start, earlier) for start, earlier in kept if start < record["events_length"]]
        kept.append((offset, record))
        offset += len(line)
    return [record for _, record in kept]
