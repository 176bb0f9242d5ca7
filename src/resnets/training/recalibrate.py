"""Batch norm's statistics measured anew: for short runs, averaged weights, and weights with folded statistics."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.networks.backbone import HasNetwork

EPSILON = 1e-5  # of torch's batch norm


@torch.no_grad()
def recalibrate(network: nn.Module | HasNetwork, batches: Iterable[torch.Tensor]) -> int:
    """Set every batch norm's running mean and variance to those of the pictures in `batches`.

    network: or a loaded model. batches: normalised images (B, C, H, W), as the network takes them. The statistics
    are the plain average over batches, not a moving one. Gives the number of batch norms; the network's mode,
    momentum and weights are as they were. Raises ValueError where there is no batch.
    """
    network = network if isinstance(network, nn.Module) else network.network
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


@torch.no_grad()
def unfold(network: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Give batch norms whose statistics were folded away (mean 0, variance 1) those of the pictures in `batches`.

    Weight and bias change with them, so that in evaluation mode the network computes what it did before; in
    training mode it now starts from nearly the same function, where folded ones start from another. batches: as
    for `recalibrate`. Gives the number of batch norms. Raises ValueError where there is no batch.
    """
    norms: list[nn.Module] = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(2, len(norm.get_parameter("weight")), dtype=torch.float64) for norm in norms}
    counts = dict.fromkeys(norms, 0)

    def collect(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].double()  # (B, C, H, W)
        sums[norm] += torch.stack([values.sum((0, 2, 3)), (values**2).sum((0, 2, 3))]).cpu()
        counts[norm] += values.numel() // values.shape[1]

    handles = [norm.register_forward_pre_hook(collect) for norm in norms]
    mode = network.training
    try:
        network.eval()
        for images in batches:
            network(images)
    finally:
        network.train(mode)
        for handle in handles:
            handle.remove()
    if not all(counts.values()):
        raise ValueError("unfold needs at least one batch of pictures")
    for norm in norms:
        weight, bias = norm.get_parameter("weight"), norm.get_parameter("bias")
        running_mean, running_var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        mean, square = (sums[norm] / counts[norm]).to(weight.device)
        variance = (square - mean**2).clamp(min=1e-10)
        scale = weight.double() / (running_var.double() + EPSILON).sqrt()
        bias.copy_(bias.double() + (mean - running_mean.double()) * scale)
        weight.copy_(scale * (variance + EPSILON).sqrt())
        running_mean.copy_(mean)
        running_var.copy_(variance)
    return len(norms)
