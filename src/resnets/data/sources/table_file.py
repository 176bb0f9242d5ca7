"""A table as columns of text: CSV, TSV or Parquet. Columns of pictures stay in the file until they are read."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from resnets.base.errors import DataError
from resnets.base.text import printable, some
from resnets.data.names import displayed, from_bytes
from resnets.data.sources.folder import TABLE_ENDINGS
from resnets.data.sources.parquet import brief, features_of, holds_bytes, is_parquet, opened_parquet, part_of

COLUMNS_LIMIT = 1000
BYTES_LIMIT = 2**31  # of a text file, which is read whole
HEADER_LIMIT = 2**20  # bytes that the names of the columns may take
BLOCK_BYTES = 2**24  # of a text file that are parsed at a time; no row may be longer
DELIMITERS = (",", "\t", ";")


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table has, without its pictures.

    where: for messages. files: read in this order, with as many rows each as `counts` says.
    columns: name -> a value a row: text, bytes as the file has them, or a list of texts.
    pictures: columns of encoded pictures -> whether the bytes stand in a struct.
    class_names: columns with numbers for which the file states names -> these, in order; the columns hold names.
    parts: one a row, where the files' names state them.
    """

    where: str
    files: tuple[Path, ...]
    counts: tuple[int, ...]
    columns: dict[str, Any] = field(repr=False)
    pictures: dict[str, bool] = field(default_factory=dict)
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parts: list[str] | None = None

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def names(self) -> list[str]:
        """Of all columns that can have a role."""
        return [*self.columns, *(name for name in self.pictures if name not in self.columns)]

    def text(self, name: str) -> pa.Array:
        """A column's texts without blanks around them, null where a cell is empty."""
        column = self.columns.get(name)
        if column is None or pa.types.is_list(column.type):
            holds = "pictures" if column is None else "lists"
            raise DataError(f"the column {name!r} of {self.where} holds {holds}; give a column of single values")
        trimmed = pc.utf8_trim_whitespace(self._decoded(name, column))
        return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)

    def is_list(self, name: str) -> bool:
        return name in self.columns and pa.types.is_list(self.columns[name].type)

    def file_names(self, name: str) -> list[str | None]:
        """A column's cells as names of files: as they stand, None where a cell is empty."""
        column = self.columns[name]
        cells = column.to_pylist()
        if pa.types.is_binary(column.type):
            return [from_bytes(cell) if cell else None for cell in cells]
        return [cell or None for cell in cells]

    def _decoded(self, name: str, column: Any) -> Any:
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise DataError(
                f"the column {name!r} of {self.where} is not UTF-8 text; save the table as UTF-8"
            ) from error


def is_table(path: Path) -> bool:
    """Whether a file is a table by its ending (text) or its first bytes (Parquet)."""
    return path.suffix.casefold() in TABLE_ENDINGS or is_parquet(path)


def read_table(files: Sequence[Path]) -> Table:
    """One text file, or Parquet files with the same columns, one after the other.

    Raises DataError where a file cannot be read, has no rows, too many columns or two of one name, or where the
    files differ.
    """
    where = printable(files[0].name if len(files) == 1 else str(files[0].parent))
    tables = [_read_parquet(path) if is_parquet(path) else _read_text(path) for path in files]
    first = tables[0]
    for path, table in zip(files, tables, strict=True):
        if list(table.columns) != list(first.columns) or table.pictures != first.pictures:
            raise DataError(f"{printable(str(path))} has other columns than {printable(files[0].name)}")
    columns = {name: _joined([table.columns[name] for table in tables], name, where) for name in first.columns}
    parts = [part_of(path) for path in files]
    counts = tuple(table.counts[0] for table in tables)
    if not sum(counts):
        raise DataError(f"{where} has no rows; check that the right table was given")
    stated = [part for part, count in zip(parts, counts, strict=True) if part for _ in range(count)]
    return Table(
        where=where,
        files=tuple(files),
        counts=counts,
        columns=columns,
        pictures=first.pictures,
        class_names=first.class_names,
        parts=stated if len(stated) == sum(counts) else None,
    )


def _joined(columns: Sequence[Any], name: str, where: str) -> pa.Array:
    try:
        joined = pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)
        return joined.combine_chunks()
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"the column {name!r} of {where} cannot be read: {brief(error)}") from error


def _read_text(path: Path) -> Table:
    where = printable(str(path))
    try:
        size = path.stat().st_size
        if size > BYTES_LIMIT:
            raise DataError(f"{where} has {size:,} bytes; the limit of a text table is {BYTES_LIMIT:,}")
        with path.open("rb") as handle:
            names, delimiter = _header(handle.read(HEADER_LIMIT), path)
            handle.seek(0)
            table = pacsv.read_csv(
                handle,
                read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()), null_values=[], strings_can_be_null=False
                ),
            )
    except (pa.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{where} is no table that can be read: {brief(error)}") from error
    columns = {name.strip(): table.column(number) for number, name in enumerate(names)}
    return Table(where=where, files=(path,), counts=(table.num_rows,), columns=columns)


def _header(prefix: bytes, path: Path) -> tuple[list[str], str]:
    """The names of the columns as the first line has them, and what divides its cells."""
    where = printable(str(path))
    if prefix.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{where} is UTF-16 text; save the table as UTF-8")
    text = prefix.decode("utf-8-sig", errors="surrogateescape")
    line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=line.count)  # the first of those that are there as often
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    if displayed("".join(names)) != "".join(names):
        raise DataError(f"the names of the columns of {where} are not UTF-8 text; save the table as UTF-8")
    _check_names([name.strip() for name in names], where)
    return names, delimiter


def _check_names(names: Sequence[str], where: str) -> None:
    if len(names) > COLUMNS_LIMIT:
        raise DataError(
            f"{where} has {len(names):,} columns, the limit of a table is {COLUMNS_LIMIT:,}; "
            "a folder with Kaggle's train.csv and train_image_data_*.parquet is given as a folder"
        )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} has two columns called {some([twice])}; rename one")


def _read_parquet(path: Path) -> Table:
    where = printable(str(path))
    with opened_parquet(path) as opened:
        schema = opened.schema_arrow
        _check_names(schema.names, where)
        features = features_of(schema)
        pictures = {
            one.name: bool(pa.types.is_struct(one.type)) for one in schema if one.name and holds_bytes(one.type)
        }
        wanted = [one.name for one in schema if one.name not in pictures and _is_plain(one.type)]
        table = opened.read(columns=wanted)
        table.validate(full=True)
        columns = {name: _as_text(table.column(name)) for name in wanted}
        rows = opened.metadata.num_rows
    class_names = {}
    for name in wanted:
        stated = features.get(name, {}).get("names")
        if isinstance(stated, list) and pa.types.is_integer(table.column(name).type):
            class_names[name] = tuple(map(str, stated))
            columns[name] = _named(table.column(name), class_names[name], name=name, where=where)
    return Table(
        where=where, files=(path,), counts=(rows,), columns=columns, pictures=pictures, class_names=class_names
    )


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column can be read as text, or as lists of texts."""
    if pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_plain(kind.value_type) and not pa.types.is_list(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_primitive(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def _as_text(column: Any) -> Any:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return column.cast(pa.list_(pa.string()))
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.cast(pa.string())


def _named(column: Any, names: Sequence[str], *, name: str, where: str) -> Any:
    """Numbers as the names that the file states for them; a negative number is no label."""
    numbers = column.cast(pa.int64())
    highest = pc.max(numbers).as_py()
    if highest is not None and highest >= len(names):
        raise DataError(f"{where}: {highest} in {name!r} is not one of its {len(names)} class names")
    known = pc.if_else(pc.less(numbers, 0), pa.scalar(None, pa.int64()), numbers)
    chunks = [pa.array(names, pa.string()).take(chunk) for chunk in known.chunks]
    return pa.chunked_array(chunks, pa.string())
