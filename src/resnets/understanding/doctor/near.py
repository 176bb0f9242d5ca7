"""Near duplicates: pairs of pictures that differ by size, JPEG quality or a shift of a pixel.

Candidates are neighbours by a short description of the thumbnail, searched within groups, so that the time grows
little faster than the number of pictures. They are confirmed by the correlation of the thumbnails' gradients under
small shifts, against what is usual between neighbours of this data: two T-shirts are more alike than two dogs.

n pictures, m pairs; thumbnails are grey, (THUMB, THUMB).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

CELLS, DIRECTIONS = 4, 8  # a description: gradients by direction, softly pooled in 4 x 4 cells
KEPT_AXES = 48  # principal axes of the descriptions, whitened: what sets the pictures of this data apart
RIDGE = 0.1  # of the mean deviation an axis, added to each, so that faint axes are not noise alone
NEIGHBOURS = 16  # candidates a picture
LIKELY = 0.5  # cosine of two descriptions from which a pair is looked at
GROUP = 2048  # up to here all pictures are compared with each other
PER_PIVOT, JOINED = 256, 4  # above it: a pivot for so many pictures; each picture joins so many groups
ALIKE = 0.15  # of the usual distance between neighbours, the most that a copy has
NEAREST, FARTHEST = 0.02, 0.13  # but never less or more than this
USUAL_RANK, USUAL_SAMPLE = 8, 192  # usual is the eighth best of 16 neighbours, in the median of so many pictures
SHIFTED_BELOW, FAR_SHIFTED_BELOW = (
    96,
    24,
)  # pixels: a shift of one is a third of a thumbnail's pixel, more than one
SMALLEST = 16  # pixels a side: smaller pictures hold too little to tell a copy from a relative
ASPECT, COLOUR = 0.02, 0.1  # how far shapes (log of the ratio) and mean colours of copies may lie apart
BLOCK = 256  # thumbnails at a time

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def near_pairs(
    thumbs: npt.NDArray[np.uint8], sides: npt.NDArray[np.int32], colours: Floats
) -> tuple[Ints, Ints, Floats]:
    """Pairs of near duplicates, (m,) the lower and (m,) the higher row, and how alike they are, (m,) up to 1.

    sides: (n, 2) width and height, each SMALLEST at least. colours: (n, 3) mean RGB in [0, 1]. Even pictures,
    which have no gradients, are alike to nothing.
    """
    empty = np.zeros(0, dtype=np.int64)
    if len(thumbs) < 2:
        return empty, empty, np.zeros(0, dtype=np.float32)
    vectors = _descriptions(thumbs)
    first, second = _candidates(vectors)
    shapes = np.log(sides[:, 0] / sides[:, 1])
    slack = ASPECT + 1.5 / np.minimum(sides[first].min(axis=1), sides[second].min(axis=1))
    fit = np.abs(shapes[first] - shapes[second]) <= slack
    fit &= np.abs(colours[first] - colours[second]).max(axis=1) <= COLOUR
    first, second = first[fit], second[fit]
    alike = alikeness(thumbs, first, second, sides)
    distance = min(max(ALIKE * (1 - _usual(thumbs, vectors, sides)), NEAREST), FARTHEST)
    copies = alike >= 1 - distance
    return first[copies], second[copies], alike[copies]


def described(thumbs: npt.NDArray[np.uint8]) -> Floats:
    """(n, CELLS * CELLS * DIRECTIONS) histograms of oriented gradients (after Dalal and Triggs 2005)."""
    return np.concatenate([_oriented(thumbs[start : start + BLOCK]) for start in range(0, len(thumbs), BLOCK)])


def _descriptions(thumbs: npt.NDArray[np.uint8]) -> Floats:
    """(n, axes) unit vectors: histograms of oriented gradients, on whitened principal axes."""
    raw = described(thumbs)
    centred = raw - raw.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(centred[:: max(1, len(raw) // 20_000)].T.astype(np.float64), bias=True))
    deviations = np.sqrt(np.maximum(values[-KEPT_AXES:], 0))
    scale = deviations + RIDGE * deviations.mean() + 1e-9
    return _unit(centred @ (axes[:, -KEPT_AXES:] / scale).astype(np.float32))


def _oriented(thumbs: npt.NDArray[np.uint8]) -> Floats:
    """(n, CELLS * CELLS * DIRECTIONS) unit vectors of square roots, as histograms are compared."""
    across, down = _gradients(thumbs).transpose(1, 0, 2, 3)  # (n, 30, 30) each
    strength = np.hypot(across, down)
    angle = np.arctan2(down, across) * np.float32(DIRECTIONS / (2 * np.pi)) % DIRECTIONS
    size = strength.shape[1]
    centres = (np.arange(CELLS) + 0.5) * size / CELLS
    pool = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centres[:, None]) * CELLS / size).astype(np.float32)
    parts = []
    for direction in range(DIRECTIONS):
        away = np.abs((angle - direction + DIRECTIONS / 2) % DIRECTIONS - DIRECTIONS / 2)
        parts.append((pool @ (strength * np.maximum(0, 1 - away)) @ pool.T).reshape(len(thumbs), -1))
    return _unit(np.sqrt(np.concatenate(parts, axis=1)))


def _gradients(thumbs: npt.NDArray[np.uint8]) -> Floats:
    """(n, 2, 30, 30) differences across and down, of thumbnails smoothed by 1-2-1."""
    padded = np.pad(thumbs.astype(np.float32), ((0, 0), (1, 1), (1, 1)), "edge")
    smooth = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth = smooth[:, :, :-2] + 2 * smooth[:, :, 1:-1] + smooth[:, :, 2:]
    return np.stack(
        [smooth[:, 1:-1, 2:] - smooth[:, 1:-1, :-2], smooth[:, 2:, 1:-1] - smooth[:, :-2, 1:-1]], axis=1
    )


def _candidates(vectors: Floats) -> tuple[Ints, Ints]:
    """Pairs of neighbours, each once, the lower row first."""
    packed = []
    for rows in _groups(vectors):
        members = vectors[rows]
        for start in range(0, len(rows), BLOCK * 4):
            near, cosines = _nearest(members[start : start + BLOCK * 4] @ members.T, start)
            line, column = np.nonzero(cosines > LIKELY)
            one, other = rows[line + start], rows[near[line, column]]
            packed.append(np.minimum(one, other) * len(vectors) + np.maximum(one, other))
    pairs = np.unique(np.concatenate(packed))
    return pairs // len(vectors), pairs % len(vectors)


def _nearest(cosines: Floats, start: int) -> tuple[Ints, Floats]:
    """The columns of the largest cosines of each line, and these; line i is column start + i itself."""
    lines = np.arange(len(cosines))
    cosines[lines, start + lines] = -1
    count = min(NEIGHBOURS, cosines.shape[1])
    near = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    return near, np.take_along_axis(cosines, near, axis=1)


def _groups(vectors: Floats) -> Iterator[Ints]:
    """Rows that may be neighbours: all, or those that share one of their nearest pivots."""
    n = len(vectors)
    if n <= GROUP:
        yield np.arange(n)
        return
    pivots = vectors[np.random.default_rng(0).choice(n, n // PER_PIVOT, replace=False)]
    joined = np.concatenate(
        [
            np.argpartition(-(vectors[start : start + GROUP] @ pivots.T), JOINED, axis=1)[:, :JOINED]
            for start in range(0, n, GROUP)
        ]
    )
    order = np.argsort(joined, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(joined.ravel(), minlength=len(pivots)))
    for rows in np.split(order // JOINED, ends[:-1]):
        if len(rows) > 1:
            yield rows


def alikeness(thumbs: npt.NDArray[np.uint8], first: Ints, second: Ints, sides: npt.NDArray[np.int32]) -> Floats:
    """(m,) the correlation of two thumbnails' gradients, at the shift where it is highest."""
    smallest = np.minimum(sides[first].min(axis=1), sides[second].min(axis=1))
    reaches = (smallest < SHIFTED_BELOW).astype(int) + (smallest < FAR_SHIFTED_BELOW)
    alike = np.zeros(len(first), dtype=np.float32)
    for reach in np.unique(reaches).tolist():
        of = np.flatnonzero(reaches == reach)
        for start in range(0, len(of), BLOCK):
            part = of[start : start + BLOCK]
            alike[part] = _aligned(_gradients(thumbs[first[part]]), _gradients(thumbs[second[part]]), reach)
    return alike


def _aligned(one: Floats, other: Floats, reach: int) -> Floats:
    """The highest correlation of (m, 2, 30, 30) gradients over shifts of up to `reach` pixels each way."""
    best = np.zeros(len(one), dtype=np.float32)
    size = one.shape[-1]
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            a = one[..., max(0, down) : size + min(0, down), max(0, across) : size + min(0, across)]
            b = other[..., max(0, -down) : size + min(0, -down), max(0, -across) : size + min(0, -across)]
            energy = np.sqrt(_products(a, a) * _products(b, b))
            best = np.maximum(best, _products(a, b) / np.maximum(energy, 1e-6))
    return best


def _products(a: Floats, b: Floats) -> Any:
    return np.einsum("mcyx,mcyx->m", a, b)


def _usual(thumbs: npt.NDArray[np.uint8], vectors: Floats, sides: npt.NDArray[np.int32]) -> float:
    """How alike neighbours are that are no copies, as a rule; 0 where there are too few to say."""
    n = len(vectors)
    if n <= NEIGHBOURS:
        return 0.0
    rows = np.arange(0, n, max(1, n // USUAL_SAMPLE))
    cosines = vectors[rows] @ vectors.T
    cosines[np.arange(len(rows)), rows] = -1
    near = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    alike = alikeness(thumbs, np.repeat(rows, NEIGHBOURS), near.ravel(), sides).reshape(len(rows), NEIGHBOURS)
    return float(np.median(np.sort(alike, axis=1)[:, -USUAL_RANK]))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))
