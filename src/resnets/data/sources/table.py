"""A table of pictures: CSV, TSV or Parquet with paths or pictures, classes, and what else its columns say."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnets.base.errors import DataError, UsageError
from resnets.base.text import printable, some
from resnets.data.decode import DecodeError
from resnets.data.names import displayed
from resnets.data.options import DataOptions
from resnets.data.source import TRAIN, Labels, Listing, Picture, Traits
from resnets.data.sources.folder import PART_FOLDERS, read_file
from resnets.data.sources.parquet import (
    StoredPictures,
    opened_parquet,
    parquet_files,
    stated_paths,
    unique_paths,
    used_files,
)
from resnets.data.sources.table_columns import Roles, choose_roles, image_column
from resnets.data.sources.table_file import Table, read_table
from resnets.data.sources.table_labels import as_single, head_of, one_hot
from resnets.data.sources.table_paths import Reading, picture_paths
from resnets.labels import Head

PLAIN_NAMES = (
    "labels",
    "label",
    "train",
    "data",
    "metadata",
    "annotations",
    "index",
    "table",
)  # say nothing of it


class TableSource:
    """A text table, a Parquet file, or a folder of Parquet files with the same columns.

    expected: heads whose columns are looked for before any is guessed (see `choose_roles`).
    """

    def __init__(
        self,
        path: Path,
        *,
        options: DataOptions | None = None,
        expected: Mapping[str, Head] | None = None,
        traits: Traits | None = None,
    ) -> None:
        self.path = Path(os.path.abspath(path))
        self.options = options or DataOptions()
        folder = self.path if self.path.is_dir() else self.path.parent
        self.root = Path(os.path.abspath(self.options.root)) if self.options.root is not None else folder
        if not self.root.is_dir():
            raise UsageError(
                f"--root {printable(str(self.root))} is no folder; give the one that paths start from"
            )
        stem = self.path.stem if self.path.is_file() else self.path.name
        self.name = displayed((folder.name if stem.casefold() in PLAIN_NAMES else stem) or "table")
        self.origin = f"the table {printable(str(self.path))}"
        self.traits = traits or Traits()
        self._expected = dict(expected or {})
        self._image: str | None = None
        self._files: Sequence[str | None] | None = None
        self._pictures = StoredPictures([])

    def listing(self) -> Listing:
        table = self._table()
        roles = choose_roles(table, self.options, self.root, expected=self._expected)
        names, left_out, notes = self._open(table, roles.image, roles.reading)
        parts, without = _parts(table, roles.split)
        heads, labels = heads_of(table, roles, parts)
        groups = None if roles.group is None else table.text(roles.group).to_pylist()
        return Listing(
            paths=names,
            heads=heads,
            labels=labels,
            parts=parts,
            groups=groups,
            left_out=without | left_out,
            notes=[
                *self._used()[1],
                *roles.notes,
                *notes,
                *_empty_lists(table, roles),
                *_divided_groups(groups, parts, roles),
            ],
        )

    def paths(self) -> list[str]:
        """The rows' paths alone, with which a manifest finds its pictures: the labels are its own."""
        table = self._table()
        return self._open(table, *image_column(table, self.options, self.root))[0]

    def read(self, row: int) -> Picture:
        if self._files is None:
            return self._pictures.read(row)
        path = self._files[row]
        if path is None:
            raise DecodeError("the table states no path for it")
        return read_file(self.root / path)

    def address(self) -> dict[str, object]:
        return {
            "kind": "table",
            "root": str(self.root),
            "table": str(self.path),
            "image_column": self._image,
            "allow_outside": self.options.allow_outside,
        }

    def _table(self) -> Table:
        return read_table(self._used()[0])

    def _used(self) -> tuple[list[Path], list[str]]:
        """The files, and a note on those beside them that are not used."""
        return used_files(parquet_files(self.path)) if self.path.is_dir() else ([self.path], [])

    def _open(
        self, table: Table, image: str, reading: Reading | None
    ) -> tuple[list[str], dict[int, str], list[str]]:
        """Make the pictures ready to be read: the rows' names, those without a path, and what is to be said."""
        self._image = image
        if reading is None:
            in_struct = table.pictures[image]
            self._pictures = StoredPictures([(path, image, in_struct) for path in table.files])
            stated: list[list[str | None]] = []
            for path, count in zip(table.files, table.counts, strict=True):
                if in_struct:
                    with opened_parquet(path) as opened:
                        stated.append(stated_paths(opened, image))
                else:
                    stated.append([None] * count)
            return unique_paths(table.files, stated), {}, []
        found = picture_paths(
            table.file_names(image),
            self.root,
            reading,
            allow_outside=self.options.allow_outside,
            where=table.where,
        )
        self._files = found.files
        return found.names, found.left_out, found.notes


def heads_of(table: Table, roles: Roles, parts: Sequence[str] | None) -> tuple[dict[str, Head], dict[str, Labels]]:
    """Every head, and its labels of all rows."""
    heads: dict[str, Head] = {}
    labels: dict[str, Labels] = {}
    for name, which in roles.heads.items():
        head, values = head_of(table, which, parts=parts)
        if which.kind == "marks" and roles.one_hot and one_hot(values):
            head, values = as_single(head, values)
        heads[name], labels[name] = head, values
    return heads, labels


def _parts(table: Table, name: str | None) -> tuple[list[str] | None, dict[int, str]]:
    """The part of every row, and the rows for which none is stated."""
    if name is None:
        return table.parts, {}
    texts = table.text(name)
    wrong = [value for value in texts.drop_null().unique().to_pylist() if value.casefold() not in PART_FOLDERS]
    if wrong:
        raise DataError(
            f"the column {name!r} of {table.where} says {some(wrong)}; a part is one of {', '.join(PART_FOLDERS)}"
        )
    stated = [None if value is None else PART_FOLDERS[value.casefold()] for value in texts.to_pylist()]
    without = {
        row: f"the column {name!r} states no part for it" for row, part in enumerate(stated) if part is None
    }
    return [part or TRAIN for part in stated], without


def _empty_lists(table: Table, roles: Roles) -> list[str]:
    """A note on empty cells of lists in text, which may have been meant for none of the classes."""
    notes = []
    for which in roles.heads.values():
        if which.kind == "lists" and which.separator:
            count = table.text(which.columns[0]).null_count
            if count:
                alone = f"a cell with '{printable(which.separator)}' alone is a picture with none of the classes"
                notes.append(
                    f"empty cells of {some(list(which.columns))}, of which nothing is known: {count:,}; {alone}"
                )
    return notes


def _divided_groups(groups: list[str | None] | None, parts: list[str] | None, roles: Roles) -> list[str]:
    """A note on groups that stand in two of the stated parts, which are not changed."""
    if groups is None or parts is None:
        return []
    first: dict[str, str] = {}
    divided = {
        group: None
        for group, part in zip(groups, parts, strict=True)
        if group is not None and first.setdefault(group, part) != part
    }
    if not divided:
        return []
    return [f"values of {roles.group!r} that stand in two parts: {len(divided)} ({some(list(divided))})"]


def table_from(address: Mapping[str, object]) -> TableSource:
    """The table of a manifest's address."""
    image, outside = address.get("image_column"), address.get("allow_outside")
    options = DataOptions(image_column=None if image is None else str(image), allow_outside=bool(outside))
    source = TableSource(Path(str(address.get("table"))), options=options)
    source.root = Path(str(address.get("root")))
    return source
