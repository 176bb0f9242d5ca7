"""A residual network as the body of something else: its maps by name, with their channels and strides.

Shapes: B pictures, C channels, H×W pixels, F features.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import ResNetSpec


class HasNetwork(Protocol):
    """What holds a network, such as a loaded model or a `Backbone`."""

    @property
    def network(self) -> nn.Module: ...


class Backbone(nn.Module):
    """The maps `stem`, `stage1`, …, and `pooled` of a network, which keeps its weights and loses its heads.

    network: a variant's name, a spec, or a network or loaded model, whose tensors are then shared.
    output_stride: 8, 16 or 32; stages that would divide the sides by more dilate instead. None: as it is.
    channels, strides: of each map by name; what is pooled has stride 0.
    """

    def __init__(
        self, network: str | ResNetSpec | nn.Module | HasNetwork, *, output_stride: int | None = None
    ) -> None:
        super().__init__()
        self.network = body(network, output_stride=output_stride)
        self.spec = self.network.spec
        self.channels = {name: channels for name, (channels, _) in self.spec.maps().items()}
        self.strides = {name: stride for name, (_, stride) in self.spec.maps().items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) -> {name: (B, C, H/stride, W/stride)}, and `pooled` (B, F)."""
        return self.network.maps(images)


def features(model: nn.Module | HasNetwork, images: Tensor) -> dict[str, Tensor]:
    """The maps by name (see `Backbone`) of a network, or of what has one as `network`, in the mode it is in.

    Raises UsageError for anything else.
    """
    return resnet_of(model, asks="features").maps(images)


def body(network: str | ResNetSpec | nn.Module | HasNetwork, *, output_stride: int | None = None) -> ResNet:
    """A network without heads; a given one's tensors are shared. output_stride: see `Backbone`."""
    if isinstance(network, str | ResNetSpec):
        network = build(network, heads=None)
    network = resnet_of(network, asks="Backbone or UNet")
    stride = network.spec.output_stride if output_stride is None else output_stride
    with torch.device("meta"):
        other = ResNet(replace(network.spec, heads=(), output_stride=stride))
    tensors = network.state_dict(keep_vars=True)
    other.load_state_dict({name: tensors[name] for name in other.state_dict()}, assign=True)
    return other.train(network.training)


def resnet_of(model: object, *, asks: str) -> ResNet:
    """A residual network, or the one that something has as `network`. Raises UsageError where there is none.

    asks: what needs it, in the message.
    """
    network = getattr(model, "network", model)
    if not isinstance(network, ResNet):
        raise UsageError(
            f"{asks} needs a residual network made by resnets, got {type(network).__name__}; on others use hooks"
        )
    return network
