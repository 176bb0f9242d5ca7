"""What each column of a table is for: as asked, else by its name and what it holds."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from resnets.base.errors import DataError, UsageError, unknown_name
from resnets.base.text import printable, some
from resnets.data.options import DataOptions
from resnets.data.sources.folder import PART_FOLDERS
from resnets.data.sources.table_file import Table
from resnets.data.sources.table_labels import HeadColumns, holds_marks, separator_of, shown_separator
from resnets.data.sources.table_paths import (
    READINGS,
    Reading,
    best_reading,
    folder_beside,
    names_a_file,
    spread,
)
from resnets.labels import LABEL, Head

NONE = "none"  # --multi-label none: no column is read as lists
IMAGE_NAMES = (
    *("image", "img", "path", "image_path", "img_path", "file", "filename", "file_name", "filepath", "file_path"),
    *("image_id", "image_name", "id_code", "picture", "photo", "id"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "class_name", "classname", "category", "target", "species", "breed"),
    *("diagnosis", "tags", "y"),
)
GROUP_NAMES = (
    *("writer", "writer_id", "patient", "patient_id", "patientid", "subject", "subject_id", "person", "person_id"),
    *("user", "user_id", "lesion_id", "speaker", "group", "group_id"),
)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FRACTION = re.compile(r"[+-]?\d*\.\d*[1-9]\d*(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """image: the column of pictures, or of paths, which `reading` reads. heads: name -> its columns, in order.

    one_hot: the columns of 0 and 1 were found, not asked for, and may be one class a picture.
    """

    image: str
    reading: Reading | None
    heads: dict[str, HeadColumns]
    one_hot: bool = False
    split: str | None = None
    group: str | None = None
    notes: list[str] = field(default_factory=list)


def choose_roles(table: Table, options: DataOptions, root: Path, *, expected: Mapping[str, Head]) -> Roles:
    """The role of every column.

    expected: heads whose names, or whose classes as columns of 0 and 1, are looked for before anything is guessed.
    Raises UsageError for a column that is not there, DataError where a role cannot be filled or guessed.
    """
    for name in (options.image_column, *options.label_column, options.split_column, options.group_column):
        if name is not None and name not in table.names:
            raise _no_column(name, table)
    image, reading = image_column(table, options, root)
    split = options.split_column
    if split is None and table.parts is None:
        split = next((name for name in _free(table, (image,)) if _states_parts(table, name)), None)
    taken = {name for name in (image, split, options.group_column) if name is not None}
    heads, guessed = _heads(table, options, taken, expected)
    if image in [name for which in heads.values() for name in which.columns]:
        raise UsageError(f"the column {image!r} of {table.where} holds the pictures, not the labels")
    notes = []
    if guessed or options.image_column is None or split != options.split_column:
        notes.append(_said(table, image, reading, heads, split, options.group_column))
    if options.group_column is None and options.holdout_combinations is None and split is None:
        used = {column for which in heads.values() for column in which.columns}
        groups = [name for name in table.columns if name.casefold() in GROUP_NAMES and name not in used]
        if groups:
            notes.append(
                f"rows of one {some(groups[:1])} may go to two parts; --group-column {printable(groups[0])} keeps "
                "them together"
            )
    return Roles(
        image=image,
        reading=reading,
        heads=heads,
        one_hot=guessed,
        split=split,
        group=options.group_column,
        notes=notes,
    )


def image_column(table: Table, options: DataOptions, root: Path) -> tuple[str, Reading | None]:
    """The column of pictures (no reading), or of paths and how they are read."""
    asked = options.image_column
    if asked in table.pictures or (asked is None and table.pictures):
        if options.root is not None:
            raise UsageError(f"--root belongs to a column of paths; {table.where} holds the pictures themselves")
        return asked or sorted(table.pictures, key=_rank)[0], None
    if asked is not None:
        return asked, _reading_of(table, asked, root)
    best: tuple[int, str, Reading] | None = None
    for name in sorted(_free(table, ()), key=_rank):
        if not table.is_list(name):
            cells = spread(table.file_names(name))
            reading, there = best_reading(cells, root)
            if there == len(cells) > 0:
                return name, reading
            if there and (best is None or there > best[0]):
                best = there, name, reading
    if best is None:
        raise DataError(_no_paths(table, root, _free(table, ())))
    return best[1], best[2]


def _rank(name: str) -> int:
    """Smaller for a name that columns of pictures often have."""
    low = name.casefold()
    return IMAGE_NAMES.index(low) if low in IMAGE_NAMES else len(IMAGE_NAMES)


def _reading_of(table: Table, name: str, root: Path) -> Reading:
    """How a column that is said to hold paths is read. Raises DataError where it names no file at all."""
    if table.is_list(name):
        raise DataError(f"the column {name!r} of {table.where} holds lists, no paths; give another --image-column")
    cells = [cell for cell in table.file_names(name) if cell]
    reading, there = best_reading(spread(cells), root)
    if not there and not names_a_file(cells, root):
        raise DataError(_no_paths(table, root, [name]))
    return reading if there else READINGS[0]


def _no_paths(table: Table, root: Path, names: Sequence[str]) -> str:
    """Why none of the columns is one of paths, and what to give."""
    name = min(names, key=_rank, default=None)
    if name is None:
        return f"{table.where} has no column of pictures or paths; its columns are {some(table.names, 8)}"
    cells = [] if table.is_list(name) else spread(table.file_names(name))
    if not cells:
        return f"the column {name!r} of {table.where} is empty; give another --image-column"
    if SCHEME.match(cells[0]):
        return (
            f"the column {name!r} of {table.where} holds addresses, which are not fetched; download the pictures"
        )
    no_file = f"{some(cells[:1])} is no file in {printable(str(root))}"
    about = f"the column {name!r} of {table.where} holds no paths: {no_file}"
    beside = folder_beside(cells, root)
    if beside is not None:
        return f"{about}; in {printable(beside.name)} there is one: --root {printable(str(beside))}"
    others = [other for other in table.columns if other not in names and not table.is_list(other)]
    better = next((other for other in others if best_reading(spread(table.file_names(other)), root)[1]), None)
    if better is not None:
        return f"{about}; the column of paths is {some([better])}"
    columns = some(table.names, 8)
    return f"{about}; say where they are with --root, or name the column with --image-column (there are {columns})"


def _heads(
    table: Table, options: DataOptions, taken: Collection[str], expected: Mapping[str, Head]
) -> tuple[dict[str, HeadColumns], bool]:
    """name -> columns, and whether they were guessed. One head is called `label`, several by their columns."""
    lists = options.multi_label != (NONE,)
    asked = {} if not lists else _asked_multi(table, options.multi_label)
    guessed = False
    heads = {name: asked.get(name) or _columns_of(table, name, lists) for name in options.label_column} | asked
    if not heads:
        heads = _expected(table, expected, taken, lists)
    if not heads:
        heads, guessed = _guess(table, taken, lists), True
    return ({LABEL: next(iter(heads.values()))} if len(heads) == 1 else heads), guessed


def _asked_multi(table: Table, asked: Sequence[str]) -> dict[str, HeadColumns]:
    """`COLUMN` of lists, or `NAME=COLUMN,COLUMN` of 0 and 1."""
    heads: dict[str, HeadColumns] = {}
    for text in asked:
        name, equals, columns = text.partition("=")
        if text in table.columns:
            separator = separator_of(table, text, asked=True)
            heads[text] = HeadColumns(columns=(text,), kind="lists", separator=separator or "")
            continue
        if not equals or not name:
            raise _no_column(text, table)
        marks = tuple(column.strip() for column in columns.split(","))
        for column in marks:
            if column not in table.columns:
                raise _no_column(column, table)
        if len(set(marks)) != len(marks):
            raise UsageError(f"--multi-label {text} names a column twice")
        heads[name] = HeadColumns(columns=marks, kind="marks")
    return heads


def _columns_of(table: Table, name: str, lists: bool) -> HeadColumns:
    if name not in table.columns:
        raise UsageError(f"the column {name!r} of {table.where} holds pictures, not labels")
    separator = separator_of(table, name) if lists else None
    if separator is None:
        return HeadColumns(columns=(name,), kind="classes")
    return HeadColumns(columns=(name,), kind="lists", separator=separator)


def _expected(
    table: Table, expected: Mapping[str, Head], taken: Collection[str], lists: bool
) -> dict[str, HeadColumns]:
    """The expected heads that the table has columns for."""
    heads = {}
    for name, head in expected.items():
        if head.kind == "multi" and len(head) > 1 and all(column in table.columns for column in head.ids):
            heads[name] = HeadColumns(columns=head.ids, kind="marks")
        elif name in _free(table, taken) and head.kind == "multi":
            separator = separator_of(table, name, asked=True)
            heads[name] = HeadColumns(columns=(name,), kind="lists", separator=separator or "")
        elif name in _free(table, taken):
            heads[name] = _columns_of(table, name, lists)
    return heads


def _guess(table: Table, taken: Collection[str], lists: bool) -> dict[str, HeadColumns]:
    free = _free(table, taken)
    named = sorted(
        (name for name in free if name.casefold() in LABEL_NAMES),
        key=lambda name: LABEL_NAMES.index(name.casefold()),
    )
    if named:
        return {named[0]: _columns_of(table, named[0], lists)}
    found = [name for name in free if name.casefold() not in GROUP_NAMES and _holds_classes(table, name, lists)]
    marks = [name for name in found if holds_marks(table, name)]
    if len(found) > 1 and marks == found:
        return {LABEL: HeadColumns(columns=tuple(marks), kind="marks")}
    if len(found) == 1:
        return {found[0]: _columns_of(table, found[0], lists)}
    if found:
        raise DataError(
            f"{table.where} has several columns that could hold the classes: {some(found, 8)}; say which with "
            f"--label-column {printable(found[0])}, repeated for several"
        )
    raise DataError(
        f"{table.where} has no column that looks like classes; name it with --label-column (it has "
        f"{some(table.names, 8)})"
    )


def _holds_classes(table: Table, name: str, lists: bool) -> bool:
    """Whether a column has values that come again, or lists, and no fractions."""
    if lists and separator_of(table, name) is not None:
        return True
    if table.is_list(name):
        return False
    texts = table.text(name).drop_null()
    values = texts.unique().to_pylist()
    return 2 <= len(values) <= len(texts) / 2 and not any(map(_FRACTION.fullmatch, values))


def _states_parts(table: Table, name: str) -> bool:
    if table.is_list(name) or name.casefold() in LABEL_NAMES:
        return False
    values = pc.utf8_lower(table.text(name).drop_null()).unique().to_pylist()
    return bool(values) and all(value in PART_FOLDERS for value in values)


def _free(table: Table, taken: Collection[str]) -> list[str]:
    """The columns without a role yet; a column without a name never gets one."""
    return [name for name in table.columns if name and name not in taken]


def _no_column(name: str, table: Table) -> UsageError:
    listed = f"the columns are {some(table.names, 8)}"
    return unknown_name(f"column in {table.where}", name, table.names, list_all=listed)


def _said(
    table: Table,
    image: str,
    reading: Reading | None,
    heads: Mapping[str, HeadColumns],
    split: str | None,
    group: str | None,
) -> str:
    """The roles in one line."""
    how = f" ({reading})" if reading is not None and str(reading) else ""
    words = [f"{'paths' if reading is not None else 'pictures'} in {some([image])}{how}"]
    classes = [which.columns[0] for which in heads.values() if which.kind == "classes"]
    words += [f"classes in {some(classes, 8)}"] if classes else []
    for which in heads.values():
        if which.kind == "lists":
            words.append(f"lists of classes in {some(which.columns)}, {shown_separator(which.separator)}")
        elif which.kind == "marks":
            words.append(f"0 and 1 in {some(which.columns)}")
    words += [] if split is None else [f"parts in {some([split])}"]
    words += [] if group is None else [f"groups in {some([group])}"]
    flags = "--image-column, --label-column and --split-column say otherwise"
    return f"{table.where}: {', '.join(words)}; {flags}"
