"""Answers in bf16 that are fp32's: what the rounding could have decided is asked again.

Shapes: B pictures, H×W pixels, C channels, K classes.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from resnets.base.machine import TINY, has_bf16_units
from resnets.evaluation.predict import Backend, Logits, Precision, TorchBackend
from resnets.evaluation.views import Views, with_views
from resnets.labels import Head
from resnets.preprocess import Pixels
from resnets.weights.modelfile import Model

SAMPLE = 32  # one picture of so many is asked again whatever its answer is, those with the closest calls
LEAST = 2  # but at least so many
ERRORS = 10  # a call is close within so many times the error that these show, root mean square over their logits

Positions = npt.NDArray[np.int64]


def backend_for(model: Model, *, device: str, precision: Precision, views: Views) -> Backend:
    """What answers for a user: fp32, or bf16 with close calls in fp32; the mean of these views of a picture."""
    exact = with_views(TorchBackend(model, device=device), views)
    if precision == "fp32":
        return exact
    fast = with_views(TorchBackend(model, device=device, precision=precision), views)
    return Rechecked(fast, exact, model.heads)


def fastest_for(model: Model, device: str) -> Precision:
    """bf16 where the hardware multiplies it and pictures are large enough to gain by it."""
    return "bf16" if has_bf16_units(device) and max(model.preprocess.size) > TINY else "fp32"


class Rechecked:
    """A fast backend whose close calls an exact one answers.

    How close a call must be is measured in every batch, on the pictures that have the closest calls of all, so
    that answers depend on no batch before.
    """

    def __init__(self, fast: Backend, exact: Backend, heads: Mapping[str, Head]) -> None:
        self.fast, self.exact, self.heads = fast, exact, heads

    def logits(self, pictures: Pixels) -> Logits:
        """uint8 (B, H, W, C) -> head name -> float32 (B, K)."""
        if len(pictures) <= LEAST:
            return self.exact.logits(pictures)
        found = {name: values.copy() for name, values in self.fast.logits(pictures).items()}
        calls = {name: closeness(values, self.heads.get(name)) for name, values in found.items()}
        count = max(LEAST, math.ceil(len(pictures) / SAMPLE))
        sample = _union([closest(call, count) for call in calls.values()])
        if not len(sample):
            return found
        errors = self._ask_again(pictures, sample, found)
        close = _union([np.flatnonzero(~(call > ERRORS * errors[name])) for name, call in calls.items()])
        self._ask_again(pictures, np.setdiff1d(close, sample), found)
        return found

    def _ask_again(self, pictures: Pixels, positions: Positions, found: Logits) -> dict[str, float]:
        """Put the exact logits of these pictures in place, and say how far off the others were, a head."""
        if not len(positions):
            return {}
        errors = {}
        for name, values in self.exact.logits(pictures[positions]).items():
            errors[name] = float(np.sqrt(np.square(values - found[name][positions], dtype=np.float64).mean()))
            found[name][positions] = values
        return errors


def closest(calls: npt.NDArray[np.floating], count: int) -> Positions:
    """Where the `count` closest calls are, and all that are as close: equal pictures get equal answers.

    Not those that nothing could turn.
    """
    limit = np.partition(calls, count - 1)[count - 1]
    return np.flatnonzero(~(calls > limit) & ~np.isinf(calls))


def closeness(logits: npt.NDArray[np.float32], head: Head | None) -> npt.NDArray[np.floating]:
    """(B,): how much a picture's logits (B, K) must change at least until its answer does.

    One class a picture: the largest less the second. Several: the least distance to a class's threshold.
    """
    if head is not None and head.kind == "multi":
        shares = np.array(head.cutoffs)
        with np.errstate(divide="ignore"):
            at = np.log(shares / (1 - shares))
        return np.asarray(np.abs(logits - at).min(axis=1))
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf, dtype=np.float32)
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def _union(positions: list[Positions]) -> Positions:
    return np.unique(np.concatenate(positions))
