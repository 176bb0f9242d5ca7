"""Image tables in Parquet as Hugging Face writes them: bytes in a struct, a label, class names in the schema."""

import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from resnets.base.errors import DataError
from resnets.base.text import printable, some
from resnets.data.classes import in_order
from resnets.data.decode import DecodeError
from resnets.data.names import displayed
from resnets.data.source import MISSING, PARTS, TRAIN, Listing, Picture, Traits
from resnets.data.sources.folder import PART_FOLDERS
from resnets.labels import LABEL, Head

CACHED_BYTES = 2**28  # of row groups that are kept; one at least is
IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")

_MAGIC = b"PAR1"
_PART = re.compile(rf"({'|'.join(PART_FOLDERS)})[-_.]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _File:
    """One Parquet file: its part, its columns, and the source's own class names in order where it states them."""

    path: Path
    part: str | None
    image: str
    in_struct: bool
    label: str | None
    names: tuple[str, ...] | None


class StoredPictures:
    """The encoded pictures of one column, over one or more files.

    Row groups are read when they are needed and a few are kept, so that rows in order are cheap and memory is
    bounded by CACHED_BYTES or the largest row group.
    """

    def __init__(self, columns: Iterable[tuple[Path, str, bool]]) -> None:
        """columns: the file, the column's name, and whether the bytes stand in a struct."""
        self._groups: list[tuple[Path, str, bool, int]] = []
        self._cache: OrderedDict[int, pa.Array] = OrderedDict()
        self._lock = threading.Lock()
        counts = []
        for path, name, in_struct in columns:
            with opened_parquet(path) as opened:
                for number in range(opened.num_row_groups):
                    self._groups.append((path, name, in_struct, number))
                    counts.append(opened.metadata.row_group(number).num_rows)
        self._starts = np.cumsum([0, *counts])

    def read(self, row: int) -> bytes:
        """The bytes of a row of all files. Raises DecodeError where there are none."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            pictures = self._column(group)
        content: bytes | None = pictures[int(row - self._starts[group])].as_py()
        if content is None:
            raise DecodeError("the table holds no bytes for it")
        return content

    def _column(self, group: int) -> pa.Array:
        """One row group's column of bytes, from the cache or read; to be called under the lock."""
        if group not in self._cache:
            path, name, in_struct, number = self._groups[group]
            with opened_parquet(path) as opened:
                read = opened.read_row_group(number, columns=[f"{name}.bytes" if in_struct else name])
            column = read.column(name).combine_chunks()
            self._cache[group] = column.field("bytes") if in_struct else column
            while len(self._cache) > 1 and sum(kept.nbytes for kept in self._cache.values()) > CACHED_BYTES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group]


class ParquetSource:
    """One file, or a folder of files whose names begin with train, val, valid, validation or test."""

    def __init__(
        self,
        root: Path,
        *,
        name: str | None = None,
        traits: Traits | None = None,
        class_names: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.name = name or displayed(default_name(self.root))
        self.origin = f"the Parquet {'folder' if self.root.is_dir() else 'file'} {printable(str(self.root))}"
        self.traits = traits or Traits()
        self._class_names = dict(class_names or {})
        self._pictures = StoredPictures([])

    def listing(self) -> Listing:
        files, notes = self._files()
        paths: list[list[str | None]] = []
        ids: list[list[str | None]] = []
        for file in files:
            with opened_parquet(file.path) as opened:
                paths.append(
                    stated_paths(opened, file.image) if file.in_struct else [None] * opened.metadata.num_rows
                )
                ids.append(_class_ids(opened, file))
        order = _class_order(files, ids)
        position: dict[str | None, int] = {None: MISSING}
        position.update((name, number) for number, name in enumerate(order))
        self._pictures = StoredPictures([(file.path, file.image, file.in_struct) for file in files])
        parts = [file.part for file, column in zip(files, ids, strict=True) for _ in column]
        return Listing(
            paths=unique_paths([file.path for file in files], paths),
            heads={LABEL: Head(ids=order, names=tuple(self._class_names.get(name, name) for name in order))},
            labels={LABEL: np.array([position[name] for column in ids for name in column], dtype=np.int64)},
            parts=[part for part in parts if part is not None] or None,
            notes=notes,
        )

    def read(self, row: int) -> Picture:
        return self._pictures.read(row)

    def address(self) -> dict[str, object]:
        return {"kind": "parquet", "root": str(self.root)}

    def _files(self) -> tuple[list[_File], list[str]]:
        """The files in the order of their parts; files of no part beside others that have one are named."""
        paths, notes = used_files([self.root] if self.root.is_file() else parquet_files(self.root))
        files = [_describe(path) for path in paths]
        return sorted(files, key=lambda file: PARTS.index(file.part) if file.part else 0), notes


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do."""
    try:
        with path.open("rb") as handle:
            return handle.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be read: {error.strerror}") from error


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of its `data` folder, that make it a source; else none.

    Files named by part do; other ones only where no folders stand beside them.
    """
    for place in (folder, folder / "data"):
        files = sorted(path for path in place.glob("*.parquet") if not path.name.startswith("."))
        if any(part_of(path) for path in files) or (
            files and not any(entry.is_dir() for entry in place.iterdir())
        ):
            return files
    return []


def used_files(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Those that are named by part where any is, else all; and a note on the others."""
    named = [path for path in files if part_of(path)]
    unused = [path.name for path in files if named and path not in named]
    notes = [f"not used, for the name begins with no part (train, val, test): {some(unused)}"] if unused else []
    return named or list(files), notes


def default_name(root: Path) -> str:
    """`cifar10` for the folder, `cifar10-test` for cifar10/test.parquet, `birds` for birds.parquet."""
    if root.is_file() and part_of(root):
        return f"{root.parent.name}-{root.stem}"
    return root.stem if root.is_file() else root.name


def part_of(path: Path) -> str | None:
    match = _PART.match(path.name)
    return PART_FOLDERS[match[1].casefold()] if match else None


@contextmanager
def opened_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, with whatever goes wrong while it is read as a DataError."""
    try:
        with path.open("rb") as handle, pq.ParquetFile(handle) as opened:  # Arrow takes no path that is not UTF-8
            yield opened
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(str(path))} is no Parquet file that can be read: {brief(error)}") from error


def describes_itself(path: Path) -> bool:
    """Whether a file has a column of pictures and one of labels that are known by their names or its schema."""
    with opened_parquet(path) as opened:
        schema = opened.schema_arrow
    features = features_of(schema)
    return bool(_image_columns(schema, features)) and _label_column(schema, features) is not None


def _image_columns(schema: pa.Schema, features: Mapping[str, dict[str, Any]]) -> list[str]:
    images = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    return images + [
        name for name in IMAGE_COLUMNS if name in schema.names and holds_bytes(schema.field(name).type)
    ]


def _label_column(schema: pa.Schema, features: Mapping[str, dict[str, Any]]) -> str | None:
    classes = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    return next(
        (name for name in LABEL_COLUMNS if name in schema.names), classes[0] if len(classes) == 1 else None
    )


def _describe(path: Path) -> _File:
    """Which columns hold pictures and labels: what the Hugging Face schema says, else by name and type."""
    with opened_parquet(path) as opened:
        schema = opened.schema_arrow
    features = features_of(schema)
    images = _image_columns(schema, features)
    if not images:
        raise DataError(
            f"{printable(str(path))} has no column of pictures ({' or '.join(IMAGE_COLUMNS)}, with `bytes`); "
            f"its columns are {some(schema.names, 8)}"
        )
    label = _label_column(schema, features)
    stated = features.get(label or "", {}).get("names")
    return _File(
        path=path,
        part=part_of(path),
        image=images[0],
        in_struct=pa.types.is_struct(schema.field(images[0]).type),
        label=label,
        names=tuple(map(str, stated)) if isinstance(stated, list) else None,
    )


def features_of(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Hugging Face's description of the columns, by name; empty where there is none that can be read."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def stated_paths(opened: pq.ParquetFile, name: str) -> list[str | None]:
    """What stands as `path` beside the bytes of a struct column; None where nothing does."""
    if opened.schema_arrow.field(name).type.get_field_index("path") < 0:
        return [None] * opened.metadata.num_rows
    column = opened.read(columns=[f"{name}.path"]).column(0)
    return [path for chunk in column.chunks for path in chunk.field("path").to_pylist()]


def unique_paths(files: Sequence[Path], stated: Sequence[Sequence[str | None]]) -> list[str]:
    """The paths that the tables state where each is there once, else FILE/ROW."""
    flat = [path for column in stated for path in column]
    if len(set(flat)) == len(flat) and all(flat):
        return [str(path) for path in flat]
    return [
        f"{displayed(file.name)}/{row:06d}"
        for file, column in zip(files, stated, strict=True)
        for row in range(len(column))
    ]


def _class_ids(opened: pq.ParquetFile, file: _File) -> list[str | None]:
    """The class id of every row: the stated name, a number as text, or the text itself; None if there is none."""
    if file.label is None:
        return [None] * opened.metadata.num_rows
    column = opened.read(columns=[file.label]).column(0)
    values = column.to_pylist()
    if file.names is not None:
        wrong = next((value for value in values if value is not None and not -1 <= value < len(file.names)), None)
        if wrong is not None:
            raise DataError(
                f"{printable(str(file.path))}: label {wrong} is not one of its {len(file.names)} class names"
            )
        return [None if value is None or value < 0 else file.names[value] for value in values]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(
            f"{printable(str(file.path))}: the labels in {file.label!r} must be whole numbers or text, not {kind}"
        )
    return [None if value is None else str(value) for value in values]


def _class_order(files: Sequence[_File], ids: Sequence[Sequence[str | None]]) -> tuple[str, ...]:
    """The stated order; else numbers by value or text by code point, of the training part where there is one."""
    stated = next((file.names for file in files if file.names is not None), None)
    parts = {file.part for file in files}
    leading = [
        set(column) for file, column in zip(files, ids, strict=True) if file.part == TRAIN or TRAIN not in parts
    ]
    known = set(stated) if stated is not None else set().union(*leading) - {None}
    for file, column in zip(files, ids, strict=True):
        unknown = sorted(name for name in set(column) if name is not None and name not in known)
        if unknown:
            raise DataError(
                f"{printable(str(file.path))} has the class {some(unknown)} that the training part lacks"
            )
    if not known:
        raise DataError(
            f"{printable(str(files[0].path))} has no labels in a column called {' or '.join(LABEL_COLUMNS)}; "
            "rename the column of the classes"
        )
    return stated if stated is not None else in_order(map(str, known))


def brief(error: Exception) -> str:
    """The first line of a message of Arrow's, which may quote what stands in the file."""
    return printable((str(error).splitlines() or [type(error).__name__])[0][:200])
