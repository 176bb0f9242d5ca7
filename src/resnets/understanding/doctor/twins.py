"""Copies: groups of equal and nearly equal pictures, and which of each is to be kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resnets.data.source import TEST, TRAIN, VAL
from resnets.understanding.doctor.facts import Facts
from resnets.understanding.doctor.near import SMALLEST, near_pairs

GUARDED = (TEST, VAL, TRAIN, None)  # the copy in the part that stands first is the one to keep

Group = list[int]  # rows, two at least, the one to keep first


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Groups of copies. equal: of one content. near: of nearly the same, one row a content. all: both together.

    small: how many pictures were too small to be compared with others.
    """

    equal: list[Group]
    near: list[Group]
    all: list[Group]
    small: int

    def keepers(self) -> dict[int, int]:
        """Each copy -> the picture of its group that is to be kept."""
        return {row: group[0] for group in self.all for row in group[1:]}


def find_twins(
    facts: Facts,
    contents: Sequence[bytes],
    sides: npt.NDArray[np.int32],
    parts: Sequence[str | None],
    *,
    even: Iterable[int],
) -> Twins:
    """sides: (n, 2) widths and heights in pixels. even: rows of pictures too even to be compared."""

    def ordered(rows: Iterable[int]) -> Group:
        return sorted(rows, key=lambda row: (GUARDED.index(parts[row]), row))

    of_content: dict[bytes, Group] = {}
    for row in facts.rows().tolist():
        of_content.setdefault(contents[row], []).append(row)
    groups = [ordered(rows) for rows in of_content.values()]
    leaders = np.setdiff1d([group[0] for group in groups], list(even)).astype(np.int64)
    large = leaders[sides[leaders].min(axis=1) >= SMALLEST] if len(leaders) else leaders
    records = facts.records[large]
    first, second, _ = near_pairs(records["thumb"], sides[large], records["mean"])
    pairs = list(zip(large[first].tolist(), large[second].tolist(), strict=True))
    equal = [group for group in groups if len(group) > 1]
    links = [*pairs, *((group[0], row) for group in equal for row in group[1:])]
    return Twins(
        equal=equal,
        near=[ordered(rows) for rows in joined(pairs)],
        all=[ordered(rows) for rows in joined(links)],
        small=len(leaders) - len(large),
    )


def joined(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """What the pairs chain together, by its first row."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while (above := parent.setdefault(row, row)) != row:
            parent[row] = parent.setdefault(above, above)
            row = parent[row]
        return row

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for row in sorted(parent):
        groups.setdefault(root(row), []).append(row)
    return list(groups.values())
