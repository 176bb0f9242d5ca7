"""Changes of writing and drawings: an affine map and an elastic field in one resampling, and the width of strokes.

Elastic distortions after Simard, Steinkraus and Platt 2003, with a coarse field made smooth by interpolation.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from resnets.base.streams import picture_uniform
from resnets.data.augment.operations import as_bytes, as_floats
from resnets.data.augment.settings import Augment
from resnets.data.augment.transfer import sent

FIELD = 5  # control points a side of the elastic field


def warp(
    images: torch.Tensor, rows: npt.NDArray[np.int64], *, settings: Augment, seed: int, epoch: int
) -> torch.Tensor:
    """Affine and elastic changes: uint8 (B, C, H, W) to the same, bilinear, edges repeated.

    Each entry of the 2x2 matrix leaves the identity's by up to `affine`; each control point moves by up to
    `elastic` of a side.
    """
    count, (height, width) = len(rows), images.shape[2:]
    draws = 2 * picture_uniform(rows, seed=seed, epoch=epoch, purpose="warp", draws=4 + 2 * FIELD**2) - 1
    matrices = np.zeros((count, 2, 3))
    matrices[:, :, :2] = np.eye(2) + settings.affine * draws[:, :4].reshape(count, 2, 2)
    theta = sent(matrices, images.device, torch.float32)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (B, H, W, 2), from -1 to 1
    if settings.elastic:
        points = sent(draws[:, 4:].reshape(count, 2, FIELD, FIELD), images.device, torch.float32)
        field = F.interpolate(points * (2 * settings.elastic), (height, width), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    moved = F.grid_sample(as_floats(images), grid, padding_mode="border", align_corners=False)
    return as_bytes(moved)


def stroke(
    images: torch.Tensor, rows: npt.NDArray[np.int64], *, settings: Augment, seed: int, epoch: int
) -> torch.Tensor:
    """Bright and dark lines made thicker or thinner by up to `stroke` pixels a side: uint8 to uint8.

    A whole pixel is a 3x3 maximum or minimum; a part of one is the same share of the way there.
    """
    draws = picture_uniform(rows, seed=seed, epoch=epoch, purpose="stroke", draws=2)
    amounts = sent(draws[:, 0] * settings.stroke, images.device, torch.float32)[:, None, None, None]
    sign = sent(np.where(draws[:, 1] < 0.5, -1, 1), images.device)[:, None, None, None]
    pixels = as_floats(images) * sign  # the minimum is the maximum of the negative
    for done in range(math.ceil(settings.stroke)):
        share = (amounts - done).clamp(0, 1)
        pixels = pixels + share * (F.max_pool2d(pixels, 3, stride=1, padding=1) - pixels)
    return as_bytes(pixels * sign)
