"""act(norm(x) + residual) as one step of autograd, where `norm.cpp` can run it."""

from typing import Any

import torch
from torch import Tensor, nn

from resnets.networks.kernels.build import Kernels
from resnets.networks.kernels.convolution import FoldedConv
from resnets.networks.kernels.switch import address, fits, kernels_for, refuse_second_derivatives, unhooked

NONE, RELU, HARDSWISH = range(3)  # as `norm.cpp` numbers them
ACTS: dict[type[nn.Module], int] = {nn.ReLU: RELU, nn.Hardswish: HARDSWISH}


def norm_act(
    norm: nn.Module, x: Tensor, *, residual: Tensor | None = None, act: nn.Module | None = None
) -> Tensor:
    """act(norm(x) + residual); residual and act may be missing; (B, C, H, W) throughout.

    Modules with hooks are called as they are, so that the hooks see what they expect. A norm whose place its
    convolution has taken does all of it (see `networks.fold`).
    """
    if isinstance(norm, FoldedConv):
        y: Tensor = norm(x, residual=residual, act=act)
        return y
    kernels = kernels_for(x)
    if kernels is None or type(norm) is not nn.BatchNorm2d or not (unhooked(norm) and _suits(norm, x)):
        x = norm(x)
    else:
        adds = residual is None or (fits(residual) and residual.dtype == x.dtype and residual.shape == x.shape)
        number = _act_number(act, residual) if adds else NONE
        x = _run(kernels, norm, x, residual if adds else None, number)
        residual, act = None if adds else residual, act if number == NONE else None
    if residual is not None:
        x = x + residual
    return x if act is None else act(x)


def _act_number(act: nn.Module | None, residual: Tensor | None) -> int:
    """What the kernel computes too; hardswish's gradient would need the residual, which is not kept."""
    number = ACTS.get(type(act), NONE) if act is not None and unhooked(act) else NONE
    return NONE if number == HARDSWISH and residual is not None else number


def _suits(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Float32 parameters for as many channels; torch's own step says what is wrong with one value a channel."""
    values = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return (
        norm.affine
        and x.shape[1] == norm.num_features
        and x.numel() > x.shape[1]
        and all(
            value is None or (value.dtype == torch.float32 and value.device == x.device and value.is_contiguous())
            for value in values
        )
    )


def _run(kernels: Kernels, norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, act: int) -> Tensor:
    """As nn.BatchNorm2d.forward chooses its statistics, and what it does with them."""
    updates = norm.training and norm.track_running_stats
    momentum = norm.momentum or 0.0
    if updates and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:  # a plain average over all batches
            momentum = 1.0 / float(norm.num_batches_tracked)
    known = norm.running_mean is not None
    running = (norm.running_mean, norm.running_var) if updates or not norm.training else (None, None)
    options = (kernels, running, norm.training or not known, momentum, norm.eps, act)
    y: Tensor = _NormAct.apply(x, residual, norm.weight, norm.bias, options)  # type: ignore[no-untyped-call]
    return y


class _NormAct(torch.autograd.Function):
    """Saved for the gradient: x, the statistics, the norm's parameters, and one bit an element for a ReLU."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, options: tuple[Any, ...]
    ) -> Tensor:
        kernels, running, batch_statistics, momentum, eps, act = options
        y, mask = torch.empty_like(x), None
        # mean, and 1 / standard deviation
        statistics = torch.empty(2, x.shape[1], dtype=torch.float32, device="cpu")
        if act == RELU and any(ctx.needs_input_grad):
            mask = torch.empty(-(-x.numel() // kernels.step) * kernels.step // 8, dtype=torch.uint8, device="cpu")
        kernels.norm_forward(
            x.dtype == torch.bfloat16,
            torch.get_num_threads(),
            x.numel(),
            x.shape[1],
            batch_statistics,
            act,
            momentum,
            eps,
            *map(address, (x, residual, y, mask, weight, bias, *running, statistics)),
        )
        ctx.save_for_backward(x, mask, weight, bias, statistics)
        ctx.kernels, ctx.batch_statistics, ctx.act = kernels, batch_statistics, act
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        x, mask, weight, bias, statistics = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        to_x, to_weight, to_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        to_residual, written = None, None
        if ctx.needs_input_grad[1]:
            to_residual = grad if mask is None else torch.empty_like(x)
            written = None if mask is None else to_residual
        ctx.kernels.norm_backward(
            x.dtype == torch.bfloat16,
            torch.get_num_threads(),
            x.numel(),
            x.shape[1],
            ctx.batch_statistics,
            ctx.act,
            *map(address, (grad, x, mask, weight, bias, statistics, to_x, written, to_weight, to_bias)),
        )
        return to_x, to_residual, to_weight, to_bias, None
