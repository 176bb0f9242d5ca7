"""Whether validation and test pictures are like the training pictures: class shares, sizes, brightness."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import Data
from resnets.data.source import PARTS, TRAIN
from resnets.understanding.doctor.classes import Counts
from resnets.understanding.doctor.facts import Facts
from resnets.understanding.doctor.finding import Example, Finding, of_things

CHANCE = 0.001  # the probability of a difference this large between parts that are alike
SHARE = 0.1  # of the pictures that would have to change; smaller differences are no finding, however sure
LEAST = 20  # pictures of a part

Values = npt.NDArray[np.float64]


def drift(data: Data, facts: Facts, counts: dict[str, Counts]) -> list[Finding]:
    """What differs significantly, and by enough to matter, between training and each other part."""
    return of_things("drift", _differences(data, facts, counts))


def _differences(data: Data, facts: Facts, counts: dict[str, Counts]) -> Iterator[Example]:
    there = facts.rows()
    widths, heights = (numbers.astype(np.float64) for numbers in data.sizes)
    measures = {
        "brightness": facts.records["mean"].mean(axis=1).astype(np.float64) * 255,
        "longer sides": np.maximum(widths, heights),
        "ratio of the sides": np.divide(widths, heights, out=np.ones_like(widths), where=heights > 0),
    }
    train = np.intersect1d(data.rows(TRAIN), there)
    for part in PARTS[1:]:
        rows = np.intersect1d(data.rows(part), there)
        if min(len(rows), len(train)) < LEAST:
            continue
        for head, of in counts.items():
            yield from _class_shares(
                f"{part}: {head} classes" if len(counts) > 1 else f"{part}: classes", part, of
            )
        for name, values in measures.items():
            distance, chance = kolmogorov_smirnov(values[train], values[rows])
            if distance >= SHARE and chance < CHANCE:
                was, now = np.median(values[train]), np.median(values[rows])
                yield Example(path=f"{part}: {name}", note=f"median {now:.4g}, {was:.4g} in training")


def _class_shares(name: str, part: str, of: Counts) -> Iterator[Example]:
    """The chi-squared test of the counts; the share is half the sum of the differences (total variation)."""
    if TRAIN not in of.of_part or part not in of.of_part:
        return
    one, other = of.of_part[TRAIN].astype(np.float64), of.of_part[part].astype(np.float64)
    apart = other / other.sum() - one / one.sum()
    if np.abs(apart).sum() / 2 >= SHARE and chi_squared(one, other) < CHANCE:
        most = int(np.abs(apart).argmax())
        note = f"{other[most] / other.sum():.1%} are {of.ids[most]}, {one[most] / one.sum():.1%} in training"
        yield Example(path=name, note=note)


def kolmogorov_smirnov(one: Values, other: Values) -> tuple[float, float]:
    """The largest distance between two empirical distributions, and the chance of it (Smirnov's series)."""
    values = np.sort(np.concatenate([one, other]))
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (one, other)]
    distance = float(np.abs(below[0] - below[1]).max())
    scaled = distance * np.sqrt(len(one) * len(other) / (len(one) + len(other)))
    terms = np.arange(1, 101)
    chance = 2 * float(((-1.0) ** (terms - 1) * np.exp(-2 * terms**2 * scaled**2)).sum()) if scaled > 0.2 else 1.0
    return distance, min(1.0, max(0.0, chance))


def chi_squared(one: Values, other: Values) -> float:
    """The chance that two rows of counts come from the same shares (Pearson's test)."""
    from scipy.stats import chi2  # comes with scikit-learn

    counts = np.stack([one, other])[:, (one + other) > 0]
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.shape[1] - 1))
