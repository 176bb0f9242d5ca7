"""Batch norm's statistics measured anew: for short runs, averaged weights, and weights with folded statistics."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Set every batch norm's running mean and variance to those of the pictures in `batches`.

    batches: normalised images (B, C, H, W), as the network takes them. The statistics are the plain average over
    batches, not a moving one. Gives the number of batch norms; the network's mode, momentum and weights are
    as they were. Raises ValueError where there is no batch.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    modes = {module: module.training for module in network.modules()}
    momenta = [norm.momentum for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's sign for the cumulative average
            norm.train()
        seen = 0
        for images in batches:
            network(images)
            seen += 1
        if not seen:
            raise ValueError("recalibrate needs at least one batch of pictures")
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return len(norms)
