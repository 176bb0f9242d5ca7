"""From a decoded batch to what the network takes: augmented, normalised, mixed, on the device."""

import torch

from resnets.data.augment.batch import augment_batch, erase, normalise
from resnets.data.augment.mixing import mix
from resnets.data.augment.settings import Augment
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
) -> Part:
    """The pictures `cut` of a batch, with every change that (seed, epoch, row) and (seed, step) call for.

    augment: what is left to do with this batch (`Augment.left_for_device`). part: the micro-batch's number.
    """
    rows = batch.rows[cut]
    images = batch.images[cut].to(device, non_blocking=True)
    labels = {head: values[cut].to(device, non_blocking=True) for head, values in batch.labels.items()}
    images = augment_batch(images, rows, settings=augment, seed=seed, epoch=epoch)
    images = normalise(images, mean=preprocess.mean, std=preprocess.std)
    images = erase(images, rows, probability=augment.erasing, seed=seed, epoch=epoch)
    if not augment.mixes:
        return Part(images=images, first=labels)
    mixed = mix(images, labels, settings=augment, seed=seed, step=step, micro_batch=part)
    return Part(images=mixed.images, first=mixed.first, second=mixed.second, weight=mixed.weight)
