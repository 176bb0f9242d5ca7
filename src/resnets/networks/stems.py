"""What stands before the first stage: convolutions, then a pool or none.

Shapes: B pictures, C channels coming in, S going out, H×W pixels.
"""

import torch
from torch import Tensor, nn

from resnets.networks.layers import Blur, conv, norm, norm_act
from resnets.networks.spec import ResNetSpec


class DeepStem(nn.Sequential):
    """Three 3×3 convolutions, the first with stride 2, norm and ReLU between them (He et al. 2019, figure 2b)."""

    def __init__(self, spec: ResNetSpec) -> None:
        out = spec.stem_channels
        half = out // 2
        first = 3 * (half // 4) if spec.stem == "tiered" else half
        super().__init__(
            conv(spec.in_channels, first, 3, stride=2),
            norm(spec, first),
            nn.ReLU(),
            conv(first, half, 3),
            norm(spec, half),
            nn.ReLU(),
            conv(half, out, 3),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, S, H/2, W/2)."""
        conv1, norm1, act1, conv2, norm2, act2, conv3 = self
        x = norm_act(norm1, conv1(images), act=act1)
        x = norm_act(norm2, conv2(x), act=act2)
        out: Tensor = conv3(x)
        return out


class StridedPool(nn.Sequential):
    """A 3×3 convolution with stride 2, norm and ReLU in the max pool's place (Bello et al. 2021)."""

    def __init__(self, spec: ResNetSpec) -> None:
        channels = spec.stem_channels
        super().__init__(conv(channels, channels, 3, stride=2), norm(spec, channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, H, W) -> (B, S, H/2, W/2)."""
        conv1, norm1, act1 = self
        return norm_act(norm1, conv1(x), act=act1)


def stem_convolution(spec: ResNetSpec) -> nn.Module:
    if spec.stem == "imagenet":
        return conv(spec.in_channels, spec.stem_channels, 7, stride=2)
    if spec.stem == "small":
        return conv(spec.in_channels, spec.stem_channels, 3)
    return DeepStem(spec)


def stem_pool(spec: ResNetSpec) -> nn.Module:
    if spec.stem == "small":
        return nn.Identity()
    if spec.stem == "strided":
        return StridedPool(spec)
    if spec.antialias:
        return nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Blur(2))
    return nn.MaxPool2d(3, 2, padding=1)


def fold_channels(weight: Tensor, channels: int) -> Tensor:
    """A trained first convolution for pictures of other channels: (S, C, k, k) -> (S, channels, k, k).

    Grey gets the sum over the channels; otherwise they are taken in turn, scaled by C / channels, so that
    outputs keep their size.
    """
    have = weight.shape[1]
    if channels == have:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    taken = torch.arange(channels, device=weight.device) % have
    return weight[:, taken] * (have / channels)
