"""Several classes a picture: rows of 1, 0 and MISSING, and the lists of ids that stand for them in a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from resnets.base.errors import DataError
from resnets.base.text import some
from resnets.data.source import MISSING

Presence = npt.NDArray[np.int8]  # (n, classes): 1 there, 0 not there, MISSING not known
CELLS_LIMIT = 2**31  # rows x classes of one head


def unknown_column(column: str) -> str:
    """The column beside a head's, of the classes that are not known where a row is known for some of them."""
    return f"{column}.unknown"


def as_lists(column: str, ids: Sequence[str], presence: npt.NDArray[Any]) -> dict[str, list[list[str] | None]]:
    """The manifest's columns of a head: the ids that are there, None for a row of which nothing is known."""
    known = (presence != MISSING).any(axis=1)
    columns = {
        column: [row if there else None for row, there in zip(_named(presence == 1, ids), known, strict=True)]
    }
    partly = (presence == MISSING) & known[:, None]
    if partly.any():
        columns[unknown_column(column)] = [row or None for row in _named(partly, ids)]
    return columns


def from_lists(table: pa.Table, column: str, ids: Sequence[str]) -> Presence:
    """The inverse of `as_lists`. Raises DataError for an id that is not in `ids`."""
    presence = presence_of(table[column].combine_chunks(), ids, where=f"the manifest's column {column!r}")
    name = unknown_column(column)
    if name in table.column_names:
        partly = presence_of(table[name].combine_chunks(), ids, where=f"the manifest's column {name!r}")
        presence[partly == 1] = MISSING
    return presence


def presence_of(lists: Any, ids: Sequence[str], *, where: str) -> Presence:
    """(n, classes) of an Arrow array of lists of ids; MISSING where the list is null.

    Raises DataError for an id that is not in `ids`, and for more cells than CELLS_LIMIT.
    """
    if len(lists) * len(ids) > CELLS_LIMIT:
        raise DataError(f"{where} has {len(ids):,} classes for {len(lists):,} rows; is it a list of classes?")
    presence = np.zeros((len(lists), len(ids)), dtype=np.int8)
    presence[np.asarray(lists.is_null().to_numpy(zero_copy_only=False))] = MISSING
    items = lists.flatten().dictionary_encode()
    position = {name: number for number, name in enumerate(ids)}
    known = items.dictionary.to_pylist()
    unknown = [name for name in known if name not in position]
    if unknown:
        raise DataError(f"{where} has the class {some(list(map(str, unknown)))}, which its head lacks")
    columns = np.array([position[name] for name in known], dtype=np.int64)
    there = np.asarray(items.is_valid().to_numpy(zero_copy_only=False))
    rows = np.asarray(lists.value_parent_indices().to_numpy())[there]
    presence[rows, columns[items.drop_null().indices.to_numpy()]] = 1
    return presence


def _named(chosen: npt.NDArray[np.bool_], ids: Sequence[str]) -> list[list[str]]:
    """The ids of each row's chosen classes, in their order."""
    rows, columns = np.nonzero(chosen)
    names = np.array(ids, dtype=object)[columns].tolist()
    ends = np.cumsum(np.bincount(rows, minlength=len(chosen))).tolist()
    return [names[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if len(chosen) else []
