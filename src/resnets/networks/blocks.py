"""The residual blocks: each is one class whose forward pass reads from top to bottom.

Shapes: B pictures, C channels coming in, I inside, O going out, H×W pixels, s the block's stride. Modules have
torchvision's names, and timm's where torchvision has none, so that state dicts fit. `last` names the module
whose scale starts at zero, so that a block begins as its shortcut (Goyal et al. 2017, section 5.1).
"""

from torch import Tensor, nn

from resnets.networks.layers import Blur, activation, attention, conv, drop_path, join, norm, norm_act, parted
from resnets.networks.shortcuts import shortcut
from resnets.networks.spec import Place, ResNetSpec


class BasicBlock(nn.Module):
    """Two 3×3 convolutions (He et al. 2015, figure 5, left)."""

    last = "bn2"

    def __init__(self, spec: ResNetSpec, place: Place) -> None:
        super().__init__()
        self.conv1 = conv(place.channels, place.out, 3, stride=place.conv_stride, dilation=place.dilation)
        self.bn1 = norm(spec, place.out)
        self.act1 = activation(spec)
        self.aa = Blur(place.stride) if place.blur else nn.Identity()
        self.conv2 = conv(place.out, place.out, 3, dilation=place.dilation_after)
        self.bn2 = norm(spec, place.out)
        self.se = attention(spec, place.out)
        self.drop_path = drop_path(place.drop_path)
        self.act2 = activation(spec)
        self.downsample = shortcut(spec, place)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H/s, W/s)."""
        x, residual = parted(self.conv1, x)
        residual = residual if self.downsample is None else self.downsample(residual)
        x = self.aa(norm_act(self.bn1, x, act=self.act1))  # (B, O, H/s, W/s)
        x = self.conv2(x)
        return norm_act(self.bn2, x, gates=(self.se, self.drop_path), residual=residual, act=self.act2)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 (He et al. 2015, figure 5, right); the stride is in the 3×3 (v1.5) or the first 1×1 (v1)."""

    last = "bn3"

    def __init__(self, spec: ResNetSpec, place: Place) -> None:
        super().__init__()
        first, second = (1, place.conv_stride) if spec.stride_in == "3x3" else (place.conv_stride, 1)
        inner, out, groups = place.inner, place.out, spec.groups
        self.conv1 = conv(place.channels, inner, 1, stride=first)
        self.bn1 = norm(spec, inner)
        self.act1 = activation(spec)
        self.conv2 = conv(inner, inner, 3, stride=second, dilation=place.dilation, groups=groups)
        self.bn2 = norm(spec, inner)
        self.act2 = activation(spec)
        self.aa = Blur(place.stride) if place.blur else nn.Identity()
        self.conv3 = conv(inner, out, 1)
        self.bn3 = norm(spec, out)
        self.se = attention(spec, out)
        self.drop_path = drop_path(place.drop_path)
        self.act3 = activation(spec)
        self.downsample = shortcut(spec, place)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H/s, W/s)."""
        x, residual = parted(self.conv1, x)
        residual = residual if self.downsample is None else self.downsample(residual)
        x = norm_act(self.bn1, x, act=self.act1)  # (B, I, H, W); v1: (B, I, H/s, W/s)
        x = self.aa(norm_act(self.bn2, self.conv2(x), act=self.act2))  # (B, I, H/s, W/s)
        x = self.conv3(x)  # (B, O, H/s, W/s)
        return norm_act(self.bn3, x, gates=(self.se, self.drop_path), residual=residual, act=self.act3)


class PreactBasic(nn.Module):
    """Norm and ReLU before each of two 3×3 convolutions (He et al. 2016); wide networks are made of it."""

    last = "conv2"

    def __init__(self, spec: ResNetSpec, place: Place) -> None:
        super().__init__()
        self.bn1 = norm(spec, place.channels)
        self.act1 = activation(spec)
        self.conv1 = conv(place.channels, place.out, 3, stride=place.conv_stride, dilation=place.dilation)
        self.bn2 = norm(spec, place.out)
        self.act2 = activation(spec)
        self.aa = Blur(place.stride) if place.blur else nn.Identity()
        self.conv2 = conv(place.out, place.out, 3, dilation=place.dilation_after)
        self.se = attention(spec, place.out)
        self.drop_path = drop_path(place.drop_path)
        self.downsample = shortcut(spec, place)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H/s, W/s)."""
        active = norm_act(self.bn1, x, act=self.act1)
        residual = x if self.downsample is None else self.downsample(active)
        x = self.conv1(active)  # (B, O, H/s, W/s)
        x = self.aa(norm_act(self.bn2, x, act=self.act2))
        return join(self.conv2(x), (self.se, self.drop_path), residual)


class PreactBottleneck(nn.Module):
    """Norm and ReLU before each of 1×1, 3×3, 1×1 (He et al. 2016, figure 1b)."""

    last = "conv3"

    def __init__(self, spec: ResNetSpec, place: Place) -> None:
        super().__init__()
        first, second = (1, place.conv_stride) if spec.stride_in == "3x3" else (place.conv_stride, 1)
        inner, out, groups = place.inner, place.out, spec.groups
        self.bn1 = norm(spec, place.channels)
        self.act1 = activation(spec)
        self.conv1 = conv(place.channels, inner, 1, stride=first)
        self.bn2 = norm(spec, inner)
        self.act2 = activation(spec)
        self.conv2 = conv(inner, inner, 3, stride=second, dilation=place.dilation, groups=groups)
        self.bn3 = norm(spec, inner)
        self.act3 = activation(spec)
        self.aa = Blur(place.stride) if place.blur else nn.Identity()
        self.conv3 = conv(inner, out, 1)
        self.se = attention(spec, out)
        self.drop_path = drop_path(place.drop_path)
        self.downsample = shortcut(spec, place)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H/s, W/s)."""
        active = norm_act(self.bn1, x, act=self.act1)
        residual = x if self.downsample is None else self.downsample(active)
        x = self.conv1(active)  # (B, I, H, W)
        x = self.conv2(norm_act(self.bn2, x, act=self.act2))  # (B, I, H/s, W/s)
        x = self.aa(norm_act(self.bn3, x, act=self.act3))
        return join(self.conv3(x), (self.se, self.drop_path), residual)
