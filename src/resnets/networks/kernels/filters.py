"""A convolution whose filters' gradient is computed by `filters.cpp`, on a processor with bf16 matrix units."""

from typing import Any

import torch
from torch import Tensor, nn

from resnets.networks.kernels.build import LONG, Kernels
from resnets.networks.kernels.switch import address, kernels_for, refuse_second_derivatives

LANES = 16  # channels that a matrix unit takes at a time
NARROW_MOST = 64  # channels times columns of filters for channels that do not fill a unit
TILES_MOST = 32  # of 16 places: a row of places that are no picture any more


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor | None:
    """conv(x) under bf16 autocast, to be differentiated; None where another must compute it.

    (B, C, H, W) -> (B, O, H/s, W/s). The values and the gradient of x are torch's; the filters' gradient is summed
    in float32 and stays so, where torch rounds it to bfloat16.
    """
    kernels = kernels_for(x)
    if kernels is None or not kernels.matrix_units or not (_autocasts() and _suits(conv, x)):
        return None
    x = x.to(torch.bfloat16)
    y: Tensor = _Convolve.apply(x, conv.weight, (kernels, *conv.stride, *conv.padding))  # type: ignore[no-untyped-call]
    return y


def _autocasts() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _suits(conv: nn.Conv2d, x: Tensor) -> bool:
    """Square strides of 1 or 2, no dilation, no groups, no bias, and float32 filters that are trained."""
    channels, (rows, columns), weight = conv.in_channels, conv.kernel_size, conv.weight
    return (
        torch.is_grad_enabled()
        and type(weight) is nn.Parameter
        and weight.requires_grad
        and weight.dtype == torch.float32
        and weight.is_contiguous(memory_format=torch.channels_last)
        and conv.bias is None
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.stride in ((1, 1), (2, 2))
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and conv.padding[0] == conv.padding[1]
        and conv.out_channels % LANES == 0
        and (channels % LANES == 0 or channels * columns <= NARROW_MOST)
        and x.shape[1] == channels
        and min(x.shape[2] + 2 * conv.padding[0] - rows, x.shape[3] + 2 * conv.padding[1] - columns) >= 0
    )


class _Convolve(torch.autograd.Function):
    """Saved for the gradient: x and the filters, both in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, options: tuple[Any, ...]) -> Tensor:
        kernels, *stride, down, across = options
        rounded = weight.to(torch.bfloat16)
        ctx.save_for_backward(x, rounded)
        ctx.kernels, ctx.stride, ctx.padding = kernels, stride, [down, across]
        return torch.conv2d(x, rounded, None, stride, [down, across])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        x, rounded = ctx.saved_tensors
        grad = grad.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        to_x, to_weight = None, None
        if ctx.needs_input_grad[0]:
            to_x, _, _ = torch.ops.aten.convolution_backward(
                grad, x, rounded, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, [True, False, False]
            )
        if ctx.needs_input_grad[1]:
            to_weight = filter_gradient(ctx.kernels, x, grad, rounded.shape, ctx.stride[0], ctx.padding[0])
        return to_x, to_weight, None


def filter_gradient(
    kernels: Kernels, x: Tensor, grad: Tensor, shape: torch.Size, stride: int, padding: int
) -> Tensor:
    """float32 (O, C, k, k), channels last, for filters over x (B, C, H, W); grad: (B, O, H/s, W/s). Both bf16."""
    out, channels, rows, columns = shape
    to_weight = torch.empty(tuple(shape), memory_format=torch.channels_last)
    (pictures, _, *places), (_, _, *out_places) = x.shape, grad.shape
    if (rows, columns, stride, padding) == (1, 1, 1, 0):  # places are alike, wherever they are
        pictures, *places = _rearranged(x.numel() // channels, (pictures, *places))
        out_places = places
    numbers = (pictures, *places, channels, out, rows, columns, stride, padding, *out_places)
    kernels.filter_gradient(
        torch.get_num_threads(), (LONG * len(numbers))(*numbers), *map(address, (x, grad, to_weight))
    )
    return to_weight


def _rearranged(places: int, as_they_are: tuple[int, ...]) -> tuple[int, ...]:
    """An even number of pictures of one row whose places fill whole tiles, if there is one."""
    for tiles in range(TILES_MOST, 0, -1):
        if places % (2 * LANES * tiles) == 0:
            return places // (LANES * tiles), 1, LANES * tiles
    return as_they_are
