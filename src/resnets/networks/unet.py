"""A U-Net on any residual network: a class for each pixel of pictures of any size (Ronneberger et al. 2015).

Shapes: B pictures, C channels, H×W pixels, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnets.base.errors import ModelFileError
from resnets.networks import limits
from resnets.networks.backbone import HasNetwork, body
from resnets.networks.layers import conv, norm, norm_act
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import ResNetSpec

LAST_WIDTH = 16  # channels of the last step at the pictures' full size; each step before it has twice as many


@dataclass(frozen=True, kw_only=True)
class UNetSpec:
    """encoder: without heads. classes: of a pixel. width: channels of the decoder's last step."""

    encoder: ResNetSpec
    classes: int
    width: int = LAST_WIDTH

    def __post_init__(self) -> None:
        limits.whole("classes", self.classes, 1, 65_536, of="UNetSpec")
        limits.whole("width", self.width, 1, 1024, of="UNetSpec")

    def to_json(self) -> dict[str, Any]:
        return {"kind": "unet", "encoder": self.encoder.to_json(), "classes": self.classes, "width": self.width}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "UNetSpec":
        """The spec that a model file holds. Raises ModelFileError: the file is a stranger's input."""
        given = {key: value for key, value in values.items() if key != "kind"}
        if values.get("kind") != "unet" or not isinstance(given.get("encoder"), Mapping):
            raise ModelFileError("the stored network cannot be used: it is no U-Net with an encoder")
        given["encoder"] = ResNetSpec.from_json(given["encoder"])
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"the stored network cannot be used: {error}") from error


class UNet(nn.Module):
    """Each step doubles the sides, takes the encoder's map of that size beside it, and convolves twice.

    encoder: a variant's name, a spec, or a network or loaded model, pretrained or not, whose tensors are then
    shared.
    """

    def __init__(
        self, encoder: str | ResNetSpec | nn.Module | HasNetwork, num_classes: int, *, width: int = LAST_WIDTH
    ) -> None:
        super().__init__()
        self.encoder = body(encoder)
        self.spec = UNetSpec(encoder=self.encoder.spec, classes=num_classes, width=width)
        maps = self.encoder.spec.maps()
        *skips, self.deepest, _ = maps
        self.skips: list[str | None] = [*reversed(skips)]
        if maps["stem"][1] > 1:
            self.skips.append(None)  # one more step, from half the pictures' size to the whole
        channels, self.stride = maps[self.deepest]
        self.decoder = nn.ModuleList()
        for number, skip in enumerate(self.skips, 1):
            out = width * 2 ** (len(self.skips) - number)
            beside = maps[skip][0] if skip else 0
            self.decoder.append(UpStep(self.encoder.spec, channels + beside, out))
            channels = out
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K, H, W), for any H and W: padded by their edges, and cropped back."""
        height, width = images.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        maps = self.encoder.maps(nn.functional.pad(images, padding, mode="replicate"))
        x = maps[self.deepest]
        for step, skip in zip(self.decoder, self.skips, strict=True):
            x = step(x, maps[skip] if skip else None)
        logits: Tensor = self.head(x)
        return logits[:, :, :height, :width]


class UpStep(nn.Module):
    """To the size of the map beside, then two 3×3 convolutions with norm and ReLU."""

    def __init__(self, spec: ResNetSpec, channels: int, out: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, out, 3)
        self.bn1 = norm(spec, out)
        self.act1 = nn.ReLU()
        self.conv2 = conv(out, out, 3)
        self.bn2 = norm(spec, out)
        self.act2 = nn.ReLU()
        for module in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, beside: Tensor | None) -> Tensor:
        """(B, C, H, W) and a map (B, C', H', W') -> (B, out, H', W'); without a map both sides double."""
        size = (2 * x.shape[2], 2 * x.shape[3]) if beside is None else beside.shape[2:]
        x = nn.functional.interpolate(x, size=size, mode="nearest")
        x = x if beside is None else torch.cat((x, beside), dim=1)
        x = norm_act(self.bn1, self.conv1(x), act=self.act1)
        return norm_act(self.bn2, self.conv2(x), act=self.act2)


def spec_from_json(values: Mapping[str, Any]) -> ResNetSpec | UNetSpec:
    """The spec that a model file holds. Raises ModelFileError where it is of no known kind, or out of bounds."""
    return UNetSpec.from_json(values) if values.get("kind") == "unet" else ResNetSpec.from_json(values)


def built(spec: ResNetSpec | UNetSpec) -> ResNet | UNet:
    """The network of a spec, with random weights; under `torch.device("meta")` without any."""
    return UNet(spec.encoder, spec.classes, width=spec.width) if isinstance(spec, UNetSpec) else build(spec)
