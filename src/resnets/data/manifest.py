"""The manifest: one row a file, kept or left out and why, with the facts that were seen when it was read.

Columns: path (text; names that are not UTF-8 have a shown form there and their bytes in `path_bytes`), size
(bytes), content (blake2b-128 of the file; of pixels and shape where there is no file), width, height (upright),
mode (Pillow's), channels, format; a column a head (`head_column`) with the class id; split; left_out (the reason,
or null). The column of a head with several classes a picture is a list of ids; where some rows are known for some
classes only, a second column, NAME.unknown, lists the others.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from resnets.base.errors import DataError
from resnets.base.files import CONTENT_BYTES, content_hash, replacing
from resnets.base.text import printable, some
from resnets.data.decode import decode, header
from resnets.data.multi import as_lists, from_lists, unknown_column
from resnets.data.names import from_bytes, stored
from resnets.data.source import MISSING, PARTS, Labels, Listing, Picture, Source, Traits
from resnets.labels import LABEL, Head

FORMAT = 1
KEY = b"resnets"  # the key of our JSON object in the Parquet file's metadata
CHUNK = 64  # rows a thread takes at a time
TYPES: dict[str, pa.DataType] = {
    "path": pa.string(),
    "path_bytes": pa.binary(),
    "size": pa.int64(),
    "content": pa.binary(CONTENT_BYTES),
    "width": pa.int32(),
    "height": pa.int32(),
    "mode": pa.string(),
    "channels": pa.string(),
    "format": pa.string(),
    "split": pa.string(),
    "left_out": pa.string(),
}
RESERVED = {*TYPES, "finding", "duplicate_of", "suggested", "corrected", "shard"}  # no head's column is called so

Progress = Callable[[int, int], None]  # rows done, rows in all


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A table with one row a file, and what it was made from.

    name, origin, traits: the source's. address: what opens the source again; None where it lives in memory.
    heads: name -> Head, in order. strays, beside: files seen that are no rows. split_seed: None where the
    source states the parts.
    """

    table: pa.Table = field(repr=False)
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

    def labels(self, head: str) -> Labels:
        """What `Listing.labels` has. Raises DataError for an id that the head lacks."""
        if self.heads[head].kind == "multi":
            return from_lists(self.table, head_column(head), self.heads[head].ids)
        position: dict[str | None, int] = {None: MISSING}
        position.update(self.heads[head].index())
        ids = self.table[head_column(head)].to_pylist()
        unknown = next((name for name in ids if name not in position), None)
        if unknown is not None:
            raise DataError(
                f"the manifest's column {head_column(head)!r} has the class {unknown!r}, which its head lacks"
            )
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
        columns_of = map(head_column, self.heads)
        of_heads = [name for column in columns_of for name in (column, unknown_column(column))]
        names = [name for name in ("content", "left_out", *of_heads, "split") if name in self.table.column_names]
        columns = [self.table[name].to_pylist() for name in names]
        for path, content, left_out, *rest in zip(self.paths(), *columns, strict=True):
            row = [path, (content or b"").hex(), left_out is None, *rest]
            digest.update(json.dumps(row).encode() + b"\n")
        return digest.hexdigest()

    def leaving_out(self, reasons: Mapping[int, str]) -> "Manifest":
        """The manifest with these rows left out as well: row -> reason."""
        column = [reasons.get(row, reason) for row, reason in enumerate(self.table["left_out"].to_pylist())]
        place = self.table.column_names.index("left_out")
        return replace(self, table=self.table.set_column(place, "left_out", pa.array(column, pa.string())))

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
        table = self.table.replace_schema_metadata({KEY: json.dumps(about).encode()})
        with replacing(path) as beside, beside.open("wb") as handle:  # Arrow takes no path that is not UTF-8
            pq.write_table(table, handle)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Raises DataError where the file is not a manifest of ours, or of a later version."""
        try:
            with path.open("rb") as handle:
                table = pq.ParquetFile(handle).read()
            about = json.loads((table.schema.metadata or {})[KEY])
            if about["format"] > FORMAT:
                raise DataError("it was written by a later version of resnets; update resnets to read it")
            heads = {name: Head.from_json(head) for name, head in about["heads"].items()}
            return cls(
                table=_checked(table, heads),
                name=str(about["name"]),
                origin=str(about["origin"]),
                traits=Traits(**about["traits"]),
                address=about["address"],
                heads=heads,
                strays=int(about["strays"]),
                beside=int(about["beside"]),
                split_seed=about["split_seed"],
            )
        except (KeyError, TypeError, ValueError, AttributeError, OSError, pa.ArrowException) as error:
            raise DataError(f"the manifest {printable(str(path))} cannot be used: {_first_line(error)}") from error


def head_column(head: str) -> str:
    """The manifest's column of a head: its name, behind `label.` where another column is called so."""
    return f"{LABEL}.{head}" if head in RESERVED else head


def is_manifest(path: Path) -> bool:
    """Whether a Parquet file has a manifest's metadata."""
    try:
        with path.open("rb") as handle:
            return KEY in (pq.read_schema(handle).metadata or {})
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{printable(str(path))} is no Parquet file that can be read: {_first_line(error)}"
        ) from error


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


def examine(source: Source, listing: Listing, *, in_full: bool = False, progress: Progress | None = None) -> Facts:
    """Read every row once, in threads: size, content, and what the header says.

    in_full: also unpack every pixel, which finds files that are damaged behind their header.
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
            _look(source, row, facts, in_full=in_full)
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


def _look(source: Source, row: int, facts: Facts, *, in_full: bool) -> None:
    known = row in facts.left_out
    try:
        picture = source.read(row)
        facts.size[row], facts.content[row] = _identity(picture)
        if not known:
            about = header(picture)
            if in_full:
                decode(picture)
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
    names = [stored(path) for path in listing.paths]
    kept = facts.width > 0
    columns = {
        "path": [text for text, _ in names],
        "path_bytes": [raw for _, raw in names],
        "size": facts.size,
        "content": facts.content,
        "width": pa.array(facts.width, mask=~kept),
        "height": pa.array(facts.height, mask=~kept),
        "mode": facts.mode,
        "channels": facts.channels,
        "format": facts.format,
    }
    for name, head in listing.heads.items():
        column = head_column(name)
        if head.kind == "multi":
            new = as_lists(column, head.ids, listing.labels[name])
        else:
            ids = np.array([*head.ids, None], dtype=object)  # MISSING is -1: the last
            new = {column: ids[listing.labels[name]].tolist()}
        twice = next((one for one in new if one in columns), None)
        if twice is not None:
            raise DataError(f"two labels would have the column {twice!r} of the manifest; rename {name!r}")
        columns |= new
    columns["split"] = list(parts)
    columns["left_out"] = [facts.left_out.get(row) for row in range(len(names))]
    types = TYPES | _types(listing.heads)
    return pa.table({name: pa.array(column, types[name]) for name, column in columns.items()})


def _types(heads: Mapping[str, Head]) -> dict[str, pa.DataType]:
    """The types of the heads' columns."""
    types = {head_column(name): pa.string() for name in heads}
    for name, head in heads.items():
        if head.kind == "multi":
            column = head_column(name)
            types |= {column: pa.list_(pa.string()), unknown_column(column): pa.list_(pa.string())}
    return types


def _checked(table: pa.Table, heads: Mapping[str, Head]) -> pa.Table:
    """The table with the columns and types that a manifest has (other tools change types), and its own others."""
    table.validate(full=True)  # text that is not UTF-8 is read without a word, and cannot be used
    types = TYPES | _types(heads)
    for name, kind in types.items():
        if name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, table.column(place).cast(kind))
        elif name in TYPES or name in map(head_column, heads):
            raise DataError(f"the column {name} is not there; write it again from its source")
    wrong = sorted(set(table["split"].unique().to_pylist()) - {None, *PARTS})
    if wrong:
        raise DataError(f"the split is {some(wrong)}; it must be one of {', '.join(PARTS)}")
    if table["path"].null_count:
        raise DataError("a path is empty; write it again from its source")
    return table


def _first_line(error: Exception) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0][:200])
