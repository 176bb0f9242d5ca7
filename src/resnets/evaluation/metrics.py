"""The figures of one head, from logits and true classes; each with its n and, where it has one, its interval."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.evaluation.calibration import calibration_error, log_softmax
from resnets.evaluation.statistics import Interval, Rows, bootstrap, wilson
from resnets.labels import Head

TOP = 5
CHUNK = 4096  # rows worked on at a time, to bound memory with many classes


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One class: precision is None where it was never predicted, recall where there is no picture of it."""

    name: str
    precision: float | None
    recall: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class HeadFigures:
    """All figures of a head with one class a picture.

    top1, top5: shares in [0, 1]; top5 is None with 5 classes or fewer. loss: mean cross-entropy in nats.
    macro_recall: the mean recall over the classes that have pictures. macro_recall_sklearn: as scikit-learn's
    default, over classes that have pictures or were predicted, with recall 0 for those without pictures.
    calibration_error: in [0, 1], 15 bins.
    """

    n: int
    top1: float
    top1_interval: Interval
    top5: float | None
    top5_interval: Interval | None
    loss: float
    loss_interval: Interval
    macro_recall: float
    macro_recall_interval: Interval
    macro_recall_sklearn: float
    calibration_error: float
    calibration_error_interval: Interval
    classes: dict[str, ClassFigures]

    def to_json(self) -> dict[str, Any]:
        """Plain values; intervals are lists [low, high]."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {**plain, "classes": {name: vars(figures) for name, figures in self.classes.items()}}


@dataclass(frozen=True, kw_only=True)
class PerPicture:
    """What is needed of each picture's logits, (n,) each.

    predicted: the class with the largest logit, the first of equals. confidence: its probability. loss: of the
    true class, in nats. rank: how many classes come before the true one.
    """

    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    rank: npt.NDArray[np.int64]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        return np.equal(self.predicted, self.truth)


def per_picture(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> PerPicture:
    """(n, classes) finite logits and (n,) true classes, each in [0, classes)."""
    parts = []
    for start in range(0, len(truth), CHUNK):
        rows, true = logits[start : start + CHUNK], truth[start : start + CHUNK]
        logs = log_softmax(rows)
        of_truth = rows[np.arange(len(true)), true]
        earlier = np.arange(rows.shape[1]) < true[:, None]
        before = (rows > of_truth[:, None]) | ((rows == of_truth[:, None]) & earlier)
        parts.append((rows.argmax(1), np.exp(logs.max(1)), -logs[np.arange(len(true)), true], before.sum(1)))
    predicted, confidence, loss, rank = (np.concatenate(values) for values in zip(*parts, strict=True))
    return PerPicture(truth=truth, predicted=predicted, confidence=confidence, loss=loss, rank=rank)


def head_figures(
    logits: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    *,
    head: Head,
    listed: Collection[int] | None = None,
) -> HeadFigures:
    """All figures of one head over n >= 1 pictures.

    listed: the classes to give figures of, by position; None is all of the head's.
    """
    found = per_picture(logits, truth)
    n, classes = len(truth), len(head)
    means = _means(found, classes)
    loss, recall, error = means(np.arange(n))
    loss_interval, recall_interval, error_interval = bootstrap(truth, means)
    right, right5 = int(found.right.sum()), int((found.rank < TOP).sum())
    return HeadFigures(
        n=n,
        top1=right / n,
        top1_interval=_interval(right, n),
        top5=right5 / n if classes > TOP else None,
        top5_interval=_interval(right5, n) if classes > TOP else None,
        loss=float(loss),
        loss_interval=loss_interval,
        macro_recall=float(recall),
        macro_recall_interval=recall_interval,
        macro_recall_sklearn=macro_recall(truth, found.predicted, as_sklearn=True),
        calibration_error=float(error),
        calibration_error_interval=error_interval,
        classes=_class_figures(found, head, range(classes) if listed is None else listed),
    )


def macro_recall(
    truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], *, as_sklearn: bool = False
) -> float:
    """The mean recall over the classes in the truth; as scikit-learn, over those predicted too, with recall 0."""
    pictures = np.bincount(truth)
    right = np.bincount(truth[predicted == truth], minlength=len(pictures))
    present = pictures > 0
    classes = len(np.union1d(truth, predicted)) if as_sklearn else present.sum()
    return float((right[present] / pictures[present]).sum() / classes)


def _class_figures(found: PerPicture, head: Head, listed: Collection[int]) -> dict[str, ClassFigures]:
    pictures = np.bincount(found.truth, minlength=len(head))
    predicted = np.bincount(found.predicted, minlength=len(head))
    right = np.bincount(found.truth[found.right], minlength=len(head))
    return {
        head.ids[position]: ClassFigures(
            name=head.names[position],
            precision=_share(right[position], predicted[position]),
            recall=_share(right[position], pictures[position]),
            n=int(pictures[position]),
        )
        for position in listed
    }


def _means(found: PerPicture, classes: int) -> Callable[[Rows], npt.NDArray[np.float64]]:
    """Loss, macro recall and calibration error as a function of the rows they are taken over."""
    everywhere = found.right

    def means(rows: Rows) -> npt.NDArray[np.float64]:
        truth, right = found.truth[rows], everywhere[rows]
        pictures = np.bincount(truth, minlength=classes)
        present = pictures > 0
        recall = np.bincount(truth[right], minlength=classes)[present] / pictures[present]
        return np.array([found.loss[rows].mean(), recall.mean(), calibration_error(found.confidence[rows], right)])

    return means


def _interval(right: int, n: int) -> Interval:
    return wilson(right, n) or (0.0, 1.0)


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None
