"""RandAugment (Cubuk et al. 2019) and TrivialAugment (Müller & Hutter 2021, wide) on batches.

Each picture draws its operations; pictures with the same operation are changed together. The fourteen
operations and their ranges are the papers'. What a shear, shift or rotation brings in is mid-grey.
"""

import numpy as np
import numpy.typing as npt
import torch

from resnets.base.streams import picture_uniform
from resnets.data.augment import operations
from resnets.data.augment.settings import Augment
from resnets.data.augment.transfer import sent

Floats = npt.NDArray[np.float64]

MAGNITUDES = 30  # RandAugment's scale; TrivialAugment draws one of its 31 levels

# the largest change of each operation: RandAugment's, TrivialAugment's
LARGEST: dict[str, tuple[float, float]] = {
    "identity": (0, 0),
    "autocontrast": (0, 0),
    "equalize": (0, 0),
    "brightness": (0.9, 0.99),  # the factor is 1 - or + this
    "contrast": (0.9, 0.99),
    "saturation": (0.9, 0.99),
    "sharpness": (0.9, 0.99),
    "posterize": (4, 6),  # bits taken away
    "solarize": (256, 256),  # levels that are inverted, from the brightest
    "shear-x": (0.3, 0.99),
    "shear-y": (0.3, 0.99),
    "translate-x": (150 / 331, 32),  # share of the side; pixels
    "translate-y": (150 / 331, 32),
    "rotate": (30, 135),  # degrees
}
NAMES = tuple(LARGEST)
MOVES = ("shear-x", "shear-y", "translate-x", "translate-y", "rotate")


def apply_policy(
    images: torch.Tensor, rows: npt.NDArray[np.int64], *, settings: Augment, seed: int, epoch: int
) -> torch.Tensor:
    """The operations of each picture in turn: uint8 (B, C, H, W) to the same, channels last."""
    trivial = settings.policy == "trivialaugment"
    layers = 1 if trivial else settings.policy_operations
    draws = picture_uniform(rows, seed=seed, epoch=epoch, purpose="policy", draws=3 * layers)
    for layer in range(layers):
        choice, coin, level = draws[:, 3 * layer : 3 * layer + 3].T
        if trivial:
            share = np.floor(level * (MAGNITUDES + 1)) / MAGNITUDES
        else:
            share = np.full(len(rows), settings.policy_magnitude / MAGNITUDES)
        sign = np.where(coin < 0.5, -1.0, 1.0)
        images = change_each(images, (choice * len(NAMES)).astype(np.int64), sign, share, wide=trivial)
    return images


def change_each(
    images: torch.Tensor, chosen: npt.NDArray[np.int64], sign: Floats, share: Floats, *, wide: bool
) -> torch.Tensor:
    """One operation a picture: position in NAMES, sign (-1 or 1) and share of the largest change, each (B,)."""
    result = images.clone()
    for position in np.unique(chosen):
        name = NAMES[position]
        members = np.flatnonzero(chosen == position)
        where = sent(members, images.device)
        amount = share[members] * LARGEST[name][wide]
        group = images.index_select(0, where)
        if name in MOVES:
            matrix = _matrix(name, sign[members] * amount, images.shape[2:], pixels=wide)
            changed = operations.move(group, sent(matrix, images.device, torch.float32))
        else:
            signed = sent(sign[members] * amount, images.device, torch.float32)
            colours = _recolour(name, group[:, :3], signed[:, None, None, None])
            changed = torch.cat([colours, group[:, 3:]], dim=1)  # an alpha channel stays
        result.index_copy_(0, where, changed.contiguous(memory_format=torch.channels_last))
    return result


def _recolour(name: str, images: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """A colour operation on uint8 (B, 1 or 3, H, W); amount: (B, 1, 1, 1), its sign counts for factors alone."""
    match name:
        case "identity":
            return images
        case "autocontrast":
            return operations.autocontrast(images)
        case "equalize":
            return operations.equalize(images)
        case "posterize":
            return operations.posterize(images, 8 - amount.abs().round())
        case "solarize":
            return operations.solarize(images, 256 - amount.abs())
    enhance = {
        "brightness": operations.brightness,
        "contrast": operations.contrast,
        "saturation": operations.saturation,
        "sharpness": operations.sharpness,
    }[name]
    return operations.as_bytes(enhance(operations.as_floats(images), 1 + amount))


def _matrix(name: str, amount: Floats, size: torch.Size, *, pixels: bool) -> Floats:
    """(B, 2, 3): from the output's (x, y, 1) to the source's (x, y), in pixels from the centre."""
    height, width = size
    matrix = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (len(amount), 1, 1))
    match name:
        case "shear-x":
            matrix[:, 0, 1] = amount
        case "shear-y":
            matrix[:, 1, 0] = amount
        case "translate-x":
            matrix[:, 0, 2] = amount if pixels else amount * width
        case "translate-y":
            matrix[:, 1, 2] = amount if pixels else amount * height
        case _:  # rotate
            angle = np.radians(amount)
            matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
            matrix[:, 0, 1], matrix[:, 1, 0] = -np.sin(angle), np.sin(angle)
    return matrix
