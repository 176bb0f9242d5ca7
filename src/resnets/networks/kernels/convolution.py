"""A convolution with its norm inside, the residual's sum and the activation behind it, in one pass; for inference.

On x86 processors oneDNN computes the three at once, by the operators that torch's own compiler emits. They are no
public interface, so they are tried on a small convolution first; where they are missing, or give anything else,
PyTorch's steps run one after the other.
"""

import functools
import platform

import torch
from torch import Tensor, nn

DTYPES = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # how far apart the trial's values, of 1 or so, may be
MACHINES = ("x86_64", "AMD64")
NAMES: dict[type[nn.Module] | None, str] = {  # of activations in oneDNN
    None: "none",
    nn.ReLU: "relu",
    nn.Hardswish: "hardswish",
}


class FoldedConv(nn.Module):
    """act(conv(x) + residual), of which residual and act may be missing; stands where the norm stood."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, *, residual: Tensor | None = None, act: nn.Module | None = None) -> Tensor:
        """(B, C, H, W) -> (B, O, H/s, W/s), with a stride s; residual: (B, O, H/s, W/s)."""
        name = NAMES.get(None if act is None else type(act))
        adds = residual is None or (self.conv.groups == 1 and name in ("none", "relu"))  # as far as oneDNN goes
        if x.device.type == "cpu" and adds and name is not None and fuses(x.dtype):
            return fused(x, self.conv, residual, act=name)
        x = self.conv(x)
        x = x if residual is None else x.add_(residual)  # nobody else has seen x
        return x if act is None else act(x)


def fused(x: Tensor, conv: nn.Conv2d, residual: Tensor | None, *, act: str) -> Tensor:
    """act(conv(x) [+ residual]) in one call of oneDNN; act: one of NAMES."""
    of_conv = (conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
    operator = torch.ops.mkldnn._convolution_pointwise
    if residual is None:
        y: Tensor = operator(x, *of_conv, act, [], "")
    else:
        y = operator.binary(x, residual, *of_conv, "add", 1.0, None if act == "none" else act, [], "")
    return y


@functools.cache
def fuses(dtype: torch.dtype) -> bool:
    """Whether `fused` is there for this type and gives what PyTorch's steps give; tried once a process."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype not in DTYPES or platform.machine() not in MACHINES or not there:
        return False
    with torch.inference_mode(), torch.random.fork_rng(devices=[]), torch.device("cpu"):  # the run's draws stay
        conv = nn.Conv2d(16, 16, 3, padding=1).to(dtype)
        x, residual = torch.randn(2, 2, 16, 6, 6).to(dtype)
        x, residual = (each.contiguous(memory_format=torch.channels_last) for each in (x, residual))
        try:
            apart = [
                (fused(x, conv, None, act="none") - conv(x)).abs().max(),
                (fused(x, conv, None, act="hardswish") - nn.functional.hardswish(conv(x))).abs().max(),
                (fused(x, conv, residual, act="relu") - (conv(x) + residual).relu()).abs().max(),
            ]
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False
    return max(map(float, apart)) < DTYPES[dtype]
