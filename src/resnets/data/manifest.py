"""The manifest: one row a file, kept or left out and why, with the facts that were seen when it was read.

Columns: path (text; names that are not UTF-8 have a shown form there and their bytes in `path_bytes`), size
(bytes), content (blake2b-128 of the file; of pixels and shape where there is no file), width, height (upright),
mode (Pillow's), channels, format; a column a head with the class id; split; left_out (the reason, or null).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from resnets.base.errors import DataError
from resnets.base.files import CONTENT_BYTES, content_hash, replacing
from resnets.data.decode import header
from resnets.data.names import displayed, from_bytes, name_bytes, shown
from resnets.data.source import MISSING, PARTS, Listing, Picture, Source, Traits
from resnets.labels import Head

FORMAT = 1
KEY = b"resnets"  # the key of our JSON object in the Parquet file's metadata
CHUNK = 64  # rows a thread takes at a time
COLUMNS = (
    "path",
    "path_bytes",
    "size",
    "content",
    "width",
    "height",
    "mode",
    "channels",
    "format",
    "split",
    "left_out",
)

Progress = Callable[[int, int], None]  # rows done, rows in all


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A table with one row a file, and what it was made from.

    name, origin, traits: the source's. address: what opens the source again; None where it lives in memory.
    heads: name -> Head, in order. strays, beside: files seen that are no rows. split_seed: None where the
    source states the parts.
    """

    table: pa.Table
    name: str
    origin: str
    traits: Traits
    address: dict[str, Any] | None
    heads: dict[str, Head]
    strays: int = 0
    beside: int = 0
    split_seed: int | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def paths(self) -> list[str]:
        """As the file system has them: names that are not UTF-8 carry surrogates."""
        texts = self.table["path"].to_pylist()
        raw = self.table["path_bytes"].to_pylist()
        return [text if name is None else from_bytes(name) for text, name in zip(texts, raw, strict=True)]

    def labels(self, head: str) -> npt.NDArray[np.int64]:
        """(n,) class positions, MISSING where there is none. Raises DataError for an id that the head lacks."""
        position: dict[str | None, int] = {None: MISSING}
        position.update(self.heads[head].index())
        ids = self.table[head].to_pylist()
        unknown = next((name for name in ids if name not in position), None)
        if unknown is not None:
            raise DataError(f"the manifest's column {head!r} has the class {unknown!r}, which its head lacks")
        return np.array([position[name] for name in ids], dtype=np.int64)

    def left_out(self) -> dict[int, str]:
        """row -> reason."""
        return {row: reason for row, reason in enumerate(self.table["left_out"].to_pylist()) if reason is not None}

    def numbers(self, column: str) -> npt.NDArray[np.int32]:
        """(n,) of `width` or `height`, 0 where not known."""
        return np.asarray(self.table[column].fill_null(0).to_numpy(), dtype=np.int32)

    def hash(self) -> str:
        """Hexadecimal digest of paths, contents, classes, parts and what is left out; not of where it lies."""
        digest = hashlib.blake2b(digest_size=CONTENT_BYTES)
        digest.update(json.dumps({name: head.ids for name, head in self.heads.items()}).encode())
        columns = [self.table[name].to_pylist() for name in ("content", *self.heads, "split", "left_out")]
        for path, content, *rest in zip(self.paths(), *columns, strict=True):
            digest.update(json.dumps([path, (content or b"").hex(), *rest]).encode() + b"\n")
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """A whole file or nothing."""
        about = {
            "format": FORMAT,
            "name": self.name,
            "origin": self.origin,
            "traits": vars(self.traits),
            "address": self.address,
            "heads": {name: head.to_json() for name, head in self.heads.items()},
            "strays": self.strays,
            "beside": self.beside,
            "split_seed": self.split_seed,
        }
        with replacing(path) as beside:
            pq.write_table(self.table.replace_schema_metadata({KEY: json.dumps(about).encode()}), beside)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Raises DataError where the file is not a manifest of ours, or of a later version."""
        where = shown(str(path))
        try:
            table = pq.ParquetFile(path).read()
            about = json.loads((table.schema.metadata or {})[KEY])
            if about["format"] > FORMAT:
                raise DataError(f"{where} was written by a later version of resnets; update resnets to read it")
            manifest = cls(
                table=table,
                name=str(about["name"]),
                origin=str(about["origin"]),
                traits=Traits(**about["traits"]),
                address=about["address"],
                heads={name: Head.from_json(head) for name, head in about["heads"].items()},
                strays=int(about["strays"]),
                beside=int(about["beside"]),
                split_seed=about["split_seed"],
            )
        except DataError:
            raise
        except FileNotFoundError as error:
            raise DataError(f"there is no manifest {where}") from error
        except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
            raise DataError(f"{where} is no manifest that can be read: {_first_line(error)}") from error
        _check_columns(manifest, where)
        return manifest


def is_manifest(path: Path) -> bool:
    """Whether a Parquet file has a manifest's metadata."""
    try:
        return KEY in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{shown(str(path))} is no Parquet file that can be read: {_first_line(error)}") from error


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What reading every file once has shown, a row a file; zeros and None where the row is left out."""

    size: npt.NDArray[np.int64]
    content: list[bytes | None]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    mode: list[str | None]
    channels: list[str | None]
    format: list[str | None]
    left_out: dict[int, str] = field(default_factory=dict)


def examine(source: Source, listing: Listing, *, progress: Progress | None = None) -> Facts:
    """Read every row once, in threads: size, content, and what the header says. No pixel is unpacked.

    What cannot be used is left out with its reason; rows that the listing leaves out are read for size and content
    alone.
    """
    rows = len(listing.paths)
    facts = Facts(
        size=np.zeros(rows, dtype=np.int64),
        content=[None] * rows,
        width=np.zeros(rows, dtype=np.int32),
        height=np.zeros(rows, dtype=np.int32),
        mode=[None] * rows,
        channels=[None] * rows,
        format=[None] * rows,
        left_out=dict(listing.left_out),
    )

    def look(start: int) -> int:
        stop = min(start + CHUNK, rows)
        for row in range(start, stop):
            _look(source, row, facts)
        return stop - start

    done = 0
    pool = ThreadPoolExecutor(max_workers=min(16, 2 * (os.cpu_count() or 1)), thread_name_prefix="examine")
    try:
        for count in pool.map(look, range(0, rows, CHUNK)):
            done += count
            if progress is not None:
                progress(done, rows)
    finally:
        pool.shutdown(cancel_futures=True)
    return facts


def _look(source: Source, row: int, facts: Facts) -> None:
    known = row in facts.left_out
    try:
        picture = source.read(row)
        facts.size[row], facts.content[row] = _identity(picture)
        if not known:
            about = header(picture)
            facts.width[row], facts.height[row] = about.width, about.height
            facts.mode[row], facts.channels[row], facts.format[row] = about.mode, about.channels, about.format
    except DataError as error:
        facts.left_out.setdefault(row, str(error))
    except OSError as error:
        facts.left_out.setdefault(row, f"cannot be read: {error.strerror or _first_line(error)}")


def _identity(picture: Picture) -> tuple[int, bytes]:
    """Bytes, and the hash that stands for the content: of the file, or of the pixels with their shape."""
    if isinstance(picture, bytes):
        return len(picture), content_hash(picture)
    pixels = np.ascontiguousarray(picture)
    return pixels.nbytes, content_hash(f"pixels {pixels.shape}\n".encode() + pixels.tobytes())


def build_table(listing: Listing, facts: Facts, parts: Iterable[str | None]) -> pa.Table:
    """The manifest's columns in their order. parts: the part of each row, None for those left out."""
    raw = [name_bytes(path) for path in listing.paths]
    texts = [displayed(path) for path in listing.paths]
    unlike = [None if text.encode() == name else name for text, name in zip(texts, raw, strict=True)]
    kept = facts.width > 0
    columns = {
        "path": pa.array(texts, pa.string()),
        "path_bytes": pa.array(unlike, pa.binary()),
        "size": pa.array(facts.size),
        "content": pa.array(facts.content, pa.binary(CONTENT_BYTES)),
        "width": pa.array(facts.width, mask=~kept),
        "height": pa.array(facts.height, mask=~kept),
        "mode": pa.array(facts.mode, pa.string()),
        "channels": pa.array(facts.channels, pa.string()),
        "format": pa.array(facts.format, pa.string()),
    }
    for name, head in listing.heads.items():
        if name in COLUMNS:
            raise DataError(f"a head cannot be called {name!r}, which is a column of the manifest; rename it")
        labels = listing.labels[name]
        ids = np.array([*head.ids, None], dtype=object)  # MISSING is -1: the last
        columns[name] = pa.array(ids[labels].tolist(), pa.string())
    columns["split"] = pa.array(parts, pa.string())
    columns["left_out"] = pa.array([facts.left_out.get(row) for row in range(len(raw))], pa.string())
    return pa.table(columns)


def _check_columns(manifest: Manifest, where: str) -> None:
    needed = [*COLUMNS, *manifest.heads]
    lacking = [name for name in needed if name not in manifest.table.column_names]
    if lacking:
        raise DataError(
            f"the manifest {where} lacks the column {', '.join(lacking)}; write it again from its source"
        )
    wrong = set(manifest.table["split"].unique().to_pylist()) - {None, *PARTS}
    if wrong:
        raise DataError(
            f"the manifest {where} has the split {wrong.pop()!r}; it must be one of {', '.join(PARTS)}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
