"""Convolutions and their gradients on bf16 matrix units: `convolve.cpp` and `filters.cpp`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resnets.networks.kernels.build import LONG, Kernels
from resnets.networks.kernels.switch import address, kernels_for, refuse_second_derivatives

LANES = 16  # channels that a matrix unit takes at a time
NARROW_MOST = 64  # channels times columns of filters for channels that do not fill a unit
TILES_MOST = 32  # of 16 places that a row has, where places are alike and rows can be chosen


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor | None:
    """conv(x) under bf16 autocast, to be differentiated; None where another must compute it.

    (B, C, H, W) -> (B, O, H/s, W/s). Values and the gradient of x are summed in float32 and rounded to bfloat16,
    as torch's are; the filters' gradient stays float32, where torch rounds it too.
    """
    kernels = _kernels(conv, x)
    if kernels is None:
        return None
    options = (kernels, conv.stride[0], conv.padding[0], False)
    y: Tensor = _Convolve.apply(x.to(torch.bfloat16), conv.weight, options)  # type: ignore[no-untyped-call]
    return y


def convolve_and_pass(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """(conv(x), x) for what goes on with both, as a residual block does; None where another must compute it.

    The gradients of x that come by the two ways are added as that of the convolution is stored.
    """
    kernels = _kernels(conv, x) if x.dtype == torch.bfloat16 and x.requires_grad else None
    if kernels is None:
        return None
    options = (kernels, conv.stride[0], conv.padding[0], True)
    both: tuple[Tensor, Tensor] = _Convolve.apply(x, conv.weight, options)  # type: ignore[no-untyped-call]
    return both


def _kernels(conv: nn.Conv2d, x: Tensor) -> Kernels | None:
    kernels = kernels_for(x)
    can = kernels is not None and kernels.matrix_units and _autocasts() and _suits(conv, x)
    return kernels if can else None


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
        and weight.shape == (conv.out_channels, channels, rows, columns)
        and weight.is_contiguous(memory_format=torch.channels_last)
        and conv.bias is None
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.stride in ((1, 1), (2, 2))
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and 0 <= conv.padding[0] == conv.padding[1] < min(rows, columns)
        and conv.out_channels % LANES == 0
        and (channels % LANES == 0 or channels * columns <= NARROW_MOST)
        and x.shape[1] == channels
        and min(x.shape[2] + 2 * conv.padding[0] - rows, x.shape[3] + 2 * conv.padding[1] - columns) >= 0
    )


class _Convolve(torch.autograd.Function):
    """Saved for the gradient: x and the filters, both in bfloat16; options: the last, whether x is passed on."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, options: tuple[Kernels, int, int, bool]
    ) -> Tensor | tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        rounded = weight.to(torch.bfloat16)
        ctx.save_for_backward(x, rounded)
        ctx.options = options
        kernels, stride, padding, passes = options
        sides = zip(x.shape[2:], weight.shape[2:], strict=True)
        places = [(side + 2 * padding - filters) // stride + 1 for side, filters in sides]
        shape = len(x), len(weight), *places
        y = torch.empty(shape, dtype=x.dtype, device="cpu", memory_format=torch.channels_last)
        kernels.convolve(*_about(x, y, weight.shape, stride, padding), *map(address, (x, rounded, y)))
        return (y, x) if passes else y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, also: Tensor | None = None) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        if grad is None:  # the convolution's values went nowhere
            return also, None, None
        x, rounded = ctx.saved_tensors
        kernels, stride, padding, _ = ctx.options
        grad = grad.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        about = _about(x, grad, rounded.shape, stride, padding)
        to_x, to_weight = None, None
        if ctx.needs_input_grad[0] and x.shape[1] % LANES == 0:
            to_x = torch.empty_like(x, memory_format=torch.channels_last)
            if also is not None:
                also = also.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
            kernels.input_gradient(*about, *map(address, (grad, rounded, also, to_x)))
        elif ctx.needs_input_grad[0]:
            same = (rounded, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False])
            to_x, _, _ = torch.ops.aten.convolution_backward(grad, x, *same)
            to_x = to_x if also is None else to_x + also
        if ctx.needs_input_grad[1]:
            to_weight = torch.empty_like(rounded, dtype=torch.float32)
            kernels.filter_gradient(*about, *map(address, (x, grad, to_weight)))
        return to_x, to_weight, None


def _about(x: Tensor, y: Tensor, filters: Sequence[int], stride: int, padding: int) -> tuple[int, Any]:
    """The number of threads, and the convolution as `Shape` of tiles.h has it."""
    (pictures, channels, *places), (_, out, *out_places), (_, _, rows, columns) = x.shape, y.shape, filters
    if (rows, columns, stride, padding) == (1, 1, 1, 0):  # places are alike, wherever they are
        pictures, *places = _rearranged(x.numel() // channels, (pictures, *places))
        out_places = places
    numbers = (pictures, *places, channels, out, rows, columns, stride, padding, *out_places)
    return torch.get_num_threads(), (LONG * len(numbers))(*numbers)


def _rearranged(places: int, as_they_are: tuple[int, ...]) -> tuple[int, ...]:
    """An even number of pictures of one row whose places fill whole tiles, if there is one."""
    for tiles in range(TILES_MOST, 0, -1):
        if places % (2 * LANES * tiles) == 0:
            return places // (LANES * tiles), 1, LANES * tiles
    return as_they_are
