"""What stands before the first stage: convolutions, then a pool or none.

Shapes: B pictures, C channels coming in, S going out, H×W pixels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from resnets.networks.layers import Blur, MaxPool2d, activation, conv, norm, norm_act
from resnets.networks.spec import WHITENED_SIDE, ResNetSpec

WHITENING_FLOOR = 5e-4  # added to eigenvalues, so that what is hardly there is not blown up (Jordan 2024)


class DeepStem(nn.Sequential):
    """Three 3×3 convolutions, the first with stride 2, norm and ReLU between them (He et al. 2019, figure 2b)."""

    def __init__(self, spec: ResNetSpec) -> None:
        out = spec.stem_channels
        half = out // 2
        first = 3 * (half // 4) if spec.stem == "tiered" else half
        super().__init__(
            conv(spec.in_channels, first, 3, stride=2),
            norm(spec, first),
            activation(spec),
            conv(first, half, 3),
            norm(spec, half),
            activation(spec),
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
        super().__init__(conv(channels, channels, 3, stride=2), norm(spec, channels), activation(spec))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, H, W) -> (B, S, H/2, W/2)."""
        conv1, norm1, act1 = self
        return norm_act(norm1, conv1(x), act=act1)


class WhitenedStem(nn.Conv2d):
    """A 3×3 convolution with fixed filters, each beside its negative (Page 2019; Jordan 2024).

    `whiten` makes the filters from pictures; until then they are random. They are a buffer, not a parameter: in
    the state dict like any other tensor, but no optimizer moves them. Nothing here is learned, so that the layer
    behind need not say how its input should change.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        channels, filters = spec.in_channels, spec.stem_channels
        super().__init__(channels, filters, WHITENED_SIDE, padding=WHITENED_SIDE // 2, bias=False)
        weight = self.weight.detach()
        del self.weight
        self.register_buffer("weight", weight)


@torch.no_grad()
def whiten(stem: WhitenedStem, batches: Iterable[Tensor]) -> int:
    """Set a stem's filters to those that make the patches of pictures white, or of their strongest directions.

    batches: normalised images (B, C, H, W), as the network takes them. The filters are the eigenvectors of the
    patches' second moments, each divided by the square root of its eigenvalue, the largest first (Jordan 2024,
    section 3.2). Gives the number of pictures. Raises ValueError where there is none.
    """
    moments = torch.zeros(stem.weight[0].numel(), stem.weight[0].numel(), dtype=torch.float64, device="cpu")
    pictures = patches = 0
    for images in batches:
        flat = nn.functional.unfold(images.float(), stem.kernel_size).transpose(0, 1).flatten(1)  # (C·k·k, n)
        moments += (flat @ flat.T).cpu()
        pictures, patches = pictures + len(images), patches + flat.shape[1]
    if not pictures:
        raise ValueError("whiten needs at least one batch of pictures")
    values, vectors = torch.linalg.eigh(moments / patches)  # ascending, a direction a column
    strongest = torch.arange(len(values) - 1, len(values) - 1 - len(stem.weight) // 2, -1, device="cpu")
    vectors = vectors[:, strongest].T  # (S/2, C·k·k)
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    scales = largest.sign() / (values[strongest] + WHITENING_FLOOR).sqrt()[:, None]  # of either sign: choose one
    filters = (vectors * scales).reshape(-1, *stem.weight.shape[1:])
    stem.weight.copy_(torch.cat([filters, -filters]))
    return pictures


def stem_convolution(spec: ResNetSpec) -> nn.Module:
    if spec.stem == "imagenet":
        return conv(spec.in_channels, spec.stem_channels, 7, stride=2)
    if spec.stem == "small":
        return conv(spec.in_channels, spec.stem_channels, 3)
    if spec.stem == "whitened":
        return WhitenedStem(spec)
    return DeepStem(spec)


def stem_pool(spec: ResNetSpec) -> nn.Module:
    if spec.keeps_size:
        return nn.Identity()
    if spec.stem == "strided":
        return StridedPool(spec)
    if spec.antialias:
        return nn.Sequential(MaxPool2d(3, 1, padding=1), Blur(2))
    return MaxPool2d(3, 2, padding=1)


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
