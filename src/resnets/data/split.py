"""How undivided data is divided: by content and by class, the same for every seed, order of files and name.

Pictures of equal content, or of one group (a writer, a patient), go whole to one part. The groups of a class are
put in the order of a hash of (split seed, content), and the first of them fill the test part's share, the next
the validation part's; the rest is for training. A class that has any picture has one for training.

`divide` is for one class a picture, `divide_several` for several labels a picture, and for groups of pictures.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from resnets.data.source import MISSING, TEST, TRAIN, VAL

SPLIT_SEED = 0  # whatever the run's seed is: runs with other seeds share their test pictures
TWO_WAY = {VAL: 0.2}
THREE_WAY = {TEST: 0.2, VAL: 0.16}
OF_TRAIN = {VAL: 0.1}  # where a source states a training and a test part alone


def divide(
    classes: npt.NDArray[np.int64],
    contents: Sequence[bytes],
    *,
    shares: Mapping[str, float],
    seed: int = SPLIT_SEED,
) -> list[str]:
    """The part of every picture: the names in `shares`, and `train` for what they leave.

    classes: (n,) what the shares are kept for. contents: n hashes.
    A part with share s gets ceil(s * n) pictures, divided among the classes by largest remainder, as far as equal
    contents allow it.
    """
    members = _together(contents, None)
    keys = [min(_order_key(contents[row], seed) for row in rows) for rows in members]
    by_class: dict[int, list[int]] = {}
    for group in sorted(range(len(members)), key=keys.__getitem__):
        by_class.setdefault(int(classes[_first(members[group], contents)]), []).append(group)
    sizes = {name: sum(len(members[group]) for group in by_class[name]) for name in sorted(by_class)}
    quotas = _quotas(sizes, shares)
    parts = [TRAIN] * len(contents)
    for name, ordered in by_class.items():
        for group, part in zip(ordered, _fill([len(members[g]) for g in ordered], quotas[name]), strict=True):
            for row in members[group]:
                parts[row] = part
    return parts


def divide_several(
    classes: npt.NDArray[np.int64],
    contents: Sequence[bytes],
    *,
    shares: Mapping[str, float],
    seed: int = SPLIT_SEED,
    groups: Sequence[Hashable] | None = None,
) -> list[str]:
    """The part of every picture, where a picture has several classes or a group many of them.

    classes: (n, k) the classes of each picture, numbered over all its labels, MISSING in slots that are left.
    contents: n hashes. groups: n, None where a picture has no group.
    The rarest class is divided first (iterative stratification, Sechidis et al. 2011): its groups go, in the order
    of their hash, to the first part that has room for half of the group at least. A part's size is near its share.
    """
    members = _together(contents, groups)
    keys = [min(_order_key(contents[row], seed) for row in rows) for rows in members]
    held = [Counter(classes[rows][classes[rows] != MISSING].tolist()) for rows in members]
    left: Counter[int] = Counter(classes[classes != MISSING].tolist())
    of_class: dict[int, list[int]] = {name: [] for name in left}
    for group in sorted(range(len(members)), key=keys.__getitem__):
        for name in held[group]:
            of_class[name].append(group)
    room = {part: {name: share * count for name, count in left.items()} for part, share in shares.items()}
    total = {part: math.ceil(round(share * len(contents), 6)) for part, share in shares.items()}
    drawn: dict[int, str] = {}
    for name in sorted(left, key=lambda name: (left[name], name)):
        for group in of_class[name]:
            if group in drawn:
                continue
            counts, size = held[group], len(members[group])
            part = TRAIN
            if all(left[one] > count for one, count in counts.items()):
                fits = (p for p in shares if counts[name] <= 2 * room[p][name] and size <= 2 * total[p])
                part = next(fits, TRAIN)
            drawn[group] = part
            if part != TRAIN:
                total[part] -= size
                for one, count in counts.items():
                    room[part][one] -= count
                    left[one] -= count
    parts = [TRAIN] * len(contents)
    for group, part in drawn.items():
        for row in members[group]:
            parts[row] = part
    return parts


def _order_key(content: bytes, seed: int) -> bytes:
    return hashlib.blake2b(content, digest_size=16, key=b"split %d" % seed).digest()


def _first(rows: list[int], contents: Sequence[bytes]) -> int:
    """The row that names a group's class: a choice by content, so that the order of files does not matter."""
    return min(rows, key=lambda row: (contents[row], row))


def _together(contents: Sequence[bytes], groups: Sequence[Hashable] | None) -> list[list[int]]:
    """The rows that must stay together: equal contents, equal groups, and whatever these chain together."""
    parent = list(range(len(contents)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for column in (contents, groups or ()):
        seen: dict[Hashable, int] = {}
        for row, value in enumerate(column):
            if value is not None:
                parent[root(row)] = root(seen.setdefault(value, row))
    members: dict[int, list[int]] = {}
    for row in range(len(contents)):
        members.setdefault(root(row), []).append(row)
    return list(members.values())


def _quotas(sizes: Mapping[int, int], shares: Mapping[str, float]) -> dict[int, dict[str, int]]:
    """class -> part -> how many pictures; one of each class is left for training."""
    quotas: dict[int, dict[str, int]] = {name: {} for name in sizes}
    for part, share in shares.items():
        room = {name: sizes[name] - 1 - sum(quotas[name].values()) for name in sizes}
        exact = {name: share * size for name, size in sizes.items()}
        taken = {name: min(math.floor(exact[name]), room[name]) for name in sizes}
        missing = math.ceil(round(share * sum(sizes.values()), 6)) - sum(taken.values())
        for name in sorted(sizes, key=lambda name: (math.floor(exact[name]) - exact[name], name)):
            if missing > 0 and taken[name] < room[name]:
                taken[name] += 1
                missing -= 1
        for name in sizes:
            quotas[name][part] = taken[name]
    return quotas


def _fill(sizes: list[int], quota: Mapping[str, int]) -> list[str]:
    """The part of each group: the first that has room for half of the group at least; the last group trains."""
    left = dict(quota)
    parts = []
    for size in sizes[:-1]:
        part = next((name for name, room in left.items() if size <= 2 * room), TRAIN)
        if part != TRAIN:
            left[part] -= size
        parts.append(part)
    return [*parts, TRAIN]
