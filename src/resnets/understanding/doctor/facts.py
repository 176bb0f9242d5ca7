"""One full decode of every picture, and what it shows: damage, brightness, evenness, a thumbnail.

Facts are kept in the cache folder by the content of the file, so that a second look decodes only what is new,
wherever it lies and whenever it was written, and a look that was stopped goes on where it was.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL

from resnets.base.errors import DataError, UsageError
from resnets.base.files import CONTENT_BYTES, cache_folder, write_bytes
from resnets.base.machine import cores
from resnets.data.dataset import Data
from resnets.data.decode import PIXELS, decode, particulars
from resnets.data.source import Picture

logger = logging.getLogger("resnets")

FORMAT = 1
CHUNK = 32  # pictures that a thread decodes at a time, and that are kept at a time
THUMB = 32  # pixels a side of the grey thumbnail, whatever the picture's shape
CLOSE = (3, 8)  # levels of 255 around a channel's median: noise of a blank picture, a faint one
MARK = 0x52444F43  # the end of a whole record
REASON_BYTES = 200

FACTS = np.dtype(
    [
        ("content", "u1", (CONTENT_BYTES,)),
        ("reason", f"S{REASON_BYTES}"),  # why it cannot be decoded; empty where it can
        ("orientation", "u1"),
        ("animated", "?"),
        ("bits", "u1"),
        ("mean", "<f4", (3,)),  # RGB in [0, 1]
        ("square", "<f4", (3,)),  # the mean of the squares
        ("close", "<f4", (len(CLOSE),)),  # the share of pixels that near the median, in the least even channel
        ("thumb", "u1", (THUMB, THUMB)),
        ("mark", "<u4"),
    ]
)

Records = npt.NDArray[Any]
Progress = Callable[[str, int, int | None], None]  # what is being done, how many are done, of how many


@dataclass(frozen=True, kw_only=True)
class Facts:
    """records: (n,) of FACTS, a row of the data each; zeros where there is no picture.

    failed: row -> why it cannot be decoded. decoded: how many contents were looked at; the others were known.
    """

    records: Records
    failed: dict[int, str]
    decoded: int

    def rows(self) -> npt.NDArray[np.int64]:
        """The pictures that were decoded."""
        return np.flatnonzero(self.records["mark"] == MARK)


def look(data: Data, *, threads: int | None = None, progress: Progress | None = None) -> Facts:
    """Decode every kept picture in full, equal ones once; what cannot be decoded has its reason."""
    contents = data.manifest.table["content"].to_pylist()
    rows_of: dict[bytes, list[int]] = {}
    for row in data.rows("all").tolist():
        rows_of.setdefault(contents[row], []).append(row)
    table = np.zeros(len(data), dtype=FACTS)
    failed: dict[int, str] = {}

    def put(records: Records) -> None:
        """Give every row of a content its record, or the reason why it has none."""
        for record in records:
            rows, reason = rows_of.pop(record["content"].tobytes()), bytes(record["reason"])
            if reason:
                failed.update(dict.fromkeys(rows, reason.decode(errors="ignore")))
            else:
                table[rows] = record

    store = _store(data)
    put(_read(store, rows_of.keys()))
    new = [rows[0] for rows in rows_of.values()]
    for records, unread in _decoded(data, new, contents, threads or cores(), progress):
        for row, reason in unread.items():
            failed.update(dict.fromkeys(rows_of.pop(contents[row]), reason))
        put(records)
        store = _keep(store, records)
    return Facts(records=table, failed=failed, decoded=len(new))


def mean_and_deviation(facts: Facts, rows: npt.NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """RGB in [0, 1], every picture counting the same, whatever its size."""
    mean = facts.records["mean"][rows].mean(axis=0, dtype=np.float64)
    square = facts.records["square"][rows].mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-4))  # what is blank throughout must not divide by zero
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _decoded(
    data: Data, rows: list[int], contents: list[bytes], threads: int, progress: Progress | None
) -> Iterator[tuple[Records, dict[int, str]]]:
    """Records of chunks of pictures in their order, each with row -> reason for files that cannot be read now."""

    def chunk(start: int) -> tuple[Records, dict[int, str]]:
        part = rows[start : start + CHUNK]
        records, unread = np.zeros(len(part), dtype=FACTS), {}
        for record, row in zip(records, part, strict=True):
            try:
                _fill(record, data.read(row))
            except DataError as error:
                record["reason"] = str(error).encode()[:REASON_BYTES]
            except OSError as error:  # may pass, so it is not kept
                unread[row] = f"cannot be read: {error.strerror or error}"
                continue
            record["content"] = np.frombuffer(contents[row], dtype=np.uint8)
            record["mark"] = MARK
        return records[records["mark"] == MARK], unread

    done = 0
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="doctor")
    try:
        for records, unread in pool.map(chunk, range(0, len(rows), CHUNK)):
            yield records, unread
            done += len(records) + len(unread)
            if progress is not None:
                progress("decoding the pictures", done, len(rows))
    finally:
        pool.shutdown(cancel_futures=True)


def _fill(record: Any, picture: Picture) -> None:
    record["orientation"], record["animated"], record["bits"] = particulars(picture)
    decoded = decode(picture)
    counts = np.array(decoded.histogram(), dtype=np.float64).reshape(3, 256)
    shares = counts / counts[0].sum()
    levels = np.arange(256) / 255
    record["mean"], record["square"] = shares @ levels, shares @ levels**2
    record["close"] = [_close(shares, reach) for reach in CLOSE]
    grey = decoded.convert("L").resize((THUMB, THUMB), PIL.Image.Resampling.BILINEAR)
    record["thumb"] = np.asarray(grey)


def _close(shares: npt.NDArray[np.float64], reach: int) -> float:
    """The share of pixels within `reach` levels of the median, in the channel that has the smallest."""
    below = np.cumsum(shares, axis=1)
    medians = (below >= 0.5).argmax(axis=1)
    return min(
        float(shares[channel, max(0, median - reach) : median + reach + 1].sum())
        for channel, median in enumerate(medians)
    )


def _store(data: Data) -> Path | None:
    """Where facts are kept; None for pixels in memory, which are as quick to look at again."""
    address = data.manifest.address
    if address is None or set(data.formats) <= {PIXELS}:
        return None
    key = json.dumps([FORMAT, PIL.__version__, address], sort_keys=True, default=str)
    try:
        folder = cache_folder("doctor")
    except UsageError as error:
        logger.warning("what is seen is not kept for a second look: %s", error)
        return None
    return folder / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.facts"


def _read(store: Path | None, wanted: Collection[bytes]) -> Records:
    """What is kept of the wanted contents; a torn end is cut off, a file of mostly other things written anew."""
    if store is None or not store.exists():
        return np.zeros(0, dtype=FACTS)
    content = store.read_bytes()
    whole = len(content) // FACTS.itemsize * FACTS.itemsize
    records = np.frombuffer(content[:whole], dtype=FACTS)
    if (records["mark"] != MARK).any():
        store.unlink()
        return np.zeros(0, dtype=FACTS)
    place = {record.tobytes(): number for number, record in enumerate(records["content"])}  # each content once
    useful = records[[number for content, number in place.items() if content in wanted]]
    if whole < len(content) or len(records) > 2 * len(useful) + 1000:
        write_bytes(store, useful.tobytes())
    return np.asarray(useful)


def _keep(store: Path | None, records: Records) -> Path | None:
    """Append records in one write; None from where that fails on."""
    if store is None or not len(records):
        return store
    try:
        handle = os.open(store, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, records.tobytes())
        finally:
            os.close(handle)
    except OSError as error:
        logger.warning("what is seen is not kept for a second look: %s", error)
        return None
    return store
