"""Kaggle's Bengali layout: `train.csv` beside `train_image_data_*.parquet`, which have a column a pixel.

A picture is a row over 32,332 columns, so that no single picture can be read: the files are turned over once, a
block of columns at a time, into raw pixels in the cache folder, from which a picture is one short read.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from resnets.base.errors import DataError, UsageError
from resnets.base.files import CONTENT_BYTES, cache_folder, replacing
from resnets.base.text import printable, some
from resnets.data.classes import in_order
from resnets.data.names import displayed
from resnets.data.options import DataOptions
from resnets.data.source import Labels, Listing, Picture, Traits
from resnets.data.sources.parquet import brief, opened_parquet
from resnets.data.sources.table_file import Table, read_table
from resnets.data.sources.table_labels import HeadColumns, head_of
from resnets.labels import LABEL, Head
from resnets.preprocess import Pixels

TABLE, CLASS_MAP, FILES = "train.csv", "class_map.csv", "train_image_data_*.parquet"
ID = "image_id"
HEADS = ("grapheme_root", "vowel_diacritic", "consonant_diacritic")
SIZE = (137, 236)  # height and width in pixels
BLOCK_BYTES, BLOCK_COLUMNS = 2**27, 2048  # that are turned over at a time: Arrow takes some 20 kB a column beside
PANEL_ROWS = 512  # of a block, small enough for a processor's cache
FORMAT = 1  # of the raw pixels in the cache

Progress = Callable[[str, int, int | None], None]  # what is read, bytes so far, bytes in all


def bengali_files(folder: Path) -> list[Path]:
    """The pixel files of a folder in this layout, by number; none where it is another."""
    if not (folder / TABLE).is_file():
        return []
    return sorted(folder.glob(FILES), key=lambda path: (len(path.name), path.name))


class BengaliSource:
    """The training pictures of such a folder, with a head a label column.

    Classes and their names are those of `class_map.csv`, else of the labels. Pixels are read from the cache.
    """

    traits = Traits(mirror=False, drawings=True)

    def __init__(
        self, root: Path, *, options: DataOptions | None = None, progress: Progress | None = None
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.options = options or DataOptions()
        self.name = displayed(self.root.name) or "bengali"
        self.origin = f"the folder {printable(str(self.root))} in Kaggle's Bengali layout"
        self._progress = progress
        self._pixels: list[Path] = []
        self._starts = np.zeros(1, dtype=np.int64)
        refused = set(self.options.given_of_tables()) - {"--label-column", "--group-column"}
        if refused:
            raise UsageError(f"{min(refused)} is not for {self.origin}, whose columns are known; leave it out")

    def listing(self) -> Listing:
        ids = self.paths()
        table, notes = _aligned(read_table([self.root / TABLE]), ids)
        heads, labels = self._heads(table)
        group = self.options.group_column
        if group is not None and group not in table.columns:
            raise _no_column(group, table)
        used = {TABLE, CLASS_MAP, *(path.name for path in bengali_files(self.root))}
        others = [name for name in os.listdir(self.root) if name not in used]
        strays = sum(name.startswith(".") for name in others)
        return Listing(
            paths=ids,
            heads=heads,
            labels=labels,
            groups=None if group is None else table.text(group).to_pylist(),
            strays=strays,
            beside=len(others) - strays,
            notes=notes,
        )

    def paths(self) -> list[str]:
        """The pictures' ids in the order of the files, whose pixels are in the cache folder afterwards."""
        files = bengali_files(self.root)
        if not files:
            raise DataError(f"{self.origin} lacks {TABLE} or {FILES}; put them back")
        ids = [_read_ids(path) for path in files]
        every = [name for column in ids for name in column]
        if len(set(every)) != len(every):
            twice = next(name for name in every if every.count(name) > 1)
            raise DataError(f"{self.origin} has the picture {some([twice])} twice; take one of them away")
        self._starts = np.cumsum([0, *map(len, ids)])
        self._pixels = [
            raw_pixels(path, rows=len(column), size=SIZE, progress=self._progress)
            for path, column in zip(files, ids, strict=True)
        ]
        return every

    def read(self, row: int) -> Picture:
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        size = math.prod(SIZE)
        with self._pixels[file].open("rb", buffering=0) as handle:
            handle.seek(int(row - self._starts[file]) * size)
            content = handle.read(size)
        return np.frombuffer(content, dtype=np.uint8).reshape(SIZE)

    def address(self) -> dict[str, object]:
        return {"kind": "bengali", "root": str(self.root)}

    def _heads(self, table: Table) -> tuple[dict[str, Head], dict[str, Labels]]:
        columns = self.options.label_column or HEADS
        known = _class_map(self.root / CLASS_MAP)
        heads: dict[str, Head] = {}
        labels: dict[str, Labels] = {}
        for name in columns:
            if name not in table.columns:
                raise _no_column(name, table)
            head, values = head_of(table, HeadColumns(columns=(name,), kind="classes"), parts=None)
            if name in known:
                head, values = _by_map(head, values, known[name], name)
            key = name if len(columns) > 1 else LABEL
            heads[key], labels[key] = head, values
        return heads, labels


def raw_pixels(path: Path, *, rows: int, size: tuple[int, int], progress: Progress | None = None) -> Path:
    """The file in the cache folder with the pixels of `path`, picture by picture; made where it is not there.

    It is known by the name, the bytes and the time of `path`. Raises DataError where the pixels are no bytes,
    UsageError where the disk has no room for them.
    """
    about = path.stat()
    key = f"{FORMAT} {displayed(path.name)} {about.st_size} {about.st_mtime_ns} {size}"
    digest = hashlib.blake2b(key.encode(), digest_size=CONTENT_BYTES).hexdigest()
    folder = cache_folder("tables")
    place = folder / f"{digest}.pixels"
    needed = rows * math.prod(size)
    if place.exists() and place.stat().st_size == needed:
        return place
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"the pixels of {printable(path.name)} take {needed:,} bytes in {printable(str(folder))}, which has "
            f"{free:,} left; free some space, or set RESNETS_CACHE to another folder"
        )
    with opened_parquet(path) as opened, replacing(place) as beside:
        _check_columns(opened, path, math.prod(size))
        with beside.open("wb", buffering=0) as handle:
            handle.truncate(needed)
            _turn_over(opened, handle.fileno(), path, pixels=math.prod(size), progress=progress)
    return place


def _turn_over(opened: pq.ParquetFile, handle: int, path: Path, *, pixels: int, progress: Progress | None) -> None:
    """Write the columns of every row group as rows, a block at a time."""
    total = opened.metadata.num_rows * pixels
    start = 0
    for group in range(opened.num_row_groups):
        rows = opened.metadata.row_group(group).num_rows
        width = max(1, min(BLOCK_COLUMNS, BLOCK_BYTES // max(1, rows)))
        for first in range(0, pixels, width):
            names = [str(number) for number in range(first, min(first + width, pixels))]
            block = _block(opened, group, names, path)
            for top in range(0, rows, PANEL_ROWS):
                panel = np.ascontiguousarray(block[:, top : top + PANEL_ROWS].T)
                for row, line in enumerate(panel, start=start + top):
                    os.pwrite(handle, line.data, row * pixels + first)
            if progress is not None:
                progress(f"reading {printable(path.name)}", start * pixels + rows * (first + len(names)), total)
        start += rows


def _block(opened: pq.ParquetFile, group: int, names: Sequence[str], path: Path) -> Pixels:
    """(columns, rows) of one row group."""
    table = opened.read_row_group(group, columns=list(names))
    block = np.empty((len(names), table.num_rows), dtype=np.uint8)
    for number, name in enumerate(names):
        column = table.column(name)
        if column.null_count:
            raise DataError(f"{printable(str(path))} has no value in some rows of the pixel {name}; get it again")
        try:
            np.copyto(block[number], column.cast(pa.uint8()).to_numpy())
        except pa.ArrowInvalid as error:
            raise DataError(f"{printable(str(path))}: the pixel {name} is no byte: {brief(error)}") from error
    return block


def _check_columns(opened: pq.ParquetFile, path: Path, pixels: int) -> None:
    schema = opened.schema_arrow
    names = set(schema.names)
    lacking = next((str(number) for number in range(pixels) if str(number) not in names), None)
    if lacking is not None or len(names) > pixels + 2:  # beside the id, pandas may have left an index
        raise DataError(
            f"{printable(str(path))} has {len(names):,} columns; {pixels:,} pixels (0 to {pixels - 1}, "
            f"{SIZE[0]} x {SIZE[1]}) and {ID} are needed"
        )


def _read_ids(path: Path) -> list[str]:
    with opened_parquet(path) as opened:
        if ID not in opened.schema_arrow.names:
            raise DataError(f"{printable(str(path))} has no column {ID}; get it again")
        column = opened.read(columns=[ID]).column(ID).cast(pa.string())
    if column.null_count:
        raise DataError(f"{printable(str(path))} has pictures without {ID}; get it again")
    ids: list[str] = column.to_pylist()
    return ids


def _aligned(table: Table, ids: Sequence[str]) -> tuple[Table, list[str]]:
    """The table with one row a picture, in the pictures' order; and a note on lines without a picture."""
    if ID not in table.columns:
        raise _no_column(ID, table)
    lines: dict[str, int] = {}
    for row, name in enumerate(table.text(ID).to_pylist()):
        if name in lines:
            raise DataError(f"{table.where} has two lines for the picture {some([name])}; take one of them away")
        if name is not None:
            lines[name] = row
    taken: Any = pa.array([lines.get(name) for name in ids], pa.int64())
    there = set(ids)
    without = [name for name in lines if name not in there]
    notes = [f"lines of {table.where} without a picture: {len(without)} ({some(without)})"] if without else []
    columns = {name: column.take(taken) for name, column in table.columns.items()}
    return Table(where=table.where, files=table.files, counts=(len(ids),), columns=columns), notes


def _class_map(path: Path) -> dict[str, dict[str, str]]:
    """component type -> class id -> name, where the file is there."""
    if not path.is_file():
        return {}
    table = read_table([path])
    wanted = ("component_type", "label", "component")
    for name in wanted:
        if name not in table.columns:
            raise _no_column(name, table)
    found: dict[str, dict[str, str]] = {}
    for kind, label, name in zip(*(table.text(column).to_pylist() for column in wanted), strict=True):
        if kind is not None and label is not None:
            found.setdefault(kind, {})[label] = name or label
    return found


def _by_map(
    head: Head, labels: npt.NDArray[Any], names: dict[str, str], column: str
) -> tuple[Head, npt.NDArray[np.int64]]:
    """The head with all classes of the class map, in their order, and the labels by it."""
    unknown = [name for name in head.ids if name not in names]
    if unknown:
        raise DataError(f"{TABLE} has the class {some(unknown)} in {column!r}, which {CLASS_MAP} lacks")
    ids = in_order(names)
    position = {name: number for number, name in enumerate(ids)}
    positions = np.array([*(position[name] for name in head.ids), -1], dtype=np.int64)
    return Head(ids=ids, names=tuple(names[name] for name in ids)), positions[labels]


def _no_column(name: str, table: Table) -> DataError:
    return DataError(f"{table.where} has no column {name!r}; its columns are {some(table.names, 8)}")
