"""Max pooling as one step of autograd, where `fused.cpp` can run it."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from resnets.networks.kernels.switch import address, kernels_for, refuse_second_derivatives

PLACES = 256  # of a window, which one byte tells apart


def max_pool(pool: nn.Module, x: Tensor) -> Tensor:
    """pool(x), which is any module; a plain nn.MaxPool2d is run fused. (B, C, H, W) -> (B, C, H', W')."""
    kernels = kernels_for(pool, x)
    windows = _windows(pool, x) if kernels is not None and type(pool) is nn.MaxPool2d else None
    y: Tensor = pool(x) if windows is None else _MaxPool.apply(x, kernels, windows)  # type: ignore[no-untyped-call]
    return y


def _windows(pool: nn.MaxPool2d, x: Tensor) -> "ctypes.Array[ctypes.c_int64] | None":
    """The struct `Windows` of `fused.cpp`; None for what the kernel does not do, or torch refuses with a reason."""
    size, stride, padding, dilation = (
        _pair(v) for v in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    )
    sides = [_side(*axis, pool.ceil_mode) for axis in zip(x.shape[2:], size, stride, padding, strict=True)]
    if pool.return_indices or dilation != (1, 1) or size[0] * size[1] > PLACES or min(sides) < 1:
        return None
    if 2 * padding[0] > size[0] or 2 * padding[1] > size[1]:
        return None
    return (ctypes.c_int64 * 12)(*x.shape, *sides, *size, *stride, *padding)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _side(side: int, size: int, stride: int, padding: int, ceil: bool) -> int:
    """How many windows there are along a side: with `ceil`, those too that begin in it and end beyond."""
    steps = side + 2 * padding - size + (stride - 1 if ceil else 0)
    windows = steps // stride + 1
    return windows - 1 if ceil and (windows - 1) * stride >= side + padding else windows


class _MaxPool(torch.autograd.Function):
    """Saved for the gradient: a byte for each output, that says where in its window the largest value stood."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Any, windows: "ctypes.Array[ctypes.c_int64]") -> Tensor:
        shape = (x.shape[0], x.shape[1], windows[4], windows[5])
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        places = torch.empty(y.numel(), dtype=torch.uint8) if ctx.needs_input_grad[0] else None
        is_bf16, threads = x.dtype == torch.bfloat16, torch.get_num_threads()
        kernels.pool_forward(is_bf16, threads, windows, *map(address, (x, y, places)))
        ctx.save_for_backward(places)
        ctx.kernels, ctx.windows, ctx.dtype = kernels, windows, x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        (places,) = ctx.saved_tensors
        grad = grad.to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        to_x = torch.empty(tuple(ctx.windows[:4]), dtype=ctx.dtype, memory_format=torch.channels_last)
        is_bf16, threads = ctx.dtype == torch.bfloat16, torch.get_num_threads()
        ctx.kernels.pool_backward(is_bf16, threads, ctx.windows, *map(address, (grad, places, to_x)))
        return to_x, None, None
