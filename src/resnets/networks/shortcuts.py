"""What leads around a block: options A, B and C of He et al. 2015 (section 4.1), ResNet-D's, or nothing.

Shapes: B pictures, C channels coming in, O going out, H×W pixels, s the block's stride.
"""

from torch import Tensor, nn

from resnets.networks.layers import conv, norm, norm_act
from resnets.networks.spec import Place, ResNetSpec


class ZeroChannels(nn.Module):
    """Option A: every s-th pixel, and channels of zeros, half before and half after; nothing is learnt."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        missing = out - channels
        self.stride = stride
        self.padding = (0, 0, 0, 0, missing // 2, missing - missing // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s))."""
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class Projection(nn.Sequential):
    """Options B, C and D: [average pool,] 1×1 convolution [, norm]; no norm in front of a pre-activation."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H/s, W/s)."""
        *first, last = self
        for module in first:
            x = module(x)
        return last(x) if isinstance(last, nn.Conv2d) else norm_act(last, x)


class NoShortcut(nn.Module):
    """A plain network's: there is nothing to add."""

    def forward(self, x: Tensor) -> None:
        return None


def shortcut(spec: ResNetSpec, place: Place) -> nn.Module | None:
    """The module for the block at `place`; None: the block's input as it is."""
    changes = place.stride > 1 or place.channels != place.out
    if spec.shortcut == "none":
        return NoShortcut()
    if not changes and spec.shortcut != "C":
        return None
    if spec.shortcut == "A":
        return ZeroChannels(place.channels, place.out, place.stride)
    normed = [] if spec.preact else [norm(spec, place.out)]
    if spec.shortcut == "D":
        return Projection(average_pool(place), conv(place.channels, place.out, 1), *normed)
    return Projection(conv(place.channels, place.out, 1, stride=place.stride), *normed)


def average_pool(place: Place) -> nn.Module:
    """ResNet-D's: 2×2 with the block's stride; where the block dilates instead, 2×2 that keeps the sides."""
    if place.stride > 1:
        return nn.AvgPool2d(2, place.stride, ceil_mode=True, count_include_pad=False)
    if place.dilation_after > 1:
        return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, 1))
    return nn.Identity()
