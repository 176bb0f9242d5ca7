"""The command line in this process: what a shell would give it, what it would show."""

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.cli import app


@dataclass(frozen=True, kw_only=True)
class Said:
    """Exit status and the two streams; bytes that are not UTF-8 are surrogates in `out` and `err`."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def resnets(*arguments: str | Path) -> Said:
    """Run one command. As in a pipe, a character that UTF-8 cannot hold is an error here."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = app([os.fspath(argument) for argument in arguments])
    contents = []
    for stream in streams:
        stream.flush()
        contents.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]
    return Said(status=status, out=contents[0], err=contents[1])


def plain(text: str) -> bool:
    """Whether nothing in the text can drive a terminal, and every line end is a line's end."""
    return all(line.isprintable() for line in text.split("\n"))


def snapshot(folder: Path) -> dict[bytes, int]:
    """Every path below a folder, as bytes, with its size (0 for folders)."""
    found = {}
    for root, folders, files in os.walk(os.fsencode(folder)):
        found |= {os.path.join(root, name): 0 for name in folders}
        found |= {os.path.join(root, name): os.lstat(os.path.join(root, name)).st_size for name in files}
    return found
