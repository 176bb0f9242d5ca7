"""How far a figure can be trusted: Wilson intervals for proportions, the stratified bootstrap for the rest."""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
Rows = npt.NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 1000


def wilson(right: int, n: int) -> Interval | None:
    """The 95% interval of the proportion right / n; None for n = 0. Wilson 1927."""
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if right == 0 else max(0.0, centre - half)
    high = 1.0 if right == n else min(1.0, centre + half)
    return low, high


def mcnemar(first_only: int, second_only: int) -> float:
    """How likely so uneven a difference is by chance, two-sided and exact, of two that answered the same pictures.

    first_only, second_only: the pictures that one has right and the other wrong. McNemar 1947.
    """
    n = first_only + second_only
    tail = sum(math.comb(n, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / (1 << n))  # whole numbers: 2.0**1024 is too large


def bootstrap(
    strata: npt.NDArray[np.int64],
    figures: Callable[[Rows], npt.NDArray[np.float64]],
    *,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """95% percentile intervals of several figures, resampling rows within each stratum (class). Efron 1979.

    strata: (n,) the class of each row. figures: rows (n,) -> (f,) values. The draws are fixed: the same
    answers give the same intervals.
    """
    by_class = np.argsort(strata, kind="stable")
    _, starts, counts = np.unique(strata[by_class], return_index=True, return_counts=True)
    start, count = np.repeat(starts, counts), np.repeat(counts, counts)
    generator = np.random.Generator(np.random.PCG64(0))
    values = [
        figures(by_class[start + (generator.random(len(strata)) * count).astype(np.int64)])
        for _ in range(resamples)
    ]
    return percentiles(np.stack(values))


def percentiles(values: npt.NDArray[np.float64]) -> list[Interval]:
    """The 95% interval of each of several figures, from their values over resamples (R, f)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
