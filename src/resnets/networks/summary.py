"""A network as a table: what each layer gives, holds and costs, counted without memory for weights or pictures."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.networks.heads import Heads
from resnets.networks.resnet import ResNet
from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import variant

IMAGENET_SIZE = (224, 224)
CIFAR_SIZE = (32, 32)
EXPANDED = (nn.Sequential, nn.ModuleList, ResNet, Heads)  # a row for each child instead of one


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row. output: without the batch, (C, H, W) or (F,). multiply_adds: of convolutions and linear layers."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The table for one picture of size (height, width), and its sums."""

    size: tuple[int, int]
    channels: int
    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int


def summary(
    network: str | ResNetSpec | nn.Module, size: tuple[int, int] | None = None, *, channels: int | None = None
) -> Summary:
    """Count a network: a variant's name, a spec, or a module, which is left as it is.

    size: (height, width); without it 224×224, or 32×32 where the stem is small. channels: of the pictures, for
    a module that has no spec. Raises UsageError where such pictures cannot go through.
    """
    if isinstance(network, str):
        network = variant(network)
    if isinstance(network, ResNetSpec):
        with torch.device("meta"):
            network = ResNet(network)
    spec = getattr(network, "spec", None)
    size = size or (CIFAR_SIZE if getattr(spec, "keeps_size", False) else IMAGENET_SIZE)
    planes = channels or int(getattr(spec, "in_channels", 3))
    rows = dict(_rows(network, "")) or {"network": network}
    outputs, multiply_adds = _measure(network, rows, size, planes)
    layers = []
    before: tuple[int, ...] = (planes, *size)
    for name, module in rows.items():
        parameters = sum(parameter.numel() for parameter in module.parameters())
        output = outputs.get(name, before)
        if parameters or math.prod(output) != math.prod(before):
            kind, cost = type(module).__name__, multiply_adds[name]
            layers.append(Layer(name=name, kind=kind, output=output, parameters=parameters, multiply_adds=cost))
        before = output
    return Summary(
        size=size,
        channels=planes,
        layers=tuple(layers),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=sum(multiply_adds.values()),
    )


def _rows(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, EXPANDED):
            yield from _rows(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _measure(
    network: nn.Module, rows: dict[str, nn.Module], size: tuple[int, int], channels: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Run one picture without memory; output shapes and multiply-adds, a row."""
    outputs: dict[str, tuple[int, ...]] = {}
    multiply_adds = dict.fromkeys(rows, 0)
    row_of = {part: name for name, row in rows.items() for part in row.modules()}

    def count(module: nn.Module, given: Any, output: Any) -> None:
        name = row_of[module]
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            each = module.weight[0].numel()  # multiply-adds behind one output value
            multiply_adds[name] += output.numel() * each
        if module is rows[name] and isinstance(output, Tensor):
            outputs[name] = tuple(output.shape[1:])

    hooks = [module.register_forward_hook(count) for module in row_of]
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        tensors = {name: tensor.to("meta") for name, tensor in _tensors(network)}
        with torch.no_grad():
            torch.func.functional_call(network, tensors, torch.empty(1, channels, *size, device="meta"))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"a picture of {channels} × {size[0]} × {size[1]} does not go through the network ({reason}); "
            "try another size"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return outputs, multiply_adds


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()
