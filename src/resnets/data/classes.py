"""The order of classes, and shown names for them from a file that maps ids to names."""

import csv
import difflib
import json
from collections.abc import Iterable
from pathlib import Path

from resnets.base.errors import DataError
from resnets.base.text import printable, some
from resnets.labels import Head

HEADER = ("id", "class", "folder", "wnid", "label")  # first cells that name a column and are no id


def in_order(ids: Iterable[str]) -> tuple[str, ...]:
    """Class ids in the order that is kept: by value where all are whole numbers, else by code point."""
    ordered = sorted(set(ids))
    try:
        return tuple(sorted(ordered, key=int))
    except ValueError:  # text, or a number of more digits than int() takes
        return tuple(ordered)


def read_class_names(path: Path) -> dict[str, str]:
    """id -> name, from a CSV or TSV file with lines `id,name`, or from a JSON object.

    A first line whose first cell is in HEADER is a heading. Raises DataError for what cannot be read, an id that
    occurs twice, and lines without two cells.
    """
    where = printable(str(path))
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the class names {where} cannot be read: {error}; give a CSV, TSV or JSON file"
        ) from error
    if text.lstrip().startswith("{"):
        return _from_json(text, where)
    first = text.partition("\n")[0]
    names: dict[str, str] = {}
    for number, cells in enumerate(
        csv.reader(text.splitlines(), delimiter="\t" if "\t" in first else ","), start=1
    ):
        if not any(cells) or (number == 1 and cells[0].strip().casefold() in HEADER):
            continue
        if len(cells) < 2 or not cells[1].strip():
            raise DataError(f"{where}, line {number}: an id and a name are needed, got {','.join(cells)!r:.80}")
        if cells[0] in names:
            raise DataError(f"{where}, line {number}: the class {some([cells[0]])} is there twice")
        names[cells[0]] = cells[1].strip()
    return names


def with_names(heads: dict[str, Head], names: dict[str, str], *, where: str) -> dict[str, Head]:
    """The heads with shown names; ids without one keep theirs. Raises DataError for ids that no head has."""
    known = [name for head in heads.values() for name in head.ids]
    unknown = [name for name in names if name not in set(known)]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        meant = f"did you mean {some(near)}?" if near else f"the classes are {some(known, 10)}"
        raise DataError(f"{printable(where)} names the class {some(unknown)}, which the data lacks; {meant}")
    return {
        key: Head(
            kind=head.kind,
            ids=head.ids,
            names=tuple(names.get(name, old) for name, old in zip(head.ids, head.names, strict=True)),
            thresholds=head.thresholds,
        )
        for key, head in heads.items()
    }


def _from_json(text: str, where: str) -> dict[str, str]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DataError(f"the class names {where} are no JSON that can be read: {error}") from error
    wrong = [name for name, value in values.items() if not isinstance(value, str)]
    if wrong:
        raise DataError(f"{where} must give each class id one name as text; {some(wrong)} does not")
    return dict(values)
