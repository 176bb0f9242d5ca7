"""A model's classes and a data set's: the same question is matched by name, the same class by id."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError
from resnets.base.text import printable, some
from resnets.labels import Head


@dataclass(frozen=True, kw_only=True)
class Match:
    """A head of the data and the model's head that answers it.

    positions: (classes of the data,) each one's position in the model's head. note: what a user should know.
    """

    data: str
    model: str
    positions: npt.NDArray[np.int64]
    note: str = ""


def match_heads(
    model: Mapping[str, Head], data: Mapping[str, Head], *, unnamed: Collection[str] = (), where: str = "the data"
) -> list[Match]:
    """Every head of the model that the data has labels for; one head on either side answers the other.

    unnamed: the model's heads whose classes have no names; they are matched by position.
    Raises DataError where no head answers, or where the data has classes that the model does not know.
    """
    if len(model) == 1 and len(data) == 1:
        pairs = [(next(iter(data)), next(iter(model)))]
    else:
        pairs = [(name, name) for name in model if name in data]
    if not pairs:
        raise DataError(
            f"{where} has labels for {some(list(data))}, the model answers {some(list(model)) or 'nothing'}; "
            "give data with labels of the same name"
        )
    return [
        match_classes(model[ours], data[theirs], names=(ours, theirs), unnamed=ours in unnamed, where=where)
        for theirs, ours in pairs
    ]


def match_classes(model: Head, data: Head, *, names: tuple[str, str], unnamed: bool, where: str) -> Match:
    """The data's classes in the model's head; `names` are the heads' (model, data)."""
    ours, theirs = names
    if model.kind != data.kind:
        kinds = {"single": "one class a picture", "multi": "several classes a picture"}
        raise DataError(
            f"{where} has {kinds[data.kind]} in {some([theirs])}, the model answers {kinds[model.kind]}; "
            "give data with labels of the model's kind"
        )
    if unnamed:
        if len(model) != len(data):
            raise DataError(
                f"the model has {len(model)} classes without names, {where} has {len(data)}; "
                "they can only be matched where the counts agree"
            )
        note = f"the model does not name its classes: its {len(model)} are taken in the order of {where}'s"
        return Match(data=theirs, model=ours, positions=np.arange(len(data)), note=note)
    index = model.index()
    unknown = [name for name in data.ids if name not in index]
    if unknown:
        raise DataError(
            f"{where} has {len(unknown)} of {len(data)} classes that the model does not know: {some(unknown)}; "
            f"the model knows {some(list(model.ids))}" + _hint(model, unknown)
        )
    positions = np.array([index[name] for name in data.ids], dtype=np.int64)
    fewer = f"{where} has {len(data):,} of the model's {len(model):,} classes"
    return Match(data=theirs, model=ours, positions=positions, note=fewer if len(data) < len(model) else "")


def _hint(model: Head, unknown: list[str]) -> str:
    """Where the data has the names in the ids' place."""
    named = next((name for name in unknown if model.named(name)), None)
    if named is None:
        return ""
    ids = [f"'{printable(one)}'" for one in model.named(named)]
    which = f"the id of '{printable(named)}' is" if len(ids) == 1 else f"the ids of '{printable(named)}' are"
    return f"; classes are matched by id: {which} {' and '.join(ids)}"
