"""Label combinations that are held out of training: what a network makes of classes it knows, in a new company.

A random split puts most combinations of a root and a vowel into both parts, and so overstates how well unseen ones
are read.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError, UsageError
from resnets.base.text import counted, printable, some
from resnets.data.options import share_of
from resnets.data.source import MISSING
from resnets.data.sources.table_file import is_table, read_table
from resnets.data.split import SPLIT_SEED
from resnets.labels import Head

Combinations = npt.NDArray[np.int64]  # (n, heads) class positions


def held_out(
    heads: Mapping[str, Head], labels: Sequence[npt.NDArray[np.int64]], asked: str
) -> npt.NDArray[np.bool_]:
    """(n,) which pictures are kept out of training.

    labels: (n,) of each head. asked: a CSV file with a column a head, or a share of the combinations, which are
    drawn by a hash of their ids. Pictures that lack a label train. Raises UsageError for data with one head, and
    DataError where a class would have no picture left for training, or where nothing would be held out.
    """
    if len(heads) < 2 or any(head.kind != "single" for head in heads.values()):
        raise UsageError(
            "--holdout-combinations needs two label columns or more, with one class a picture each; this data has "
            f"{some(list(heads))}"
        )
    rows = np.stack(labels, axis=1)
    share = share_of(asked)
    if share is None:
        chosen = _listed(heads, rows, Path(asked))
        _refuse_lost_classes(heads, rows, chosen, asked)
    else:
        chosen = _drawn(heads, rows, share)
    if not chosen.any():
        raise DataError(f"--holdout-combinations {printable(asked)} holds no picture out; give other combinations")
    return chosen


def said(rows: Sequence[npt.NDArray[np.int64]], chosen: npt.NDArray[np.bool_]) -> str:
    """How much is held out, in one line."""
    combinations = len(np.unique(np.stack(rows, axis=1)[chosen], axis=0))
    pictures = counted(int(chosen.sum()), "picture")
    return f"validation is {pictures} of {counted(combinations, 'combination')} that are not trained on"


def _listed(heads: Mapping[str, Head], rows: Combinations, path: Path) -> npt.NDArray[np.bool_]:
    if not path.is_file() or not is_table(path):
        raise UsageError(
            f"--holdout-combinations must be a CSV file or a share such as 0.2, got {printable(str(path))!r}"
        )
    table = read_table([path])
    columns = [(place, name) for place, name in enumerate(heads) if name in table.columns]
    if not columns:
        raise DataError(
            f"{table.where} has no column of the heads {some(list(heads))}; it has {some(table.names, 8)}"
        )
    listed = []
    for place, name in columns:
        position = heads[list(heads)[place]].index()
        listed.append([position.get(text, MISSING) for text in table.text(name).to_pylist()])
    wanted = {line for line in zip(*listed, strict=True) if MISSING not in line}
    places = [place for place, _ in columns]
    return np.array([tuple(line) in wanted for line in rows[:, places].tolist()], dtype=bool)


def _refuse_lost_classes(
    heads: Mapping[str, Head], rows: Combinations, chosen: npt.NDArray[np.bool_], asked: str
) -> None:
    for place, (name, head) in enumerate(heads.items()):
        lost = sorted(set(rows[chosen, place].tolist()) - set(rows[~chosen, place].tolist()))
        if lost:
            raise DataError(
                f"--holdout-combinations {printable(asked)} leaves no training picture of the class "
                f"{some([head.ids[position] for position in lost])} of {name!r}; take a combination with it out"
            )


def _drawn(heads: Mapping[str, Head], rows: Combinations, share: float) -> npt.NDArray[np.bool_]:
    """The combinations that a hash puts first, without those that would take the last picture of a class."""
    complete = (rows != MISSING).all(axis=1)
    combinations, of_row, counts = np.unique(rows[complete], axis=0, return_inverse=True, return_counts=True)
    ids = [head.ids for head in heads.values()]
    keys = [_key([of[place] for of, place in zip(ids, line, strict=True)]) for line in combinations.tolist()]
    left = [np.bincount(column[column != MISSING]) for column in rows.T]
    wanted = math.ceil(round(share * len(combinations), 6))
    taken: list[int] = []
    for number in sorted(range(len(combinations)), key=keys.__getitem__):
        if len(taken) == wanted:
            break
        line, count = combinations[number], counts[number]
        if all(of[place] > count for of, place in zip(left, line, strict=True)):
            for of, place in zip(left, line, strict=True):
                of[place] -= count
            taken.append(number)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[complete] = np.isin(of_row.reshape(-1), taken)
    return chosen


def _key(ids: Sequence[str]) -> bytes:
    return hashlib.blake2b(json.dumps(ids).encode(), digest_size=16, key=b"split %d" % SPLIT_SEED).digest()
