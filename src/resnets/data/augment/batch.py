"""Batches of pictures changed on the device: uint8 crops, mirror images and colours; erasing once normalised.

What small pictures mostly need, a shift, a mirror image and normalising, a kernel does in one pass where there is
one, with the same bits.

Letters of the shapes: B pictures, C channels, H height, W width. Pictures are (B, C, H, W) in channels-last
memory, so that one row of one picture is W * C numbers side by side.
"""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from resnets.base.errors import UsageError
from resnets.base.streams import picture_uniform
from resnets.data.augment.geometry import Rows, crop_boxes, erasing_boxes, mirrored, shifts
from resnets.data.augment.operations import as_bytes, as_floats, brightness, contrast, saturation
from resnets.data.augment.policy import apply_policy
from resnets.data.augment.settings import Augment, Border
from resnets.data.augment.transfer import numbers, sent
from resnets.data.augment.warp import stroke, warp
from resnets.networks.kernels.pictures import VALUES, can_make_ready, make_ready


def ready_batch(
    images: torch.Tensor,
    rows: Rows,
    *,
    settings: Augment,
    seed: int,
    epoch: int,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """`normalise` of what `augment_batch` gives: uint8 (B, C, H, W) to `dtype`, channels last."""
    if not (settings.moves_alone and can_make_ready(images, dtype)):
        images = augment_batch(images, rows, settings=settings, seed=seed, epoch=epoch)
        return normalise(images, mean=mean, std=std, dtype=dtype)
    offsets, chosen = _moves(rows, settings, seed=seed, epoch=epoch)
    pad = 0 if offsets is None else settings.pad
    _check_border(images, pad, settings.border)
    table = _table(tuple(mean), tuple(std), dtype)
    return make_ready(images, table, offsets=offsets, mirrored=chosen, pad=pad, border=settings.border)


def augment_batch(images: torch.Tensor, rows: Rows, *, settings: Augment, seed: int, epoch: int) -> torch.Tensor:
    """Geometry, distortion, strokes, flip, policy and colour: uint8 (B, C, H, W) to the same, channels last.

    `rows` are the pictures' rows in the manifest: a picture's draws depend on (seed, epoch, row) alone.
    """
    if len(rows) == 0:
        return images
    height, width = images.shape[2:]
    offsets, chosen = _moves(rows, settings, seed=seed, epoch=epoch)
    if offsets is not None:
        images = pad_crop(images, offsets, pad=settings.pad, border=settings.border)
    elif settings.geometry == "rrc":
        heights, widths = np.full(len(rows), height), np.full(len(rows), width)
        images = resized_crop(images, crop_boxes(rows, heights, widths, settings=settings, seed=seed, epoch=epoch))
    if settings.affine or settings.elastic:
        images = warp(images, rows, settings=settings, seed=seed, epoch=epoch)
    if settings.stroke:
        images = stroke(images, rows, settings=settings, seed=seed, epoch=epoch)
    if chosen is not None:
        images = flip(images, chosen)
    if settings.policy != "none":
        images = apply_policy(images, rows, settings=settings, seed=seed, epoch=epoch)
    if settings.colour:
        draws = picture_uniform(rows, seed=seed, epoch=epoch, purpose="colour", draws=3)
        images = jitter(images, 1 + settings.colour * (2 * draws - 1))
    return images


def pad_crop(images: torch.Tensor, offsets: npt.NDArray[np.int64], *, pad: int, border: Border) -> torch.Tensor:
    """Pad every side by `pad` pixels and cut (H, W) at offsets (B, 2), down and right, 0 to 2 * pad."""
    _check_border(images, pad, border)
    count, channels, height, width = images.shape
    padded = _nhwc(images)
    for dimension in (1, 2):
        padded = _with_border(padded, dimension, pad, border)
    tall, wide = height + 2 * pad, width + 2 * pad
    # every window of W * C bytes as a line of a matrix that overlaps itself: one gather copies whole rows
    windows = padded.as_strided((count * tall * wide - width + 1, width * channels), (channels, 1))
    starts = (np.arange(count) * tall + offsets[:, 0])[:, None] + np.arange(height)[None, :]  # (B, H)
    starts = starts * wide + offsets[:, 1:2]
    lines = windows.index_select(0, sent(starts.reshape(-1), images.device))
    return lines.view(count, height, width, channels).permute(0, 3, 1, 2)


def resized_crop(images: torch.Tensor, boxes: npt.NDArray[np.int64]) -> torch.Tensor:
    """Cut boxes (B, 4: top, left, height, width) and enlarge each to (H, W), bilinear.

    A box is never larger than its picture, so nothing is scaled down and no antialiasing is needed.
    """
    height, width = images.shape[2:]
    ys = _positions(boxes[:, 0], boxes[:, 2], height)  # (B, H) in pixels of the source
    xs = _positions(boxes[:, 1], boxes[:, 3], width)
    lines = sent((2 * ys + 1) / height - 1, images.device, torch.float32)
    columns = sent((2 * xs + 1) / width - 1, images.device, torch.float32)
    grid = torch.stack(
        [columns[:, None, :].expand(-1, height, -1), lines[:, :, None].expand(-1, -1, width)], dim=3
    )  # (B, H, W, 2)
    cut = F.grid_sample(as_floats(images), grid, padding_mode="border", align_corners=False)
    return as_bytes(cut)


def flip(images: torch.Tensor, chosen: npt.NDArray[np.bool_]) -> torch.Tensor:
    """Mirror the chosen pictures (B,) left to right."""
    members = np.flatnonzero(chosen)
    lines = _nhwc(images)
    chosen_ones = lines.index_select(0, sent(members, images.device))
    mirror = chosen_ones.permute(0, 3, 1, 2).flip(3)  # torch is fast at this form of it
    return _replaced(lines, members, _nhwc(mirror)).permute(0, 3, 1, 2)


def jitter(images: torch.Tensor, factors: npt.NDArray[np.float64]) -> torch.Tensor:
    """Brightness, contrast and saturation times `factors` (B, 3), in this order; an alpha channel stays."""
    bright, contrasted, saturated = sent(factors, images.device, torch.float32).T[..., None, None, None]
    colours = brightness(as_floats(images[:, :3]), bright)
    colours = saturation(contrast(colours, contrasted), saturated)
    return torch.cat([as_bytes(colours), images[:, 3:]], dim=1).contiguous(memory_format=torch.channels_last)


def normalise(
    images: torch.Tensor, *, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """uint8 (B, C, H, W) to (value / 255 - mean) / std, channels last; computed in fp32, then cast."""
    if can_make_ready(images, dtype):
        return make_ready(images, _table(tuple(mean), tuple(std), dtype))
    return _normalised(images, mean, std, dtype)


def erase(images: torch.Tensor, rows: Rows, *, probability: float, seed: int, epoch: int) -> torch.Tensor:
    """Random erasing of normalised pictures: the box becomes 0, which is the mean."""
    if not probability:
        return images
    boxes = erasing_boxes(
        rows, (images.shape[2], images.shape[3]), probability=probability, seed=seed, epoch=epoch
    )
    return torch.where(inside(boxes, images), images.new_zeros(()), images)  # masked_fill loses channels-last


def inside(boxes: npt.NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W): which pixels lie in the boxes (B, 4: top, left, height, width)."""
    top, left, height, width = sent(boxes, images.device)[:, :, None, None, None].unbind(1)
    y = torch.arange(images.shape[2], device=images.device)[:, None]
    x = torch.arange(images.shape[3], device=images.device)[None, :]
    return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)


def _normalised(
    images: torch.Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> torch.Tensor:
    count, channels, height, width = images.shape
    # whole picture rows, so that the innermost loop is W * C long and not C
    lines = _nhwc(images).view(count * height, width * channels).to(torch.float32)
    scale = numbers([1 / (255 * s) for s in std], lines)
    shift = numbers([-m / s for m, s in zip(mean, std, strict=True)], lines)
    lines.mul_(scale.repeat(width)).add_(shift.repeat(width))
    return lines.to(dtype).view(count, height, width, channels).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=16)
def _table(mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype) -> torch.Tensor:
    """(C, 256): each byte normalised, channel by channel."""
    every = torch.arange(VALUES, dtype=torch.uint8, device="cpu").expand(len(mean), -1)
    return _normalised(every[None, :, :, None], mean, std, dtype)[0, :, :, 0].contiguous()


def _nhwc(images: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) as contiguous (B, H, W, C): no copy where the memory is channels-last already."""
    return images.permute(0, 2, 3, 1).contiguous()


def _moves(
    rows: Rows, settings: Augment, *, seed: int, epoch: int
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.bool_] | None]:
    """Where each picture is cut (B, 2), and which are mirrored (B,); None where none is."""
    offsets = chosen = None
    if settings.geometry == "pad-crop" and settings.pad:
        offsets = shifts(rows, pad=settings.pad, seed=seed, epoch=epoch)
    if settings.flip:
        chosen = mirrored(rows, probability=settings.flip, seed=seed, epoch=epoch)
    return offsets, chosen


def _check_border(images: torch.Tensor, pad: int, border: Border) -> None:
    height, width = images.shape[2:]
    if border == "reflect" and pad >= min(height, width):
        raise UsageError(
            f"a reflected border of {pad} pixels needs pictures of more than {pad} pixels, got "
            f"{height}x{width}; use fewer pixels or border edge or zero"
        )


def _replaced(images: torch.Tensor, members: npt.NDArray[np.int64], others: torch.Tensor) -> torch.Tensor:
    """`images` with those at `members` replaced by `others`, in one gather: faster than index_copy."""
    source = np.arange(len(images))
    source[members] = len(images) + np.arange(len(members))
    return torch.cat([images, others]).index_select(0, sent(source, images.device))


def _with_border(images: torch.Tensor, dimension: int, pad: int, border: Border) -> torch.Tensor:
    """`pad` more lines before and after along one dimension of (B, H, W, C)."""
    if border == "zero":
        shape = list(images.shape)
        shape[dimension] = pad
        zeros = images.new_zeros(shape)
        return torch.cat([zeros, images, zeros], dim=dimension)
    last = images.shape[dimension] - 1
    before, after = [0] * pad, [last] * pad
    if border == "reflect":
        before, after = list(range(pad, 0, -1)), list(range(last - 1, last - 1 - pad, -1))
    lines = [images.narrow(dimension, line, 1) for line in before]
    lines += [images, *(images.narrow(dimension, line, 1) for line in after)]
    return torch.cat(lines, dim=dimension)


def _positions(
    start: npt.NDArray[np.int64], length: npt.NDArray[np.int64], samples: int
) -> npt.NDArray[np.float64]:
    """(B, samples): centres of `samples` output pixels in source pixels, kept inside the box."""
    centres = np.outer(length / samples, np.arange(samples) + 0.5) - 0.5
    return (start[:, None] + np.clip(centres, 0, (length - 1)[:, None])).astype(np.float64)
