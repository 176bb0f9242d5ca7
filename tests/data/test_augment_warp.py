"""Distortions of writing: known answers by hand, scipy's filters as the reference, independence of the batch."""

import numpy as np
import pytest
import torch

from resnets.base.streams import picture_uniform
from resnets.data.augment.batch import augment_batch
from resnets.data.augment.settings import Augment
from resnets.data.augment.warp import stroke, warp

ROWS = np.arange(40)


def blobs(count: int, side: int = 24) -> torch.Tensor:
    """A bright square in the middle of each dark picture (B, 1, side, side)."""
    images = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    images[:, :, side // 3 : -side // 3, side // 3 : -side // 3] = 200
    return images


def test_no_distortion_gives_the_very_picture() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 1, 9, 7), dtype=np.uint8))
    assert torch.equal(warp(images, ROWS[:3], settings=Augment(), seed=0, epoch=0), images)
    assert torch.equal(stroke(images, ROWS[:3], settings=Augment(), seed=0, epoch=0), images)


def test_an_affine_change_scales_the_area_by_the_determinant_of_its_matrix() -> None:
    images = blobs(40, side=48)
    moved = warp(images, ROWS, settings=Augment(affine=0.2), seed=0, epoch=0)
    draws = 2 * picture_uniform(ROWS, seed=0, epoch=0, purpose="warp", draws=54)[:, :4] - 1
    determinants = np.linalg.det(np.eye(2) + 0.2 * draws.reshape(-1, 2, 2))  # from output to source
    shares = (moved.float().sum(dim=(1, 2, 3)) / images.float().sum(dim=(1, 2, 3))).numpy()
    np.testing.assert_allclose(shares, 1 / determinants, rtol=0.05)
    assert shares.std() > 0.05


def test_an_elastic_field_moves_pixels_by_no_more_than_its_share_of_a_side() -> None:
    side = 32
    columns = torch.arange(side).repeat(side, 1).mul(4)[None, None].repeat(40, 1, 1, 1).to(torch.uint8)
    moved = warp(columns, ROWS, settings=Augment(elastic=0.05), seed=0, epoch=0)
    pixels = (moved.float() - columns.float()).abs() / 4  # the value says which column a pixel came from
    assert 0.5 < float(pixels.max()) <= 1.3 * 0.05 * side  # bicubic overshoots its control points a little
    assert len({tuple(picture.flatten().tolist()) for picture in moved}) == 40


def test_a_stroke_of_one_pixel_is_between_the_minimum_and_the_maximum_of_the_neighbourhood() -> None:
    from scipy.ndimage import maximum_filter, minimum_filter

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 1, 12, 10), dtype=np.uint8))
    changed = stroke(images, ROWS, settings=Augment(stroke=1.0), seed=0, epoch=0).numpy().astype(float)
    draws = picture_uniform(ROWS, seed=0, epoch=0, purpose="stroke", draws=2)
    for number, (share, coin) in enumerate(draws):
        before = images[number, 0].numpy().astype(float)
        extreme = (minimum_filter if coin < 0.5 else maximum_filter)(before, size=3, mode="nearest")
        np.testing.assert_allclose(changed[number, 0], before + share * (extreme - before), atol=0.5001)


def test_a_stroke_of_more_than_a_pixel_goes_on_from_the_first() -> None:
    images = torch.zeros(40, 1, 15, 15, dtype=torch.uint8)
    images[:, :, 7, 7] = 255
    widths = (stroke(images, ROWS, settings=Augment(stroke=3.0), seed=0, epoch=0) > 0).sum(dim=(1, 2, 3))
    assert {0, 9, 25, 49} >= set(widths.tolist()) - {1}
    assert {9, 49} <= set(widths.tolist())


@pytest.mark.parametrize("settings", [Augment(affine=0.2, elastic=0.04), Augment(stroke=1.5)])
def test_a_distortion_does_not_depend_on_the_other_pictures_of_its_batch(settings: Augment) -> None:
    images = blobs(40)
    together = augment_batch(images, ROWS, settings=settings, seed=3, epoch=2)
    alone = augment_batch(images[7:9], ROWS[7:9], settings=settings, seed=3, epoch=2)
    assert torch.equal(together[7:9], alone)
    assert not torch.equal(together, augment_batch(images, ROWS, settings=settings, seed=3, epoch=3))
