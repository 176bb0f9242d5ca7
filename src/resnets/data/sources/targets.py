"""Labels in memory: numbers, text, rows of 0 and 1, or several of these by name, to heads and positions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from resnets.base.errors import DataError
from resnets.base.text import some
from resnets.data.source import MISSING, TRAIN, Labels
from resnets.labels import LABEL, Head

Stated = Sequence[str] | Mapping[str, Sequence[str]]  # classes in order, of one label or of each by its name
Columns = Mapping[str, list[Any]]  # name -> what each picture has
Part = str | None


class MapDataset(Protocol):
    """A map-style dataset: items are (picture, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def pair(item: Any, origin: str) -> tuple[Any, Any]:
    """An item's picture and label. Raises DataError where it is no pair."""
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{origin}: items must be pairs (picture, label), got {type(item).__name__}")
    return item[0], item[1]


def stated_by(dataset: MapDataset) -> Stated | None:
    """What the dataset calls its classes (torchvision's name for it), where that is plain and unique text."""
    names = getattr(dataset, "classes", None)
    if isinstance(names, Mapping):
        return {name: tuple(classes) for name, classes in names.items() if _are_classes(classes)}
    return tuple(names) if names is not None and _are_classes(names) else None


def columns_of(dataset: MapDataset, origin: str) -> Columns:
    """Every picture's label, by name; plain ones are called `label`.

    torchvision's `targets` are taken where they agree with the first and the last item.
    """
    targets = getattr(dataset, "targets", None)
    if targets is not None:
        columns = _columns(targets, origin)
        if columns is not None and all(len(column) == len(dataset) for column in columns.values()):
            ends = [_by_name(pair(dataset[row], origin)[1], origin) for row in (0, len(dataset) - 1)]
            if all(
                end.keys() == columns.keys() and all(_equal(end[name], columns[name][row]) for name in end)
                for row, end in zip((0, -1), ends, strict=True)
            ):
                return columns
    rows = [_by_name(pair(dataset[row], origin)[1], origin) for row in range(len(dataset))]
    other = next((row for row, labels in enumerate(rows) if labels.keys() != rows[0].keys()), None)
    if other is not None:
        raise DataError(
            f"{origin}: item {other} has the labels {some(list(rows[other]))}, the first {some(list(rows[0]))}"
        )
    return {name: [labels[name] for labels in rows] for name in rows[0]}


def heads_of(
    columns: Mapping[Part, Columns], *, stated: Mapping[Part, Stated | None], origin: str
) -> tuple[dict[str, Head], dict[str, Labels]]:
    """The heads and the positions of all rows, part after part; `train`, where there is one, makes the classes."""
    leading = TRAIN if TRAIN in columns else next(iter(columns))
    heads: dict[str, Head] = {}
    labels: dict[str, Labels] = {}
    for part, of in columns.items():
        if of.keys() != columns[leading].keys():
            raise DataError(
                f"{origin}: {part} has the labels {some(list(of))}, {leading} {some(list(columns[leading]))}"
            )
    for name in columns[leading]:
        values = {part: of[name] for part, of in columns.items()}
        names = {part: _of_head(stated[part], name) for part in columns}
        make = _several if any(np.ndim(value) == 1 for value in values[leading][:1]) else _one
        heads[name], labels[name] = make(values, names, leading, origin)
    return heads, labels


def _one(
    values: Mapping[Part, list[Any]], stated: Mapping[Part, Sequence[str] | None], leading: Part, origin: str
) -> tuple[Head, Labels]:
    """One class a picture: the classes in order, each part by its own names where it states them."""
    general = stated[leading]
    ids = {part: _named(column, stated[part] or general, origin) for part, column in values.items()}
    there = {name for name in ids[leading] if name is not None}
    if general is not None:
        order = tuple(general)
    else:
        numbers = all(isinstance(value, int) for value in values[leading] if value is not None)
        order = tuple(sorted(there, key=int) if numbers else sorted(there))
    for part, column in ids.items():
        unknown = sorted({name for name in column if name is not None} - set(order))
        if unknown:
            raise DataError(f"{origin}: {part or 'a picture'} has the class {some(unknown)} that train lacks")
    position: dict[str | None, int] = {None: MISSING} | {name: number for number, name in enumerate(order)}
    every = [position[name] for column in ids.values() for name in column]
    return Head(ids=order), np.array(every, dtype=np.int64)


def _several(
    values: Mapping[Part, list[Any]], stated: Mapping[Part, Sequence[str] | None], leading: Part, origin: str
) -> tuple[Head, Labels]:
    """Several classes a picture: columns of 0 and 1, not known where one is NaN or -1."""
    rows = [np.asarray(value, dtype=np.float64) for column in values.values() for value in column]
    classes = len(rows[0])
    wrong = next((row for row in rows if row.shape != (classes,)), None)
    if wrong is not None:
        raise DataError(
            f"{origin}: labels of 0 and 1 must be as long as there are classes ({classes}), got {wrong.shape}"
        )
    cells = np.nan_to_num(np.stack(rows), nan=MISSING)
    other = np.unique(cells[~np.isin(cells, (0, 1, MISSING))])
    if len(other):
        raise DataError(
            f"{origin}: labels of several classes a picture are 0 and 1 (NaN or -1: not known), got {other[0]:g}"
        )
    names = stated[leading] or tuple(map(str, range(classes)))
    if len(names) != classes:
        raise DataError(f"{origin}: labels of {classes} classes cannot have {len(names)} names")
    return Head(kind="multi", ids=tuple(names)), cells.astype(np.int8)


def _columns(targets: Any, origin: str) -> Columns | None:
    """What a dataset calls its targets, where they are labels; None where they are something else."""
    named = targets if isinstance(targets, Mapping) else {LABEL: targets}
    try:
        return {str(name): [_label(value, origin) for value in column] for name, column in named.items()}
    except (DataError, TypeError):
        return None


def _by_name(label: Any, origin: str) -> dict[str, Any]:
    named = label if isinstance(label, Mapping) else {LABEL: label}
    return {str(name): _label(value, origin) for name, value in named.items()}


def _label(value: Any, origin: str) -> Any:
    """A whole number, text, None where it is missing, or an array of numbers."""
    if isinstance(value, str):
        return str(value)
    if value is None or np.ndim(value) == 1:
        return None if value is None else np.asarray(value)
    plain = value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value
    if isinstance(plain, float) and np.isnan(plain):
        return None
    if isinstance(plain, (int, str)) and not isinstance(plain, bool):
        return plain
    raise DataError(f"{origin}: a label must be a whole number or text, got {type(value).__name__}: {value!r:.60}")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    return bool(one == other)


def _of_head(stated: Stated | None, name: str) -> Sequence[str] | None:
    if isinstance(stated, Mapping):
        return stated.get(name)
    return stated if name == LABEL else None


def _are_classes(names: Any) -> bool:
    plain = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return plain and bool(names) and len(set(names)) == len(names)


def _named(column: Iterable[Any], stated: Sequence[str] | None, origin: str) -> list[str | None]:
    """Class ids of a part's labels: numbers by the stated names, or as text."""
    if stated is None:
        return [None if value is None else str(value) for value in column]
    column = list(column)
    wrong = next((value for value in column if isinstance(value, int) and not 0 <= value < len(stated)), None)
    if wrong is not None:
        raise DataError(f"{origin}: the label {wrong} is not one of its {len(stated)} classes")
    return [stated[value] if isinstance(value, int) else value for value in column]
