"""torchvision's and timm's networks as references, and the comparison of a network of ours with one of theirs.

PyPI's torchvision is built for CUDA: beside a CPU-only torch its kernels cannot load, and its import fails on
operators that its Python code mentions. Declared without kernels, they let models be imported; timm then, too.
"""

import functools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from resnets.networks.convert import timm_name, to_timm, to_torchvision
from resnets.networks.resnet import ResNet
from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import VARIANTS

SIDE, PICTURES = 32, 4  # of the pictures compared; the last of four stages sees a pixel of each


@functools.cache
def torchvision() -> ModuleType:
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    torchvision.kept_alive = library  # the operators go when the library object does
    return torchvision


@functools.cache
def timm() -> ModuleType:
    torchvision()
    import timm

    return timm


def names_in_torchvision() -> list[str]:
    return [name for name in VARIANTS if name in torchvision().models.list_models()]


def names_in_timm() -> list[str]:
    known = set(timm().list_models())
    return [name for name in VARIANTS if name in known]


def names_assembled() -> list[str]:
    wide = [name for name in VARIANTS if name.startswith("wide_resnet") and not name.endswith("_2")]
    return [*(name for name in VARIANTS if name.endswith("_v1")), *wide, "resnetv2_164", "resnetv2_1001"]


def counterpart(library: str, name: str, **settings: Any) -> nn.Module:
    """The reference for one of our names, with random weights."""
    if library == "torchvision":
        return torchvision().models.get_model(name, **settings)
    if library == "timm":
        return timm().create_model(name, **settings)
    return assembled(VARIANTS[name])


def assembled(spec: ResNetSpec) -> nn.Module:
    """A reference for a spec, from torchvision's or timm's parts."""
    return _timm_on_cifar(spec) if spec.preact else _torchvision_parts(spec)


def _torchvision_parts(spec: ResNetSpec) -> nn.Module:
    """torchvision's ResNet; with the stride in the first 1×1 where the spec has it there."""
    resnet = torchvision().models.resnet
    network = resnet.ResNet(
        resnet.BasicBlock if spec.block == "basic" else resnet.Bottleneck,
        list(spec.depths),
        num_classes=spec.heads[0][1],
        groups=spec.groups,
        width_per_group=spec.group_width or 64,
        replace_stride_with_dilation=[places[0].stride == 1 for places in spec.stages()[1:]],
    )
    blocks = (block for stage in (network.layer2, network.layer3, network.layer4) for block in stage)
    return network if spec.stride_in == "3x3" else _strides_moved(network, blocks)


def _timm_on_cifar(spec: ResNetSpec) -> nn.Module:
    """timm's ResNetV2 with three stages behind a 3×3 convolution, its strides moved where ours are."""
    timm()
    from timm.layers import BatchNormAct2d, create_conv2d
    from timm.models.resnetv2 import ResNetV2

    expansion = 1 if spec.block == "preact_basic" else 4
    network = ResNetV2(
        list(spec.depths),
        channels=tuple(expansion * spec.width * 2**stage for stage in range(3)),
        num_classes=10,
        stem_chs=16,
        basic=expansion == 1,
        bottle_ratio=1 / expansion,
        norm_layer=BatchNormAct2d,
        conv_layer=create_conv2d,
    )
    network.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 16, 3, padding=1, bias=False)))
    blocks = (block for stage in network.stages for block in stage.blocks)
    return network if spec.stride_in == "3x3" else _strides_moved(network, blocks)


def _strides_moved(network: nn.Module, blocks: Iterable[nn.Module]) -> nn.Module:
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    return network


def their_name(network: ResNet, library: str, name: str) -> str:
    """Our name of a tensor as theirs."""
    return name if library == "torchvision" else timm_name(network.spec, name)


def their_state(network: ResNet, library: str) -> dict[str, Tensor]:
    """Our state dict as theirs."""
    if library == "torchvision":
        return to_torchvision(network)
    if library == "timm":
        return to_timm(network)
    state = {timm_name(network.spec, name): tensor for name, tensor in network.state_dict().items()}
    if network.spec.preact:
        state["head.fc.weight"] = state["head.fc.weight"][:, :, None, None]
    return state


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Largest relative differences by norm: in float64, and of float32 outputs in evaluation."""

    eval_output: float
    eval_gradient: float
    train_output: float
    train_gradient: float
    float32_output: float

    def largest(self) -> float:
        """In float64."""
        return max(self.eval_output, self.eval_gradient, self.train_output, self.train_gradient)


def perturb(network: ResNet, seed: int = 0) -> None:
    """Random weights as they are, random scales, shifts and statistics for every norm; the last of a branch small,
    so that hundreds of blocks do not overflow."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            last = getattr(network.get_submodule(name.rpartition(".")[0]), "last", None)
            scale = 0.3 if name.endswith(f".{last}") else 1.0
            module.weight.data.uniform_(0.5, 1.5, generator=generator).mul_(scale)
            module.bias.data.normal_(0, 0.1, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, nn.Conv2d) and not module.weight.any():  # a branch that starts at zero
            module.weight.data.normal_(0, 0.02, generator=generator)


def compare(ours: ResNet, theirs: nn.Module, library: str) -> Differences:
    """Copy our weights into theirs, strictly, and run both forward and backward in either mode."""
    perturb(ours)
    theirs.load_state_dict(their_state(ours, library))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(PICTURES, ours.spec.in_channels, SIDE, SIDE, generator=generator)
    figures = {"float32_output": _relative(*(_logits(network.eval(), images) for network in (ours, theirs)))}
    ours, theirs, images = ours.double(), theirs.double(), images.double()
    for mode in ("eval", "train"):
        outputs = []
        for network in (ours, theirs):
            network.train(mode == "train").zero_grad()
            output = network(images)
            output.square().sum().backward()
            outputs.append(output.detach())
        figures[f"{mode}_output"] = _relative(*outputs)
        gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
        figures[f"{mode}_gradient"] = max(
            _relative(parameter.grad, gradients[their_name(ours, library, name)].reshape(parameter.shape))
            for name, parameter in ours.named_parameters()
        )
    return Differences(**figures)


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    return network(images)


def _relative(one: Tensor, other: Tensor) -> float:
    """The norm of the difference over the norm; infinite where either is not finite or nothing."""
    difference, norm = (one - other).norm().item(), other.norm().item()
    return difference / norm if 0 < norm < float("inf") and difference < float("inf") else float("inf")
