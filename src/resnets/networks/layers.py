"""The steps that blocks are made of: convolutions, norms, and what a spec can add to them.

Shapes: B pictures, C channels, H×W pixels. Nothing works in place: a hook may keep what it sees.
"""

import math

import torch
from torch import Tensor, nn

from resnets.networks import kernels
from resnets.networks.kernels.switch import unhooked
from resnets.networks.spec import ResNetSpec

NORM_GROUPS = 32  # Wu and He 2018, table 3
SE_MULTIPLE = 8  # a squeeze has a multiple of 8 channels, as timm rounds it


def norm_act(
    norm: nn.Module,
    x: Tensor,
    *,
    act: nn.Module | None = None,
    gates: tuple[nn.Module | None, ...] = (),
    residual: Tensor | None = None,
) -> Tensor:
    """act(gates(norm(x)) + residual), of which all but the norm may be missing; (B, C, H, W) throughout.

    Every norm of every network goes through this function, so a fused kernel has one place to stand in.
    """
    if all(gate is None for gate in gates):
        return kernels.norm_act(norm, x, residual=residual, act=act)
    x = join(kernels.norm_act(norm, x), gates, residual)
    return x if act is None else act(x)


def join(branch: Tensor, gates: tuple[nn.Module | None, ...], residual: Tensor | None) -> Tensor:
    """gates(branch) + residual: the end of a residual branch; (B, C, H, W) throughout."""
    for gate in gates:
        branch = branch if gate is None else gate(branch)
    return branch if residual is None else branch + residual


class Conv2d(nn.Conv2d):
    """PyTorch's, but where a faster kernel can run."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H/s, W/s)."""
        y = kernels.convolve(self, x)
        return super().forward(x) if y is None else y


def parted(conv: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """(conv(x), x): the two ways that part at the beginning of a residual block.

    A kernel that computes the convolution adds the gradients of both ways where they meet.
    """
    both = kernels.convolve_and_pass(conv, x) if type(conv) is Conv2d and unhooked(conv) else None
    return (conv(x), x) if both is None else both


class MaxPool2d(nn.MaxPool2d):
    """PyTorch's, but where a faster kernel can run."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/s, W/s)."""
        y = kernels.max_pool(self, x)
        return super().forward(x) if y is None else y


def conv(channels: int, out: int, size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """A size×size convolution without bias, padded so that stride 1 keeps the sides."""
    padding = dilation * (size - 1) // 2
    return Conv2d(
        channels, out, size, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=False
    )


def norm(spec: ResNetSpec, channels: int) -> nn.Module:
    if spec.norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(NORM_GROUPS, channels), channels)


def activation(spec: ResNetSpec) -> nn.Module:
    return nn.Hardswish() if spec.act == "hardswish" else nn.ReLU()


class Blur(nn.Module):
    """The 3×3 binomial filter [1 2 1]/4 by itself, taken every `stride` pixels (Zhang 2019), edges reflected.

    Two 2×2 averages make the same filter, so there is no kernel to store.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H/stride), ceil(W/stride)); H and W are 2 at least."""
        if x.is_cuda and torch.are_deterministic_algorithms_enabled():
            x = reflected(x)
        else:
            x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return nn.functional.avg_pool2d(nn.functional.avg_pool2d(x, 2, 1), 2, self.stride)


def reflected(x: Tensor) -> Tensor:
    """x with a border of one pixel, its edge reflected; whose gradient adds in one order on a GPU too."""
    x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
    return torch.cat([x[:, :, :, 1:2], x, x[:, :, :, -2:-1]], dim=3)


class GlobalMaxPool(nn.Module):
    """The largest value of each channel; of equals the first has the gradient.

    What torch's AdaptiveMaxPool2d(1) gives, but for its gradient on a GPU, which adds in no fixed order.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        return nn.functional.max_pool2d(x, x.shape[2:])


class SqueezeExcite(nn.Module):
    """Channels weighted by what two small layers make of their averages (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        rounded = int(channels / reduction + SE_MULTIPLE / 2) // SE_MULTIPLE * SE_MULTIPLE
        squeezed = max(SE_MULTIPLE, rounded)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        weights: Tensor = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        weights = self.gate(self.fc2(self.act(self.fc1(weights))))
        return x * weights


class ChannelAttention(nn.Module):
    """Channels weighted by a short convolution over their averages: ECA (Wang et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int((math.log2(channels) + 1) / 2)  # their equation 12 with gamma 2, b 1; then odd, 3 at least
        size = max(3, size + 1 - size % 2)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        averages = x.mean((2, 3)).unsqueeze(1)  # (B, 1, C)
        weights: Tensor = self.gate(self.conv(averages))
        return x * weights.transpose(1, 2).unsqueeze(3)  # (B, C, 1, 1)


def attention(spec: ResNetSpec, channels: int) -> nn.Module | None:
    """What stands at the end of a residual branch."""
    if spec.attention == "se":
        return SqueezeExcite(channels, spec.se_reduction)
    return ChannelAttention(channels) if spec.attention == "eca" else None


class DropPath(nn.Module):
    """Stochastic depth: in training, a picture's branch is left out with `probability` (Huang et al. 2016)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, what is kept divided by the probability of keeping it."""
        if not self.training:
            return x
        kept = 1 - self.probability
        return x * torch.empty((len(x), 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(kept).div_(kept)

    def extra_repr(self) -> str:
        return f"{self.probability:.3g}"


def drop_path(probability: float) -> DropPath | None:
    return DropPath(probability) if probability else None
