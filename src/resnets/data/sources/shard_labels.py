"""What the samples of shards say of their classes: `KEY.cls`, `KEY.json`, and the files of names beside them.

A label is a class's position where it is a whole number and the classes are stated, an id where it is text. Where
no file states the classes, a whole number is an id too; one below 0 is no label.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from resnets.base.errors import DataError
from resnets.base.text import printable, some
from resnets.data.classes import in_order, read_class_names
from resnets.data.manifest import TYPES
from resnets.data.multi import presence_of, unknown_column
from resnets.data.source import MISSING, TRAIN, Labels, Traits
from resnets.labels import LABEL, Head

FORMAT = 1  # of classes.json
CLASSES, NAMES = "classes.json", "classes.txt"
CLASS_FILES = (CLASSES, NAMES)
LABEL_BYTES = 2**20  # of one KEY.cls or KEY.json
LABEL_KEYS = (LABEL, "labels", "cls", "class")  # of a JSON object: the first that is there is the only label

_NUMBER = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True, kw_only=True)
class Classes:
    """What the files beside the shards state. heads: None where the labels themselves tell. names: id -> name."""

    heads: dict[str, Head] | None = None
    names: dict[str, str] = field(default_factory=dict)
    traits: Traits | None = None


def read_classes(folder: Path) -> Classes:
    """What `classes.json` or `classes.txt` of a folder says; nothing where there is neither.

    classes.json: what `resnets shards` writes, a list of ids in order, or an object id -> name. classes.txt: an id
    a line. Raises DataError for anything else.
    """
    try:
        if (folder / CLASSES).exists():
            return _from_json(folder / CLASSES)
        if (folder / NAMES).exists():
            lines = (folder / NAMES).read_text("utf-8-sig").splitlines()
            return _listed([line.strip() for line in lines if line.strip()])
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"the classes in {printable(str(folder))} cannot be used: {printable(str(error))}; "
            f"{CLASSES} is what resnets shards writes, a list of ids, or an object with a name for each id"
        ) from error
    return Classes()


def label_of(name: str, content: bytes | None) -> tuple[Any, str]:
    """A sample's label: a whole number, a text, an object, or None and why its file cannot be used, if so."""
    if content is None:
        return None, f"its label {name} has more than {LABEL_BYTES:,} bytes"
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None, f"its label {name} is not UTF-8 text"
    if not name.casefold().endswith(".json"):
        return (int(text) if _NUMBER.fullmatch(text) else text or None), ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None, f"its label {name} is no JSON that can be read"
    return (found, "") if isinstance(found, dict) else (None, f"its label {name} is no JSON object")


def labels_of(
    found: Sequence[Any], parts: Sequence[str] | None, classes: Classes, *, where: str
) -> tuple[dict[str, Head], dict[str, Labels], list[str]]:
    """Heads, labels and notes from what `label_of` gave for each row, and the parts of the rows.

    Raises DataError for a class that is not stated, or that the training part lacks, and where there is no label.
    """
    columns, notes = _columns(found, classes)
    leading = (
        np.array([part == TRAIN for part in parts]) if parts and TRAIN in parts else np.ones(len(found), bool)
    )
    heads: dict[str, Head] = {}
    labels: dict[str, Labels] = {}
    for name, values in columns.items():
        about = f"{name!r} of {where}"
        head = (classes.heads or {}).get(name)
        if head is None:
            head = _head(values, leading, classes.names if name == LABEL else {}, about)
        if head is None:
            continue
        heads[name] = head
        if head.kind == "multi":
            unknown = _values(found, unknown_column(name), False)
            labels[name] = _presence(values, unknown, head, about, stated=classes.heads is not None)
        else:
            labels[name] = _positions(values, head, about, stated=classes.heads is not None)
    if not heads:
        raise DataError(
            f"{where} hold no labels; a sample KEY.jpg needs its class in KEY.cls, or in an object in KEY.json"
        )
    return heads, labels, notes


def _from_json(path: Path) -> Classes:
    stated = json.loads(path.read_text("utf-8-sig"))
    if isinstance(stated, list):
        return _listed([str(name) for name in stated])
    if not isinstance(stated.get("heads"), dict):
        return Classes(names=read_class_names(path))
    if stated.get("format", FORMAT) > FORMAT:
        raise ValueError("they were written by a later version of resnets; update resnets")
    heads = {str(name): Head.from_json(head) for name, head in stated["heads"].items()}
    return Classes(heads=heads, traits=Traits(**stated["traits"]) if "traits" in stated else None)


def _listed(names: list[str]) -> Classes:
    """Ids in order; names that repeat are shown for the numbers."""
    if len(set(names)) == len(names):
        return Classes(heads={LABEL: Head(ids=tuple(names))})
    ids = tuple(str(number) for number in range(len(names)))
    return Classes(heads={LABEL: Head(ids=ids, names=tuple(names))})


def _columns(found: Sequence[Any], classes: Classes) -> tuple[dict[str, list[Any]], list[str]]:
    """Head -> a value a row, for the heads that are stated, else for what the labels are called."""
    if classes.heads is not None:
        alone = len(classes.heads) == 1
        return {name: _values(found, name, alone) for name in classes.heads}, []
    keys = dict.fromkeys(key for label in found if isinstance(label, dict) for key in label)
    plain = any(label is not None and not isinstance(label, dict) for label in found)
    chosen = next((key for key in LABEL_KEYS if key in keys), None)
    if plain or chosen is not None:
        values = _values(found, chosen or LABEL, True)
        return {LABEL: values}, _note([chosen or LABEL], [key for key in keys if key != chosen])
    whole = {key: _values(found, key, False) for key in keys if _can_name(key)}
    taken = {key: values for key, values in whole.items() if _are_labels(values) and not _is_companion(key, whole)}
    return taken, _note(list(taken), [key for key in keys if key not in taken])


def _note(taken: list[str], unused: list[str]) -> list[str]:
    """What was taken for labels where objects have more than that."""
    if not unused or not taken:
        return []
    return [
        f"labels in the samples' JSON: {some(taken)}; not used: {some(unused)} ({CLASSES} can state the heads)"
    ]


def _values(found: Sequence[Any], name: str, plain: bool) -> list[Any]:
    """A value a row: of an object what is called so; a number or text itself where `plain`."""
    return [label.get(name) if isinstance(label, dict) else label if plain else None for label in found]


def _is_companion(key: str, columns: Mapping[str, Any]) -> bool:
    return any(key == unknown_column(name) for name in columns)


def _can_name(key: str) -> bool:
    """Whether a head can be called so."""
    return key.isprintable() and key != "" and key not in TYPES


def _are_labels(values: Sequence[Any]) -> bool:
    """Whether a column holds whole numbers and texts, or lists of them."""
    there = [value for value in values if value is not None]
    flat = [item for value in there for item in (value if isinstance(value, list) else [value])]
    return bool(there) and all(isinstance(item, int | str) for item in flat)


def _head(values: Sequence[Any], leading: npt.NDArray[np.bool_], names: dict[str, str], about: str) -> Head | None:
    """The classes of a column, from the rows of the leading part; None where no row has one."""
    there = [value for value, leads in zip(values, leading, strict=True) if leads and value is not None]
    lists = [value for value in there if isinstance(value, list)]
    if lists and len(lists) < len(there):
        raise DataError(
            f"the label {about} is a list in some samples and one class in others; make it one of them"
        )
    flat = [item for value in there for item in (value if isinstance(value, list) else [value])]
    ids = in_order(_text(item) for item in flat if not _is_missing(item))
    if not ids:
        return None
    shown = tuple(names.get(one, one) for one in ids)
    return Head(kind="multi" if lists else "single", ids=ids, names=shown)


def _positions(values: Sequence[Any], head: Head, about: str, *, stated: bool) -> npt.NDArray[np.int64]:
    """Class positions. stated: whole numbers are positions, texts ids; else both are ids."""
    position = head.index()
    positions = np.full(len(values), MISSING, dtype=np.int64)
    for row, value in enumerate(values):
        if value is None or _is_missing(value):
            continue
        if isinstance(value, list | dict | float):
            raise DataError(f"the label {about} must be one class, got {json.dumps(value):.80}")
        one = _id(value, head, stated)
        if one not in position:
            raise DataError(
                f"the label {about} has the class {some([one])}, which is none of its {len(head)} "
                f"({some(list(head.ids))}); a class must be in the training part, or in {CLASSES}"
            )
        positions[row] = position[one]
    return positions


def _presence(values: Sequence[Any], unknown: Sequence[Any], head: Head, about: str, *, stated: bool) -> Labels:
    """(n, classes) of 1, 0 and MISSING."""
    wrong = next((value for value in (*values, *unknown) if not isinstance(value, list | None)), None)
    if wrong is not None:
        raise DataError(f"the label {about} must be a list of classes, got {json.dumps(wrong):.80}")
    kind, where = pa.list_(pa.string()), f"the label {about}"
    lists = [None if row is None else [_id(item, head, stated) for item in row] for row in values]
    partly = [[_id(item, head, stated) for item in row or []] for row in unknown]
    presence = presence_of(pa.array(lists, kind), head.ids, where=where)
    presence[presence_of(pa.array(partly, kind), head.ids, where=where) == 1] = MISSING
    return presence


def _id(value: Any, head: Head, stated: bool) -> str:
    """The class id that a value stands for: where classes are stated, a whole number is a position."""
    if stated and type(value) is int:
        return head.ids[value] if 0 <= value < len(head) else f"position {value}"
    return _text(value)


def _text(value: Any) -> str:
    """A value as an id; half a UTF-16 pair, which no file can hold, is escaped."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", errors="backslashreplace").decode()


def _is_missing(value: Any) -> bool:
    return value == "" or (isinstance(value, int) and value < 0)
