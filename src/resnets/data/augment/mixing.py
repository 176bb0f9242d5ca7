"""Mixup and cutmix inside a micro-batch: every picture is mixed with its neighbour in the batch.

The order of an epoch is chance already, so the neighbour is as good a partner as a drawn one. Weights and
boxes are drawn by the step stream for the whole micro-batch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from resnets.base.streams import step_seed
from resnets.data.augment.batch import inside
from resnets.data.augment.settings import Augment
from resnets.data.augment.transfer import sent


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Mixed pictures and both of their labels: loss = weight * CE(first) + (1 - weight) * CE(second).

    images: (B, C, H, W). first, second: head -> labels as they were given, MISSING included.
    weight: (B,) float32, the share of each picture that is its own.
    """

    images: torch.Tensor
    first: dict[str, torch.Tensor]
    second: dict[str, torch.Tensor]
    weight: torch.Tensor


def mix(
    images: torch.Tensor,
    labels: dict[str, torch.Tensor],
    *,
    settings: Augment,
    seed: int,
    step: int,
    micro_batch: int = 0,
) -> Mixed:
    """Mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019) of normalised pictures (B, C, H, W).

    A weight is Beta(alpha, alpha), each picture's own; where both are on, a fair coin chooses one for the
    micro-batch. `micro_batch` counts those of one global step, over all processes. One of both must be on.
    """
    generator = np.random.default_rng(step_seed(seed=seed, step=step, purpose=f"mix/{micro_batch}"))
    cut = settings.cutmix > 0 and (settings.mixup == 0 or generator.random() < 0.5)
    alpha = settings.cutmix if cut else settings.mixup
    weight = generator.beta(alpha, alpha, len(images))
    partner = images.roll(1, 0)
    if cut:
        height, width = images.shape[2:]
        boxes = _cut_boxes(1 - weight, generator.random((len(images), 2)), height, width)
        mixed = torch.where(inside(boxes, images), partner, images)
        weight = 1 - boxes[:, 2] * boxes[:, 3] / (height * width)  # boxes at the border are smaller than drawn
        share = sent(weight, images.device, torch.float32)
    else:
        share = sent(weight, images.device, torch.float32)
        mixed = partner.lerp(images, share.to(images.dtype)[:, None, None, None])
    second = {head: values.roll(1, 0) for head, values in labels.items()}
    return Mixed(images=mixed, first=labels, second=second, weight=share)


def _cut_boxes(
    area: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.int64]:
    """(B, 4) boxes as top, left, height, width: of this share of the area, cut off at the picture's border."""
    size = np.array([height, width])
    half = np.sqrt(area)[:, None] * size / 2
    middle = centres * size
    start = np.rint(np.clip(middle - half, 0, size)).astype(np.int64)
    end = np.rint(np.clip(middle + half, 0, size)).astype(np.int64)
    return np.concatenate([start, end - start], axis=1)
