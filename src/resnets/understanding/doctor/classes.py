"""Findings about classes: names that are alike, parts without a class, small and unequal ones."""

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resnets.base.text import counted
from resnets.data.dataset import Data
from resnets.data.source import PARTS
from resnets.understanding.doctor.finding import Example, Finding, of_things

SMALL_CLASS = 10  # training pictures
UNEQUAL = 10.0  # the largest class over a class


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pictures of a head's classes: part -> (classes,), for the parts that have any picture.

    without: pictures for which this head has no label; with one head they are left out.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    of_part: dict[str, npt.NDArray[np.int64]]
    without: int = 0

    @property
    def total(self) -> npt.NDArray[np.int64]:
        return np.asarray(np.sum([np.zeros(len(self.ids), dtype=np.int64), *self.of_part.values()], axis=0))


def class_counts(data: Data, failed: dict[int, str]) -> dict[str, Counts]:
    """Head -> how many pictures each class has, without those that could not be decoded."""
    counts = {}
    for name, head in data.heads.items():
        labels = data.manifest.labels(name)
        of_part = {}
        for part in PARTS:
            rows = np.setdiff1d(data.rows(part), list(failed)).astype(np.int64)
            if len(rows):
                held = labels[rows]
                of_part[part] = (
                    np.bincount(held[held >= 0], minlength=len(head))
                    if held.ndim == 1
                    else (held == 1).sum(axis=0, dtype=np.int64)
                )
        kept = np.setdiff1d(data.rows("all"), list(failed)).astype(np.int64)
        without = int((~data.labelled(name)[kept]).sum())
        counts[name] = Counts(ids=head.ids, names=head.names, of_part=of_part, without=without)
    return counts


def about_classes(counts: dict[str, Counts]) -> list[Finding]:
    alike, missing, small, unequal = [], [], [], []
    for head, of in counts.items():
        where = f"{head}: " if len(counts) > 1 else ""
        size = of.total
        for group in alike_names(of.ids):
            one = of.ids[group[0]]
            for place in group[1:]:
                note = f"{_difference(one, of.ids[place])}; {size[group[0]]:,} and {size[place]:,} pictures"
                alike.append(Example(path=where + one, other=where + of.ids[place], note=note))
        for part, numbers in of.of_part.items():
            missing += [
                Example(path=where + of.ids[place], note=f"not in {part}")
                for place in np.flatnonzero(numbers == 0)
            ]
        first = next(iter(of.of_part), None)
        if first is None:
            continue
        numbers, part = of.of_part[first], "training " if first == PARTS[0] else ""
        for place in np.argsort(numbers, kind="stable").tolist():
            note = counted(int(numbers[place]), f"{part}picture")
            if 0 < numbers[place] < SMALL_CLASS:
                small.append(Example(path=where + of.ids[place], note=note))
            elif numbers[place] and numbers[place] * UNEQUAL < numbers.max():
                unequal.append(Example(path=where + of.ids[place], note=f"{note}, the largest {numbers.max():,}"))
    return [
        *of_things("class-names", alike),
        *of_things("missing-classes", missing),
        *of_things("small-classes", small),
        *of_things("imbalance", unequal),
    ]


def alike_names(ids: tuple[str, ...]) -> list[list[int]]:
    """Groups of positions whose ids are the same but for capitals, Unicode form, zeros, spaces and separators."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(ids):
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        plain = re.sub(r"[\s_-]+", " ", folded).strip()
        groups.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", plain), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _difference(one: str, other: str) -> str:
    if unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other):
        return "Unicode form"
    if one.strip() == other.strip():
        return "a space at an end"
    if one.casefold() == other.casefold():
        return "capitals"
    return "zeros" if re.sub(r"0+", "", one) == re.sub(r"0+", "", other) else "spaces or signs"
