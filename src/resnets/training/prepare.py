"""From a decoded batch to what the network takes: augmented, normalised, mixed, on the device."""

import torch
from torch.nn import functional as F

from resnets.data.augment.batch import erase, ready_batch
from resnets.data.augment.mixing import mix
from resnets.data.augment.settings import Augment
from resnets.data.augment.transfer import sent
from resnets.data.batches import Batch
from resnets.preprocess import Preprocess
from resnets.training.step import Part


def prepare(
    batch: Batch,
    cut: slice,
    *,
    augment: Augment,
    preprocess: Preprocess,
    device: torch.device,
    seed: int,
    epoch: int,
    step: int,
    part: int = 0,
    size: tuple[int, int] | None = None,
) -> Part:
    """The pictures `cut` of a batch, with every change that (seed, epoch, draw) and (seed, step) call for.

    augment: what is left to do with this batch (`Augment.left_for_device`). part: the micro-batch's number.
    size: (height, width) that the pictures are scaled down to, antialiased; None: as they are.
    """
    draws = batch.draws[cut]
    images = sent(batch.images[cut], device)
    labels = {head: sent(values[cut], device) for head, values in batch.labels.items()}
    images = ready_batch(
        images, draws, settings=augment, seed=seed, epoch=epoch, mean=preprocess.mean, std=preprocess.std
    )
    if size is not None and size != images.shape[2:]:
        images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        images = images.contiguous(memory_format=torch.channels_last)
    images = erase(images, draws, probability=augment.erasing, seed=seed, epoch=epoch)
    if not augment.mixes:
        return Part(images=images, first=labels)
    mixed = mix(images, labels, settings=augment, seed=seed, step=step, micro_batch=part)
    return Part(images=mixed.images, first=mixed.first, second=mixed.second, weight=mixed.weight)
