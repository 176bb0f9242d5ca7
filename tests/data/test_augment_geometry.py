"""Boxes, shifts and mirror images as numbers: ranges, known values, the distribution of torchvision's crops."""

import importlib.util
import math

import numpy as np
import pytest

from resnets.data.augment.geometry import crop_boxes, erasing_boxes, mirrored, shifts
from resnets.data.augment.settings import Augment

ROWS = np.arange(20_000)
RRC = Augment(geometry="rrc")


def test_crops_keep_between_a_twelfth_and_all_of_the_area_in_the_stated_ratio() -> None:
    boxes = crop_boxes(ROWS, np.full(20_000, 375), np.full(20_000, 500), settings=RRC, seed=0, epoch=0)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 375).all()
    assert (left + width <= 500).all()
    share, ratio = height * width / (375 * 500), width / height
    assert share.min() > 0.079  # 0.08, up to rounding
    assert share.max() > 0.97
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35


def test_crops_are_distributed_as_torchvisions() -> None:
    """Two-sample Kolmogorov-Smirnov distance of area and log ratio; 0.055 is its 1 in 1,000 bound for 2,500."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision, a reference in tests alone, is not installed")
    import torch

    from tests.peers.references import torchvision

    crop = torchvision().transforms.RandomResizedCrop
    torch.manual_seed(0)
    picture = torch.empty(1, 300, 500)
    theirs = np.array([crop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(2_500)])
    ours = crop_boxes(ROWS[:2_500], np.full(2_500, 300), np.full(2_500, 500), settings=RRC, seed=1, epoch=0)
    for measure in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0] / np.maximum(1, 300 - box[:, 2]),
        lambda box: box[:, 1] / np.maximum(1, 500 - box[:, 3]),
    ):
        assert distance(measure(ours), measure(theirs)) < 0.055


def distance(one: np.ndarray, other: np.ndarray) -> float:
    grid = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(sample), grid, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def test_shapes_that_no_crop_fits_fall_back_to_the_largest_centred_box() -> None:
    """A strip of 10 x 1000: no share of at least 50% has a ratio of at most 4/3, so 10 x 13 from the middle."""
    settings = Augment(geometry="rrc", scale=0.5)
    heights, widths = np.array([10, 1000, 40]), np.array([1000, 10, 40])
    boxes = crop_boxes(np.arange(3), heights, widths, settings=settings, seed=0, epoch=0)
    assert boxes[0].tolist() == [0, 493, 10, 13]
    assert boxes[1].tolist() == [493, 0, 13, 10]
    assert boxes[2, 2] * boxes[2, 3] >= 0.48 * 1600


def test_a_picture_of_one_pixel_is_kept_whole() -> None:
    boxes = crop_boxes(np.arange(50), np.ones(50, np.int64), np.ones(50, np.int64), settings=RRC, seed=0, epoch=0)
    assert (boxes == [0, 0, 1, 1]).all()


def test_a_crop_does_not_depend_on_the_other_pictures_of_its_batch() -> None:
    heights, widths = 100 + ROWS[:64] % 7, 120 + ROWS[:64] % 11
    together = crop_boxes(ROWS[:64], heights, widths, settings=RRC, seed=3, epoch=5)
    for row in (0, 17, 63):
        alone = crop_boxes(
            ROWS[row : row + 1], heights[row : row + 1], widths[row : row + 1], settings=RRC, seed=3, epoch=5
        )
        np.testing.assert_array_equal(alone[0], together[row])
    other = crop_boxes(ROWS[:64], heights, widths, settings=RRC, seed=3, epoch=6)
    assert (other != together).any(axis=1).mean() > 0.9


def test_shifts_are_uniform_from_none_to_twice_the_pad() -> None:
    offsets = shifts(ROWS, pad=4, seed=0, epoch=0)
    for side in offsets.T:
        counts = np.bincount(side, minlength=9)
        assert len(counts) == 9
        assert np.abs(counts / 20_000 - 1 / 9).max() < 0.01


def test_each_picture_is_mirrored_every_other_epoch() -> None:
    first, second = (mirrored(ROWS, probability=0.5, seed=0, epoch=epoch) for epoch in (0, 1))
    assert (first ^ second).all()
    assert (mirrored(ROWS, probability=0.5, seed=0, epoch=2) == first).all()


def test_half_of_the_pictures_are_mirrored() -> None:
    share = mirrored(ROWS, probability=0.5, seed=0, epoch=0).mean()
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 20_000)


def test_erasing_boxes_keep_to_zhongs_ranges() -> None:
    boxes = erasing_boxes(ROWS, (64, 64), probability=0.25, seed=0, epoch=0)
    erased = boxes[:, 2] > 0
    assert abs(erased.mean() - 0.25) < 0.015
    height, width = boxes[erased, 2], boxes[erased, 3]
    share = height * width / 64**2
    assert share.min() > 0.015
    assert share.max() < 0.345
    assert (boxes[:, 0] + boxes[:, 2] <= 64).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 64).all()
    assert not boxes[~erased].any()
