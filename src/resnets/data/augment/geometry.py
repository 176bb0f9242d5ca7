"""Where a training picture is cut, shifted and mirrored: numbers drawn from the picture stream, no pixels."""

import math

import numpy as np
import numpy.typing as npt

from resnets.base.streams import picture_uniform
from resnets.data.augment.settings import Augment

Rows = npt.NDArray[np.int64]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TRIES = 10  # proposals for a box before the fallback, as in Szegedy et al.'s and torchvision's code
ERASING_SCALE = (0.02, 1 / 3)  # Zhong et al. 2017, section 4.1: share of the area
ERASING_RATIO = (0.3, 1 / 0.3)


def crop_boxes(
    rows: Rows, heights: Integers, widths: Integers, *, settings: Augment, seed: int, epoch: int
) -> Integers:
    """Random resized crop: (n, 4) boxes as top, left, height, width in pixels of pictures of these sizes.

    A box has a share of the area uniform in [scale, 1] and a width / height log-uniform in `ratio`; the
    first of ten proposals that fits is placed uniformly. Where none fits, the largest centred box whose
    ratio is in range is taken (torchvision's RandomResizedCrop).
    """
    draws = picture_uniform(rows, seed=seed, epoch=epoch, purpose="crop", draws=2 * TRIES + 2)
    boxes, found = _propose(draws, heights, widths, scale=(settings.scale, 1.0), ratio=settings.ratio)
    return np.where(found[:, None], boxes, _centred(heights, widths, settings.ratio))


def erasing_boxes(rows: Rows, size: tuple[int, int], *, probability: float, seed: int, epoch: int) -> Integers:
    """Random erasing (Zhong et al. 2017): (n, 4) boxes as in `crop_boxes`; height 0 where nothing is erased."""
    draws = picture_uniform(rows, seed=seed, epoch=epoch, purpose="erase", draws=2 * TRIES + 3)
    heights, widths = np.full(len(rows), size[0]), np.full(len(rows), size[1])
    boxes, found = _propose(draws[:, 1:], heights, widths, scale=ERASING_SCALE, ratio=ERASING_RATIO)
    return np.where((found & (draws[:, 0] < probability))[:, None], boxes, 0)


def shifts(rows: Rows, *, pad: int, seed: int, epoch: int) -> Integers:
    """Pad and crop (He et al. 2015, section 4.2): (n, 2) offsets (down, right), each 0 to 2 * pad."""
    draws = picture_uniform(rows, seed=seed, epoch=epoch, purpose="crop", draws=2)
    return (draws * (2 * pad + 1)).astype(np.int64)


def mirrored(rows: Rows, *, probability: float, seed: int, epoch: int) -> npt.NDArray[np.bool_]:
    """(n,) which pictures are mirrored left to right.

    At probability 0.5 a picture's first side is drawn, and then the sides alternate, epoch by epoch: two epochs
    show both (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3.6), where independent draws often repeat.
    """
    if probability != 0.5:
        return picture_uniform(rows, seed=seed, epoch=epoch, purpose="flip")[:, 0] < probability
    first = picture_uniform(rows, seed=seed, epoch=0, purpose="flip")[:, 0] < 0.5
    return first ^ bool(epoch % 2)


def _propose(
    draws: Floats, heights: Integers, widths: Integers, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """The first of TRIES boxes that fits, and whether there is one. draws: (n, 2 * TRIES + 2)."""
    area = (heights * widths)[:, None] * _between(draws[:, :TRIES], *scale)
    log_ratio = _between(draws[:, TRIES : 2 * TRIES], math.log(ratio[0]), math.log(ratio[1]))
    height = np.rint(np.sqrt(area / np.exp(log_ratio))).astype(np.int64)  # (n, TRIES)
    width = np.rint(np.sqrt(area * np.exp(log_ratio))).astype(np.int64)
    fits = (height > 0) & (width > 0) & (height <= heights[:, None]) & (width <= widths[:, None])
    first = fits.argmax(axis=1)[:, None]
    height = np.take_along_axis(height, first, axis=1)[:, 0]
    width = np.take_along_axis(width, first, axis=1)[:, 0]
    top = np.floor(draws[:, -2] * (heights - height + 1))
    left = np.floor(draws[:, -1] * (widths - width + 1))
    return np.stack([top, left, height, width], axis=1).astype(np.int64), np.asarray(fits.any(axis=1))


def _centred(heights: Integers, widths: Integers, ratio: tuple[float, float]) -> Integers:
    """The largest centred boxes with width / height inside `ratio`."""
    width = np.clip(np.rint(heights * ratio[1]).astype(np.int64), 1, widths)
    height = np.clip(np.rint(widths / ratio[0]).astype(np.int64), 1, heights)
    return np.stack([(heights - height) // 2, (widths - width) // 2, height, width], axis=1)


def _between(unit: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * unit
