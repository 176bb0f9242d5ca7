"""The order of an epoch in which classes come equally often: a pure function of (seed, epoch), as any order is.

A picture that comes more than once in an epoch is changed anew each time: its place in the order is a *draw*, its
row plus COPY times the number of the copy, and draws are what the picture stream is asked with. The first copy's
draw is the row itself.
"""

import numpy as np
import numpy.typing as npt

from resnets.base.streams import order, picture_uniform
from resnets.data.source import MISSING

Rows = npt.NDArray[np.int64]

COPY = 1 << 32  # more rows than any manifest has


def rows_of(draws: Rows) -> Rows:
    """The rows of draws."""
    return draws % COPY


def balanced_order(rows: Rows, classes: npt.NDArray[np.int64], *, seed: int, epoch: int) -> Rows:
    """As many draws as there are rows, in which each class comes equally often, to within one.

    rows: (n,) of the epoch. classes: (n,) each row's, MISSING where there is none; those rows come once each. Rows
    of a class come equally often too, to within one; which come more is drawn epoch by epoch, as is the order.
    """
    known = rows[classes != MISSING]
    present, members = np.unique(classes[classes != MISSING], return_inverse=True)
    if not len(present):
        return order(rows, seed=seed, epoch=epoch)
    share, more = divmod(len(known), len(present))
    first = picture_uniform(present, seed=seed, epoch=epoch, purpose="sampling/classes")[:, 0].argsort(
        kind="stable"
    )
    times = np.full(len(present), share)
    times[first[:more]] += 1
    turn = picture_uniform(known, seed=seed, epoch=epoch, purpose="sampling/rows")[:, 0]
    ranks = np.lexsort((turn, members))  # a class after the other, each in its turn of this epoch
    counts = np.bincount(members, minlength=len(present))
    starts = np.cumsum(counts) - counts
    places = np.concatenate([np.arange(count) for count in times])  # 0, 1, … within each class
    of = np.repeat(np.arange(len(present)), times)
    drawn = known[ranks[starts[of] + places % counts[of]]] + COPY * (places // counts[of])
    return order(np.concatenate([drawn, rows[classes == MISSING]]), seed=seed, epoch=epoch)
