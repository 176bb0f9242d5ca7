"""Max pooling as one step of autograd that keeps a byte a value, where `pool.cpp` can run it."""

from typing import Any

import torch
from torch import Tensor, nn

from resnets.networks.kernels.build import LONG
from resnets.networks.kernels.switch import address, kernels_for, refuse_second_derivatives

SIDE_MOST = 16  # of a window, whose places a byte numbers


def max_pool(pool: nn.MaxPool2d, x: Tensor) -> Tensor | None:
    """pool(x), (B, C, H, W) -> (B, C, H/s, W/s); None where torch must compute it.

    Where several values are the largest the gradient goes to the first, as in torch.
    """
    kernels = kernels_for(x)
    side, stride, padding = pool.kernel_size, pool.stride, pool.padding
    if kernels is None or not (isinstance(side, int) and isinstance(stride, int) and isinstance(padding, int)):
        return None
    height, width = (pooled(size, side, stride, padding, pool.ceil_mode) for size in x.shape[2:])
    plain = pool.dilation == 1 and not pool.return_indices and 2 * padding <= side <= SIDE_MOST
    if not plain or min(height, width) < 1:
        return None
    numbers = (len(x), *x.shape[2:], x.shape[1], side, stride, padding, height, width)
    y: Tensor = _MaxPool.apply(x, (kernels, (LONG * len(numbers))(*numbers), height, width))  # type: ignore[no-untyped-call]
    return y


def pooled(size: int, side: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """How many windows there are along `size` places; none may begin in the padding behind them."""
    room = size + 2 * padding - side
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    return count - 1 if ceil_mode and (count - 1) * stride >= size + padding else count


class _MaxPool(torch.autograd.Function):
    """Saved for the gradient: which place of each window was the largest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: tuple[Any, ...]) -> Tensor:
        kernels, numbers, height, width = options
        shape = (*x.shape[:2], height, width)
        y = torch.empty(shape, dtype=x.dtype, device="cpu", memory_format=torch.channels_last)
        which = None
        if ctx.needs_input_grad[0]:
            which = torch.empty(shape, dtype=torch.uint8, device="cpu", memory_format=torch.channels_last)
        is_bf16 = x.dtype == torch.bfloat16
        kernels.pool_forward(is_bf16, torch.get_num_threads(), numbers, *map(address, (x, y, which)))
        ctx.save_for_backward(which)
        ctx.kernels, ctx.numbers, ctx.shape, ctx.dtype = kernels, numbers, x.shape, x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        (which,) = ctx.saved_tensors
        grad = grad.to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        to_x = torch.empty(ctx.shape, dtype=ctx.dtype, device="cpu", memory_format=torch.channels_last)
        is_bf16 = ctx.dtype == torch.bfloat16
        ctx.kernels.pool_backward(
            is_bf16, torch.get_num_threads(), ctx.numbers, *map(address, (grad, which, to_x))
        )
        return to_x, None
