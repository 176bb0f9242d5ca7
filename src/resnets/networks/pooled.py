"""Blocks of networks whose stages open with a convolution and a max pool: ResNet-9, and a first network to read.

Shapes: B pictures, C channels coming in, O going out, H×W pixels.
"""

from torch import Tensor, nn

from resnets.networks.layers import MaxPool2d, activation, conv, norm, norm_act, parted
from resnets.networks.spec import Place, ResNetSpec


class Opening(nn.Module):
    """The first step of a stage: 3×3 convolution, norm, activation, 2×2 max pool; nothing leads around it."""

    def __init__(self, spec: ResNetSpec, place: Place) -> None:
        super().__init__()
        self.conv1 = conv(place.channels, place.out, 3)
        self.bn1 = norm(spec, place.out)
        self.act1 = activation(spec)
        self.pool = MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, ceil(H/2), ceil(W/2))."""
        pooled: Tensor = self.pool(norm_act(self.bn1, self.conv1(x), act=self.act1))
        return pooled


class PoolFirstOpening(Opening):
    """The same with the pool before the norm, which then has a quarter of the work (Jordan 2024)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, ceil(H/2), ceil(W/2))."""
        return norm_act(self.bn1, self.pool(self.conv1(x)), act=self.act1)


class DawnBlock(nn.Module):
    """Two convolutions with norm and activation each, added to the input after the last (Page 2018)."""

    def __init__(self, spec: ResNetSpec, place: Place) -> None:
        super().__init__()
        self.conv1 = conv(place.channels, place.out, 3)
        self.bn1 = norm(spec, place.out)
        self.act1 = activation(spec)
        self.conv2 = conv(place.out, place.out, 3)
        self.bn2 = norm(spec, place.out)
        self.act2 = activation(spec)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        branch, x = parted(self.conv1, x)
        branch = norm_act(self.bn1, branch, act=self.act1)
        return x + norm_act(self.bn2, self.conv2(branch), act=self.act2)


class VanillaBlock(nn.Module):
    """One convolution with a skip around it; it keeps the number of channels, so that the two can be added."""

    last = "bn1"

    def __init__(self, spec: ResNetSpec, place: Place) -> None:
        super().__init__()
        self.conv1 = conv(place.channels, place.out, 3)
        self.bn1 = norm(spec, place.out)
        self.act1 = activation(spec)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        branch, x = parted(self.conv1, x)
        return norm_act(self.bn1, branch, residual=x, act=self.act1)
