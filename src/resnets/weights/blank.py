"""Networks without initial values: to be filled from a file, or only to be compared with one."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch.overrides import TorchFunctionMode

from resnets.networks import ResNet, ResNetSpec
from resnets.networks.unet import UNet, UNetSpec, built

_FILLING = ("fill_", "zero_", "normal_", "uniform_")


class _Unfilled(TorchFunctionMode):
    """Leaves out initialisation, and with it the draws from the global generator.

    On the meta device these calls would do nothing but load a second's worth of modules.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _FILLING or getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


@overload
def blank(spec: ResNetSpec) -> ResNet: ...
@overload
def blank(spec: ResNetSpec | UNetSpec) -> ResNet | UNet: ...
def blank(spec: ResNetSpec | UNetSpec) -> ResNet | UNet:
    """The network with whatever its memory held: every tensor of its state dict must be filled."""
    with _Unfilled():
        return built(spec)


def outline(spec: ResNetSpec | UNetSpec) -> ResNet | UNet:
    """The network on torch's meta device: names, shapes and types, no memory."""
    with torch.device("meta"), _Unfilled():
        return built(spec)
