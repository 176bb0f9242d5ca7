"""`resnets.shards`: any data set as WebDataset shards, tar files that are read from end to end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.base.errors import UsageError
from resnets.base.text import printable

if TYPE_CHECKING:
    from resnets.data.options import DataOptions

MEGABYTE = 10**6
SHARD_MEGABYTES = 256

Progress = Callable[[str, int, int | None], None]  # what is being done, how many are done, of how many


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """What was written. pictures: part -> how many. shards: how many tar files. left_out: path and reason of each
    file of the data set that is in no shard."""

    data: str
    pictures: dict[str, int]
    shards: int
    left_out: tuple[tuple[str, str], ...]
    outputs: tuple[Path, ...]
    seconds: float = field(compare=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "pictures": self.pictures,
            "shards": self.shards,
            "left_out": len(self.left_out),
            "left_out_files": [{"path": path, "reason": reason} for path, reason in self.left_out],
            "outputs": [str(path) for path in self.outputs],
            "seconds": round(self.seconds, 3),
        }


def shards(
    data: Any,
    out: Path | str,
    *,
    megabytes: int = SHARD_MEGABYTES,
    classes: Path | str | None = None,
    strict_data: bool = False,
    options: DataOptions | None = None,
    progress: Progress | None = None,
) -> Sharded:
    """Write a data set as shards into a new folder.

    data: what `open_data` takes, or what it gave. Its parts become the shards' names: those that it states, else
    those that training would draw. megabytes: of 1,000,000 bytes, the most that a shard has.
    classes: a file of class ids and shown names. strict_data: a file that would be left out is an error. options:
    the columns of a table. progress: called with what is being done, how many are done, of how many.
    Raises UsageError where `out` is there already, and DataError for what cannot be used; nothing is written then.
    """
    from resnets.data.dataset import Data, open_data
    from resnets.data.shards import write_shards

    started = time.monotonic()
    if megabytes < 1:
        raise UsageError(f"--megabytes must be at least 1, got {megabytes}")
    if os.path.lexists(out):
        raise UsageError(f"{printable(str(out))} is there already; choose another name, or remove it")
    tell = progress or (lambda label, done, total: None)
    opened = data
    if not isinstance(data, Data):
        opened = open_data(
            data,
            classes=None if classes is None else Path(classes),
            strict=strict_data,
            for_training=False,
            options=options,
            progress=partial(tell, "looking at the pictures"),
            download_progress=tell,
        )
    report = partial(tell, "writing")
    written = write_shards(opened, Path(out), shard_bytes=megabytes * MEGABYTE, progress=report)
    counts = {part: len(opened.rows(part)) for part in ("train", "val", "test")}
    return Sharded(
        data=opened.name,
        pictures={part: count for part, count in counts.items() if count},
        shards=sum(1 for path in written if path.suffix == ".tar"),
        left_out=tuple((opened.path(row), reason) for row, reason in sorted(opened.left_out.items())),
        outputs=tuple(written),
        seconds=time.monotonic() - started,
    )
