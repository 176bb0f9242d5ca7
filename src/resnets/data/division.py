"""Which part each picture of a source goes to: what the source states, and what is drawn for the rest."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError
from resnets.data import combinations, split
from resnets.data.manifest import Facts
from resnets.data.source import MISSING, TEST, TRAIN, VAL, Labels, Listing, Source
from resnets.data.sources.manifest import ManifestSource


def divided(
    source: Source, listing: Listing, facts: Facts, *, all_train: bool, holdout: str | None
) -> tuple[Sequence[str], int | None, list[str]]:
    """The part of each row, the split seed where parts were drawn here, and what is to be said of it.

    all_train: nothing is kept back for validation. holdout: the label combinations that are (see
    `combinations.held_out`).
    """
    parts = list(listing.parts) if listing.parts is not None else [TRAIN] * len(listing.paths)
    stated = {part for row, part in enumerate(parts) if row not in facts.left_out}
    if holdout is not None and (isinstance(source, ManifestSource) or VAL in stated):
        raise DataError(f"{source.origin} states a validation part; --holdout-combinations needs data without one")
    if isinstance(source, ManifestSource):
        return parts, source.manifest.split_seed, []
    rows = [row for row, part in enumerate(parts) if part == TRAIN and row not in facts.left_out]
    if holdout is not None:
        labels = [column[rows].astype(np.int64) for column in listing.labels.values()]
        chosen = combinations.held_out(listing.heads, labels, holdout)
        for row in np.array(rows)[chosen]:
            parts[row] = VAL
        return parts, split.SPLIT_SEED, [combinations.said(labels, chosen)]
    if stated == {TRAIN}:
        shares = split.THREE_WAY if source.traits.three_way else split.TWO_WAY
    elif stated == {TRAIN, TEST}:
        shares = split.OF_TRAIN
    else:
        return parts, None, []
    if all_train:
        shares = {part: share for part, share in shares.items() if part == TEST}
    drawn, notes = _drawn(listing, facts, rows, shares)
    for row, part in zip(rows, drawn, strict=True):
        parts[row] = part
    return parts, split.SPLIT_SEED if shares else None, notes


def _drawn(
    listing: Listing, facts: Facts, rows: Sequence[int], shares: Mapping[str, float]
) -> tuple[list[str], list[str]]:
    contents = [facts.content[row] or b"" for row in rows]
    single = len(listing.heads) == 1 and next(iter(listing.heads.values())).kind == "single"
    if single and listing.groups is None:
        labels = next(iter(listing.labels.values()))[rows].astype(np.int64)
        return split.divide(labels, contents, shares=shares), []
    groups = None if listing.groups is None else [listing.groups[row] for row in rows]
    numbers = class_numbers([labels[rows] for labels in listing.labels.values()])
    parts = split.divide_several(numbers, contents, shares=shares, groups=groups)
    empty = [part for part in shares if part not in parts]
    notes = [f"no group of pictures fits into the {part} part; state the parts in a column" for part in empty]
    return parts, notes if groups is not None else []


def class_numbers(columns: Sequence[Labels]) -> npt.NDArray[np.int64]:
    """(n, k) the classes of each picture, numbered over all heads; MISSING in the slots that are left.

    A head with several classes a picture has a slot a class, and one for none of them.
    """
    slots, start = [], 0
    for labels in columns:
        if labels.ndim == 1:
            slots.append(np.where(labels == MISSING, MISSING, labels + start)[:, None])
            start += int(labels.max(initial=MISSING)) + 1
            continue
        none = (labels == 0).all(axis=1, keepdims=True)
        there = np.concatenate([labels == 1, none], axis=1)
        slots.append(np.where(there, np.arange(start, start + there.shape[1]), MISSING))
        start += there.shape[1]
    return np.concatenate(slots, axis=1).astype(np.int64)
