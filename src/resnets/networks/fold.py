"""A network for inference: every batch norm that follows a convolution becomes part of it.

In evaluation a batch norm is a scale and a shift a channel, which the convolution in front can do by itself.
"""

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from resnets.networks.blocks import BasicBlock, Bottleneck, PreactBasic, PreactBottleneck
from resnets.networks.kernels.convolution import FoldedConv
from resnets.networks.kernels.switch import unhooked
from resnets.networks.layers import Conv2d
from resnets.networks.pooled import DawnBlock, Opening, VanillaBlock
from resnets.networks.resnet import ResNet
from resnets.networks.shortcuts import Projection
from resnets.networks.stems import DeepStem, StridedPool
from resnets.networks.unet import UNet, UpStep

FIRST, SECOND, THIRD = ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")
PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {  # a convolution and the norm right behind it
    ResNet: (FIRST,),
    BasicBlock: (FIRST, SECOND),
    Bottleneck: (FIRST, SECOND, THIRD),
    PreactBasic: (("conv1", "bn2"),),
    PreactBottleneck: (("conv1", "bn2"), ("conv2", "bn3")),
    Opening: (FIRST,),
    DawnBlock: (FIRST, SECOND),
    VanillaBlock: (FIRST,),
    UpStep: (FIRST, SECOND),
}
SEQUENCES = (DeepStem, StridedPool, Projection)  # here a norm follows the module before it
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


def foldable(network: nn.Module) -> bool:
    """Whether `folded` knows the network and nobody watches it: a hook is to see every module at work."""
    return type(network) in (ResNet, UNet) and all(map(unhooked, network.modules()))


@torch.no_grad()
def folded(network: nn.Module, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy in evaluation mode that gives what `network` gives there, within float error; for inference alone.

    A folded norm's place is taken by its convolution, whose own place is then empty. dtype: bfloat16 computes all
    but the pooling and the heads in it, and wants pictures of that type.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for owner in list(network.modules()):
        for before, behind in pairs_of(owner):
            holder, conv, norm = owner, getattr(owner, before), getattr(owner, behind)
            if isinstance(conv, DeepStem):  # its last convolution
                holder, before, conv = conv, "6", conv[-1]
            if type(conv) in (nn.Conv2d, Conv2d) and isinstance(norm, BatchNorm) and norm.running_mean is not None:
                setattr(holder, before, nn.Identity())
                setattr(owner, behind, FoldedConv(with_norm(conv, norm)))
    if dtype == torch.bfloat16:
        to_bf16(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def pairs_of(owner: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of a convolution, or of a stem that ends in one, and of the norm behind it."""
    if isinstance(owner, SEQUENCES):
        yield from pairwise([name for name, _ in owner.named_children()])
    else:
        yield from PAIRS.get(type(owner), ())


def with_norm(conv: nn.Conv2d, norm: BatchNorm) -> nn.Conv2d:
    """The convolution, changed to give norm(conv(x)); its numbers are computed in float64, on the processor."""

    def exact(values: Tensor | None, missing: float) -> Tensor:
        return (
            torch.tensor(missing, dtype=torch.float64, device="cpu")
            if values is None
            else values.to("cpu", torch.float64)
        )

    scale = exact(norm.weight, 1) / (exact(norm.running_var, 1) + norm.eps).sqrt()  # (O,)
    shift = exact(norm.bias, 0) + (exact(conv.bias, 0) - exact(norm.running_mean, 0)) * scale
    weight = exact(conv.weight, 1) * scale[:, None, None, None]  # (O, C, k, k)
    device, dtype = conv.weight.device, conv.weight.dtype
    conv.weight = nn.Parameter(weight.to(device, dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(device, dtype), requires_grad=False)
    return conv


def to_bf16(network: nn.Module) -> None:
    """Convolutions in bfloat16; pooling, heads, and the numbers of batch norms that are left, in float32."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.GroupNorm):
            module.to(torch.bfloat16)
        elif isinstance(module, ResNet):
            module.add_module("avgpool", InFloat32(module.avgpool))


class InFloat32(nn.Module):
    """A module whose input is turned into float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x.float())
        return y
