"""One figure for a network of several heads: the weighted mean of what each head is judged by.

A head with one class a picture is judged by its macro recall over the classes that are there (as in Kaggle's
contest on Bengali graphemes: root 2, vowel 1, consonant 1), one with several by its mean average precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnets.base.errors import UsageError, unknown_name
from resnets.base.text import some

if TYPE_CHECKING:
    from resnets.evaluation.statistics import Interval

OF_SCORE = ("macro_recall", "map")  # what counts of each head: the one of its kind
WEIGHTS = "score_weights"  # key of a model's origin


@dataclass(frozen=True, kw_only=True)
class Score:
    """The combined figure, with what it would be by scikit-learn's macro recall, and the heads' weights."""

    value: float
    interval: Interval
    sklearn: float
    weights: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "interval": list(self.interval)}


def head_weights(given: Iterable[str], heads: Iterable[str], *, flag: str) -> dict[str, float]:
    """Texts NAME=X to a weight for every head, 1 where none is given.

    Raises UsageError for a text of another form, for a head that is not there, and where there is one head alone.
    """
    weights = dict.fromkeys(heads, 1.0)
    given = tuple(given)
    if given and len(weights) < 2:
        raise UsageError(
            f"{flag} is for several label columns, and here is {some(list(weights))} alone; leave it out"
        )
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not 0 <= weight < math.inf:
            raise UsageError(f"{flag} must be NAME=X with a number of at least 0, such as root=2, got {text!r}")
        if name not in weights:
            raise unknown_name("label column", name, weights, list_all=f"there are {some(list(weights), 10)}")
        weights[name] = weight
    if given and not any(weights.values()):
        raise UsageError(f"{flag}: one weight at least must be above 0")
    return weights


def written(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The weights as texts NAME=X, which `head_weights` reads; none where there is one head alone."""
    return tuple(f"{name}={weight:.12g}" for name, weight in weights.items()) if len(weights) > 1 else ()


def combined(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted mean of the heads that have a value; of equal weights where all of theirs are 0."""
    of = {name: weights.get(name, 1.0) for name in values}
    total = sum(of.values())
    if not total:
        return sum(values.values()) / max(1, len(values))
    return sum(of[name] * value for name, value in values.items()) / total
