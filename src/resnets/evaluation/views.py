"""Answers to several views of a picture: it, its mirror image, and both moved by a pixel (Jordan 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from resnets.base.errors import UsageError
from resnets.preprocess import Pixels

if TYPE_CHECKING:
    from resnets.evaluation.predict import Backend, Logits

Views = Literal["one", "flip", "flip-shift"]
COUNTS = {"one": 1, "flip": 2, "flip-shift": 6}  # views of a picture


class ManyViews:
    """A backend whose answer is the weighted mean of another's logits for the views of a picture."""

    def __init__(self, backend: Backend, views: Views) -> None:
        self.backend, self.views = backend, views

    def logits(self, pictures: Pixels) -> Logits:
        """uint8 (B, H, W, C) -> head name -> float32 (B, K)."""
        total: Logits = {}
        for weight, view in views_of(pictures, self.views):
            for name, values in self.backend.logits(view).items():
                total[name] = weight * values if name not in total else total[name] + weight * values
        return total


def with_views(backend: Backend, views: Views) -> Backend:
    """The backend itself for one view. Raises UsageError for views that are not known."""
    if views not in COUNTS:
        raise UsageError(f"--views must be one of {', '.join(COUNTS)}, got {views!r}")
    return backend if views == "one" else ManyViews(backend, views)


def views_of(pictures: Pixels, views: Views) -> Iterator[tuple[float, Pixels]]:
    """(weight, pictures (B, H, W, C)) of each view; the weights sum to 1.

    `flip`: half the picture, half its mirror image. `flip-shift`: these two have half the weight, and a quarter
    each has what is moved by one pixel to the lower right and to the upper left, its edge reflected.
    """
    moved = [(1.0, pictures)]
    if views == "flip-shift":
        padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        moved = [(0.5, pictures), (0.25, padded[:, :-2, :-2]), (0.25, padded[:, 2:, 2:])]
    for weight, view in moved:
        if views == "one":
            yield weight, view
            continue
        yield weight / 2, np.ascontiguousarray(view)
        yield weight / 2, np.ascontiguousarray(view[:, :, ::-1])  # torch takes no negative strides


def said(views: str) -> str:
    """What the answers are, in words; empty for one view."""
    return "" if views == "one" else f"the mean of {COUNTS[views]} views of each picture ({views})"
