"""From a table's columns to heads and labels: one class a cell, a list of classes, or columns of 0 and 1."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from resnets.base.errors import DataError
from resnets.base.text import printable, some
from resnets.data.classes import in_order
from resnets.data.multi import CELLS_LIMIT, presence_of
from resnets.data.source import MISSING, TRAIN, Labels
from resnets.data.sources.table_file import Table
from resnets.labels import Head

SEPARATORS = ("|", ";")  # of lists that are found; the first that occurs is taken
ASKED_SEPARATORS = ("|", ";", ",", " ")  # where a column is said to hold lists
LISTS_FROM = 0.05  # the share of cells with a separator from which a column holds lists

PRESENT, ABSENT, UNKNOWN = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no"), ("-1", "-1.0")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True, kw_only=True)
class HeadColumns:
    """The columns of one head: one of classes or lists, or several of 0 and 1.

    kind: `classes`, `lists`, or `marks` (0 and 1). separator: of lists in text.
    """

    columns: tuple[str, ...]
    kind: str
    separator: str = ""


def separator_of(table: Table, name: str, *, asked: bool = False) -> str | None:
    """What divides the cells of a column that holds lists; None where they are no lists. "": none is needed.

    asked: the column is said to hold lists, which then may be divided by commas or blanks, or hold one class each.
    """
    if table.is_list(name):
        return ""
    texts = table.text(name).drop_null()
    for separator in ASKED_SEPARATORS if asked else SEPARATORS:
        count = pc.sum(pc.match_substring(texts, separator)).as_py() or 0
        if count and (asked or count >= LISTS_FROM * len(texts)):
            return separator
    return SEPARATORS[0] if asked else None


def holds_marks(table: Table, name: str) -> bool:
    """Whether a column holds nothing but 0 and 1, both of them."""
    if table.is_list(name) or name in table.class_names:
        return False
    values = set(pc.utf8_lower(table.text(name).drop_null()).unique().to_pylist())
    return bool(values & set(PRESENT)) and bool(values & set(ABSENT)) and values <= {*PRESENT, *ABSENT, *UNKNOWN}


def head_of(table: Table, which: HeadColumns, *, parts: Sequence[str] | None) -> tuple[Head, Labels]:
    """A head and the labels of all rows.

    parts: one a row, where they are stated: the classes are those of the training part. Raises DataError where
    another part has a class that it lacks, and for cells that cannot be read.
    """
    training = None
    if parts is not None and TRAIN in parts:
        training = np.array([part == TRAIN for part in parts])
    if which.kind == "marks":
        return _from_marks(table, which.columns)
    (name,) = which.columns
    if which.kind == "lists":
        return _from_lists(table, name, which.separator, training)
    return _from_classes(table, name, training)


def one_hot(presence: npt.NDArray[Any]) -> bool:
    """Whether every row that is known has one class."""
    known = (presence != MISSING).any(axis=1)
    return bool(known.any()) and bool((presence[known].sum(axis=1) == 1).all() and (presence[known] >= 0).all())


def as_single(head: Head, presence: npt.NDArray[Any]) -> tuple[Head, npt.NDArray[np.int64]]:
    """A head with one class a picture, of columns of which one is 1."""
    labels = np.where((presence == 1).any(axis=1), presence.argmax(axis=1), MISSING)
    return Head(ids=head.ids, names=head.names), labels.astype(np.int64)


def _from_classes(
    table: Table, name: str, training: npt.NDArray[np.bool_] | None
) -> tuple[Head, npt.NDArray[np.int64]]:
    encoded = table.text(name).dictionary_encode()
    texts = _whole_numbers(encoded.dictionary.to_pylist())
    codes = np.asarray(pc.fill_null(encoded.indices, MISSING).to_numpy(zero_copy_only=False), dtype=np.int64)
    there = np.unique(codes[codes != MISSING] if training is None else codes[(codes != MISSING) & training])
    ids = _class_ids(table, name, [texts[code] for code in there], texts)
    position = {text: number for number, text in enumerate(ids)}
    positions = np.array([*(position[text] for text in texts), MISSING], dtype=np.int64)
    return Head(ids=ids), positions[codes]


def _from_lists(
    table: Table, name: str, separator: str, training: npt.NDArray[np.bool_] | None
) -> tuple[Head, npt.NDArray[np.int8]]:
    column = table.columns[name] if table.is_list(name) else pc.split_pattern(table.text(name), separator)
    lists = _trimmed(column)
    chosen = lists if training is None else lists.filter(pa.array(training))
    ids = _class_ids(
        table, name, chosen.flatten().unique().to_pylist(), lists.flatten().unique().to_pylist(), kind="multi"
    )
    return Head(kind="multi", ids=ids), presence_of(lists, ids, where=f"the column {name!r} of {table.where}")


def _from_marks(table: Table, names: Sequence[str]) -> tuple[Head, npt.NDArray[np.int8]]:
    if len(table) * len(names) > CELLS_LIMIT:
        raise DataError(f"{table.where} has too many rows for {len(names):,} columns of 0 and 1; leave some out")
    presence = np.empty((len(table), len(names)), dtype=np.int8)
    for number, name in enumerate(names):
        encoded = pc.utf8_lower(table.text(name)).dictionary_encode()
        values = encoded.dictionary.to_pylist()
        wrong = [value for value in values if value not in {*PRESENT, *ABSENT, *UNKNOWN}]
        if wrong:
            raise DataError(
                f"the column {name!r} of {table.where} holds {some(wrong)}; a column of a multi-label head holds "
                "0, 1, or nothing where it is not known"
            )
        codes = pc.fill_null(encoded.indices, MISSING).to_numpy(zero_copy_only=False)
        marks = [1 if value in PRESENT else 0 if value in ABSENT else MISSING for value in values]
        presence[:, number] = np.array([*marks, MISSING], dtype=np.int8)[codes]
    return Head(kind="multi", ids=tuple(names)), presence


def _class_ids(
    table: Table, name: str, training: Iterable[str], every: Iterable[str], *, kind: str = "single"
) -> tuple[str, ...]:
    """The classes in their order: as the file states them, else those of the training rows."""
    known = set(training)
    ids = table.class_names.get(name) or in_order(known)
    unknown = in_order(set(every) - set(ids))
    if unknown:
        raise DataError(
            f"the column {name!r} of {table.where} has the class {some(unknown)} that the training part lacks; "
            "name it there as well, or leave the cell empty"
        )
    if not known:
        raise DataError(f"the column {name!r} of {table.where} names no class; give another with --label-column")
    return ids


def _whole_numbers(texts: list[str]) -> list[str]:
    """`3.0` as `3`, where every text is a whole number: what pandas makes of such a column with empty cells."""
    matches = [_WHOLE.fullmatch(text) for text in texts]
    if all(match or text.lstrip("+-").isdecimal() for match, text in zip(matches, texts, strict=True)):
        return [match[1] if match else text for match, text in zip(matches, texts, strict=True)]
    return texts


def _trimmed(lists: Any) -> Any:
    """Lists without blanks around their items, and without empty ones; a null list stays one."""
    items = pc.utf8_trim_whitespace(lists.flatten())
    rows = lists.value_parent_indices()
    filled = pc.fill_null(pc.not_equal(items, ""), False)
    counts = np.bincount(rows.filter(filled).to_numpy(), minlength=len(lists))
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32(), mask=np.append(_nulls(lists), False))
    return pa.ListArray.from_arrays(offsets, items.filter(filled))


def _nulls(lists: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(lists.is_null().to_numpy(zero_copy_only=False))


def shown_separator(separator: str) -> str:
    return f"joined by '{printable(separator)}'" if separator else "of the file"
