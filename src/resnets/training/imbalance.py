"""Classes of unequal size: weights in the loss, an order that evens them out, and a note that names the rarest."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from resnets.base.errors import UsageError
from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.source import MISSING
from resnets.evaluation.score import head_weights
from resnets.labels import Head
from resnets.training.config import TrainConfig
from resnets.training.step import HeadLoss

log = logging.getLogger("resnets")

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]  # int64 (n,), or float32 (n, classes), as `Data.labels` has them

RARE = 5  # a class with fewer training pictures is named
NAMED = 5  # so many of them are named; after them only their count is


def losses_of(config: TrainConfig, data: Data, device: torch.device) -> dict[str, HeadLoss]:
    """How each head's loss counts: its weight among the heads, and the weights of its classes."""
    weights = head_weights(config.loss_weight, data.heads, flag="--loss-weight")
    rows = data.rows("train")
    times = times_drawn(data, rows) if config.sampling == "balanced" else np.ones(len(rows))
    losses = {}
    for name, head in data.heads.items():
        classes = None
        if config.class_weights == "balanced":
            of = class_weights(data.labels(name)[rows], head, times=times)
            classes = torch.from_numpy(of.astype(np.float32)).to(device)
        losses[name] = HeadLoss(weight=weights[name], classes=classes)
    return losses


def class_weights(labels: Labels, head: Head, *, times: Floats) -> Floats:
    """Weights in inverse proportion to how often each class comes, 1 in the mean over the pictures.

    labels: of the rows, as `Data.labels` has them. times: (n,) how often each row comes in an epoch.
    Gives (K,), 0 for a class that never comes; of a head with several classes a picture (K, 2), of pictures that
    lack the class and of those that have it.
    """
    if head.kind == "single":
        known = labels != MISSING
        counts: Floats = np.bincount(labels[known], weights=times[known], minlength=len(head)).astype(np.float64)
        return np.asarray(_inverse(counts[None, :])[0])
    return _inverse(np.stack([times @ (labels == 0), times @ (labels == 1)], axis=1))


def _inverse(counts: Floats) -> Floats:
    """A line each: n / (classes that come * count), whose mean over the n pictures is 1."""
    come = counts > 0
    whole = counts.sum(axis=1, keepdims=True) / np.maximum(come.sum(axis=1, keepdims=True), 1)
    return np.where(come, whole / np.where(come, counts, 1), 0.0)


def balanced_head(data: Data) -> str:
    """The head whose classes a balanced order evens out: the first with one class a picture.

    Raises UsageError where there is none.
    """
    for name, head in data.heads.items():
        if head.kind == "single":
            return name
    raise UsageError("--sampling balanced needs labels with one class a picture; try --class-weights balanced")


def balanced_labels(data: Data) -> npt.NDArray[np.int64]:
    """(rows in all,) the classes that a balanced order evens out."""
    return data.labels(balanced_head(data))


def times_drawn(data: Data, rows: npt.NDArray[np.int64]) -> Floats:
    """(n,) how often each row comes in an epoch of balanced order, in the mean."""
    classes = balanced_labels(data)[rows]
    known = classes != MISSING
    counts = np.bincount(classes[known])
    times = np.ones(len(rows))
    times[known] = known.sum() / (counts > 0).sum() / counts[classes[known]]
    return times


def warn_of_rare(data: Data) -> None:
    """Log one warning that names the classes with fewer than RARE training pictures."""
    rows = data.rows("train")
    found = [
        (count, f"'{printable(name)}'" + (f" of {printable(key)}" if len(data.heads) > 1 else ""))
        for key, head in data.heads.items()
        for name, count in zip(head.names, _pictures(data.labels(key)[rows], head).tolist(), strict=True)
        if 0 < count < RARE
    ]
    if not found:
        return
    found.sort(key=lambda one: one[0])  # stable: of equals in the order of the heads
    named = ", ".join(f"{name} ({count})" for count, name in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    log.warning(
        "classes with fewer than %d training pictures: %s%s; their figures say little, and --class-weights "
        "balanced or --sampling balanced lets them count as others do",
        RARE,
        named,
        more,
    )


def _pictures(labels: Labels, head: Head) -> npt.NDArray[np.int64]:
    """(K,) how many rows have each class."""
    if head.kind == "multi":
        return np.asarray((labels == 1).sum(axis=0))
    return np.bincount(labels[labels != MISSING], minlength=len(head))
