"""The figures of a head with several classes a picture, from logits and from which classes are there.

Letters of the shapes: n pictures, K classes, R resamples. A cell is a class of a picture: 1.0 where it is there,
0.0 where not, NaN where that is not known; a cell that is not known counts nowhere.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.evaluation.calibration import sigmoid
from resnets.evaluation.statistics import RESAMPLES, Interval, percentiles, wilson
from resnets.labels import THRESHOLD, Head

Cells = npt.NDArray[np.float32]  # (n, K)
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

FEWEST_RESAMPLES = 100
WORK = 1e8  # cells that the resamples may look at in all: some seconds
TOGETHER = 1e6  # pictures of resamples in memory at a time


@dataclass(frozen=True, kw_only=True)
class MultiClassFigures:
    """One class at its threshold; n: pictures that have it.

    precision is None where it was never predicted, recall and average precision where no picture has it, f1 where
    both is so.
    """

    name: str
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class MultiFigures:
    """All figures of a head with several classes a picture; n: pictures of which a class at least is known.

    f1_micro: over all cells. f1_macro: the mean over classes that are there or were predicted. map: mean average
    precision over classes that are there; it depends on no threshold. exact_match: the share of wholly known
    pictures all of whose classes are right, None without any. loss: binary cross-entropy a picture, the sum over
    the classes, in nats.
    """

    n: int
    f1_micro: float
    f1_micro_interval: Interval
    f1_macro: float
    f1_macro_interval: Interval
    map: float
    map_interval: Interval
    exact_match: float | None
    exact_match_interval: Interval | None
    loss: float
    loss_interval: Interval
    classes: dict[str, MultiClassFigures]

    def to_json(self) -> dict[str, Any]:
        """Plain values; intervals are lists [low, high]."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {**plain, "classes": {name: vars(figures) for name, figures in self.classes.items()}}


def multi_figures(
    logits: npt.NDArray[np.float32], truth: Cells, *, head: Head, listed: Collection[int] | None = None
) -> MultiFigures:
    """All figures of one head at its thresholds; every one of the n >= 1 pictures has a cell that is known.

    listed: the classes to give figures of, by position; None is all of the head's.
    """
    cells = _Cells(logits=logits, truth=truth, thresholds=np.array(head.cutoffs))
    n = len(truth)
    found = cells.means(np.ones((1, n)))[0]
    f1_micro, f1_macro, mean_precision, loss = percentiles(_resampled(cells, n, resamples_for(truth)))
    whole = cells.known.all(axis=1)
    right, of = int((whole & (cells.predicted == cells.there).all(axis=1)).sum()), int(whole.sum())
    return MultiFigures(
        n=n,
        f1_micro=float(found[0]),
        f1_micro_interval=f1_micro,
        f1_macro=float(found[1]),
        f1_macro_interval=f1_macro,
        map=float(found[2]),
        map_interval=mean_precision,
        exact_match=right / of if of else None,
        exact_match_interval=wilson(right, of),
        loss=float(found[3]),
        loss_interval=loss,
        classes=_class_figures(cells, head, range(len(head)) if listed is None else listed),
    )


def precision_and_loss(logits: npt.NDArray[np.float32], truth: Cells) -> tuple[float, float]:
    """Mean average precision and loss, without intervals: what is asked for after every epoch."""
    cells = _Cells(logits=logits, truth=truth, thresholds=np.full(truth.shape[1], THRESHOLD))
    _, _, precision, loss = cells.means(np.ones((1, len(truth))))[0]
    return float(precision), float(loss)


def precision_by_rows(logits: npt.NDArray[np.float32], truth: Cells) -> Callable[[Positions], float]:
    """Mean average precision as a function of the rows it is taken over, a row as often as it is there."""
    cells = _Cells(logits=logits, truth=truth, thresholds=np.full(truth.shape[1], THRESHOLD))

    def precision(rows: Positions) -> float:
        weights = np.bincount(rows, minlength=len(truth)).astype(np.float64)
        return float(_mean(cells.average_precisions(weights[None, :]))[0])

    return precision


def resamples_for(truth: Cells) -> int:
    """How many resamples these cells leave time for."""
    return int(np.clip(WORK / max(1, truth.size), FEWEST_RESAMPLES, RESAMPLES))


def best_thresholds(logits: npt.NDArray[np.float32], truth: Cells) -> tuple[float, ...]:
    """The threshold of each class with the highest F1 on these pictures; of equals the one nearest to a half.

    It lies halfway between two probabilities, so that the last bits of an output decide nothing. A class that
    all known pictures have, or none, gets a half.
    """
    probabilities = sigmoid(logits)
    known = ~np.isnan(truth)
    return tuple(
        _best_threshold(probabilities[of, position], truth[of, position] > 0)
        for position, of in enumerate(known.T)
    )


def _best_threshold(probabilities: Floats, there: npt.NDArray[np.bool_]) -> float:
    positives = int(there.sum())
    if positives in (0, len(there)):
        return THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    lasts = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))  # of equal probabilities
    f1 = 2 * np.cumsum(there[order])[lasts] / (lasts + 1 + positives)
    above, below = falling[lasts], np.append(falling[lasts[1:]], 0.0)
    middle = (above + below) / 2
    thresholds = np.where(middle > below, middle, above)
    best = np.flatnonzero(f1 == f1.max())
    return float(thresholds[best[np.abs(thresholds[best] - THRESHOLD).argmin()]])


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Logits and truth (n, K), and what they give at thresholds (K,) for weights a picture (R, n)."""

    logits: npt.NDArray[np.float32]
    truth: Cells
    thresholds: Floats

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.truth)

    @cached_property
    def there(self) -> npt.NDArray[np.bool_]:
        return np.greater(np.nan_to_num(self.truth), 0)

    @cached_property
    def predicted(self) -> npt.NDArray[np.bool_]:
        return sigmoid(self.logits) >= self.thresholds

    @cached_property
    def loss(self) -> Floats:
        """(n, 2): the sum of the picture's losses, and of how many cells."""
        towards = np.where(self.there, self.logits, -self.logits).astype(np.float64)
        each = np.maximum(-towards, 0) + np.log1p(np.exp(-np.abs(towards)))
        return np.stack([np.where(self.known, each, 0).sum(axis=1), self.known.sum(axis=1)], axis=1)

    def counts(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """(R, K) each: right ones, those predicted wrongly, and those missed."""
        predicted, there, known = self.predicted, self.there, self.known
        each = (predicted & there, predicted & ~there & known, ~predicted & there)
        right, wrong, missed = (weights @ cells.astype(np.float64) for cells in each)
        return right, wrong, missed

    def means(self, weights: Floats) -> Floats:
        """(R, 4): f1 micro, f1 macro, mean average precision, loss."""
        right, wrong, missed = self.counts(weights)
        losses = weights @ self.loss
        micro = _f1(*(cells.sum(axis=1) for cells in (right, wrong, missed)))
        macro = _mean(_f1(right, wrong, missed))
        precision = _mean(self.average_precisions(weights))
        loss = losses[:, 0] / losses[:, 1] * self.truth.shape[1]
        return np.stack([np.nan_to_num(micro), macro, precision, loss], axis=1)

    def average_precisions(self, weights: Floats) -> Floats:
        """(R, K): the mean precision at each picture that has the class, equal logits taken together."""
        found = np.full((len(weights), self.truth.shape[1]), np.nan)
        by_picture = np.ascontiguousarray(weights.T, dtype=np.float32)  # (n, R); whole numbers are exact
        for position, (order, own, lasts, own_lasts) in enumerate(self._orders):
            if not len(own):
                continue
            seen = np.cumsum(by_picture[order], axis=0)[lasts]
            each = by_picture[order[own]]
            right = np.cumsum(each, axis=0)
            total = (each * (right[own_lasts] / np.maximum(seen, 1, dtype=np.float64))).sum(axis=0)
            found[:, position] = np.where(right[-1] > 0, total / np.maximum(right[-1], 1), np.nan)
        return found

    @cached_property
    def _orders(self) -> list[tuple[Positions, Positions, Positions, Positions]]:
        """A class each: known rows by falling logit; where in it are those that have the class; and for each of
        these the last of an equal logit, in both.
        """
        orders = []
        for known, there, logits in zip(self.known.T, self.there.T, self.logits.T, strict=True):
            order = np.flatnonzero(known)
            order = order[np.argsort(-logits[order], kind="stable")]
            falling = -logits[order]
            own = np.flatnonzero(there[order])
            lasts = np.searchsorted(falling, falling[own], side="right") - 1
            orders.append((order, own, lasts, np.searchsorted(own, lasts, side="right") - 1))
        return orders


def _resampled(cells: _Cells, n: int, resamples: int) -> Floats:
    """(R, 4) figures of so many draws of n pictures from themselves (Efron 1979); the draws are fixed."""
    generator = np.random.Generator(np.random.PCG64(0))
    together = max(1, int(TOGETHER / n))
    found = []
    for start in range(0, resamples, together):
        count = min(together, resamples - start)
        drawn = generator.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        found.append(cells.means(np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(float)))
    return np.concatenate(found)


def _class_figures(cells: _Cells, head: Head, listed: Collection[int]) -> dict[str, MultiClassFigures]:
    ones = np.ones((1, len(cells.truth)))
    right, wrong, missed = (counts[0] for counts in cells.counts(ones))
    f1 = _f1(right, wrong, missed)
    precisions = cells.average_precisions(ones)[0]
    return {
        head.ids[position]: MultiClassFigures(
            name=head.names[position],
            threshold=head.cutoffs[position],
            precision=_share(right[position], right[position] + wrong[position]),
            recall=_share(right[position], right[position] + missed[position]),
            f1=_number(f1[position]),
            average_precision=_number(precisions[position]),
            n=int(cells.there[:, position].sum()),
        )
        for position in listed
    }


def _f1(right: Floats, wrong: Floats, missed: Floats) -> Floats:
    """NaN where a class is neither there nor predicted."""
    of = 2 * right + wrong + missed
    return np.where(of > 0, 2 * right / np.maximum(of, 1), np.nan)


def _mean(values: Floats) -> Floats:
    """The mean of each line (R, K) over what is no NaN; 0 where all are."""
    known = ~np.isnan(values)
    return np.asarray(np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
