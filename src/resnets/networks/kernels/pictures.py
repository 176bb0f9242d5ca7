"""Pictures of bytes shifted, mirrored and normalised in one pass, where `pictures.cpp` can run it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resnets.networks.kernels.build import LONG
from resnets.networks.kernels.switch import DTYPES, address, kernels_wanted

BORDERS = ("zero", "edge", "reflect")  # as `pictures.cpp` numbers them
VALUES = 256  # of a byte


def can_make_ready(images: Tensor, dtype: torch.dtype) -> bool:
    """Whether `make_ready` can run for these pictures and results of this type."""
    bytes_here = images.device.type == "cpu" and images.dtype == torch.uint8
    return bytes_here and dtype in DTYPES and kernels_wanted() is not None


def make_ready(
    images: Tensor,
    table: Tensor,
    *,
    offsets: npt.NDArray[np.int64] | None = None,
    mirrored: npt.NDArray[np.bool_] | None = None,
    pad: int = 0,
    border: str = "zero",
) -> Tensor:
    """What `table` (C, 256) says of the values of uint8 (B, C, H, W): (B, C, H, W) of its type, channels last.

    offsets: (B, 2), where each is cut from a picture that is `pad` wider on every side: down and right, 0 to
    2 * pad. mirrored: (B,), which are turned left to right once they are cut. Raises ValueError where a shape, a
    type or a place is another.
    """
    kernels = kernels_wanted()
    if kernels is None:
        raise RuntimeError("make_ready was called where can_make_ready says that it cannot run")
    images = images.contiguous(memory_format=torch.channels_last)
    _check(images, table, offsets, mirrored, pad, border)
    y = torch.empty(images.shape, dtype=table.dtype, device="cpu", memory_format=torch.channels_last)
    count, channels, height, width = images.shape
    numbers = (count, height, width, channels, pad, BORDERS.index(border))
    chosen = [None if values is None else torch.from_numpy(values) for values in (offsets, mirrored)]
    kernels.make_ready(
        table.dtype == torch.bfloat16,
        torch.get_num_threads(),
        (LONG * len(numbers))(*numbers),
        *map(address, (images, *chosen, table, y)),
    )
    return y


def _check(
    images: Tensor,
    table: Tensor,
    offsets: npt.NDArray[np.int64] | None,
    mirrored: npt.NDArray[np.bool_] | None,
    pad: int,
    border: str,
) -> None:
    """The kernel looks nowhere else than in these shapes."""
    count, channels, height, width = images.shape
    fits = (
        images.dtype == torch.uint8
        and table.dtype in DTYPES
        and table.device.type == "cpu"
        and table.shape == (channels, VALUES)
        and table.is_contiguous()
        and (border != "reflect" or pad < min(height, width))
    )
    if offsets is not None:
        fits &= offsets.shape == (count, 2) and offsets.dtype == np.int64 and offsets.flags.c_contiguous
        fits = fits and (count == 0 or (offsets.min() >= 0 and offsets.max() <= 2 * pad))
    if mirrored is not None:
        fits = fits and mirrored.shape == (count,) and mirrored.dtype == np.bool_ and mirrored.flags.c_contiguous
    if not fits:
        raise ValueError("pictures, table, offsets and mirrored ones do not go together")
