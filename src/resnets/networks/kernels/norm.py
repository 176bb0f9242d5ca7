"""act(norm(x) + residual) as one step of autograd, where `norm.cpp` can run it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from resnets.base.errors import UsageError
from resnets.networks.kernels.build import Kernels, load

DTYPES = (torch.float32, torch.bfloat16)

_on = False


def use(on: bool) -> None:
    """Whether `norm_act` takes the fused kernels where they can run, in this process from here on."""
    global _on
    _on = on


@contextmanager
def using(on: bool) -> Iterator[None]:
    """`use` for the length of a block."""
    before = _on
    use(on)
    try:
        yield
    finally:
        use(before)


def available(device: torch.device | str, dtype: torch.dtype) -> tuple[bool, str]:
    """Whether the fused kernels run for this device and activations of this type, and if not why.

    Builds them if need be, which takes some seconds once.
    """
    if torch.device(device).type != "cpu":
        return False, f"the fused kernels are for the processor, not for {torch.device(device).type}"
    if dtype not in DTYPES:
        return (
            False,
            f"the fused kernels are for float32 and bfloat16, not for {str(dtype).removeprefix('torch.')}",
        )
    loaded = load()
    return (False, loaded) if isinstance(loaded, str) else (True, "")


def state() -> str:
    """What computes norms on the processor now: `fused (AVX512-BF16, g++ 12.2.0)`, or `torch` and the reason."""
    if not _on:
        return "torch"
    loaded = load()
    return f"torch ({loaded})" if isinstance(loaded, str) else f"fused ({loaded.name})"


def norm_act(
    norm: nn.Module, x: Tensor, *, residual: Tensor | None = None, act: nn.Module | None = None
) -> Tensor:
    """act(norm(x) + residual); residual and act may be missing; (B, C, H, W) throughout.

    Modules with hooks are called as they are, so that the hooks see what they expect.
    """
    kernels = load() if _on and _fits(norm, x) else ""
    if isinstance(kernels, str) or not isinstance(norm, nn.BatchNorm2d):
        x = norm(x)
    else:
        adds = residual is None or _same_layout(residual, x)
        acts = adds and type(act) is nn.ReLU and _unhooked(act)
        x = _run(kernels, norm, x, residual if adds else None, acts)
        residual, act = None if adds else residual, None if acts else act
    if residual is not None:
        x = x + residual
    return x if act is None else act(x)


def _fits(norm: nn.Module, x: Tensor) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and type(x) in (Tensor, nn.Parameter)
        and x.device.type == "cpu"
        and x.dtype in DTYPES
        and x.dim() == 4
        and x.shape[1] == norm.num_features
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > x.shape[1]  # torch's own step says what is wrong with a single value a channel
        and all(_single(values) for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
        and norm.affine
        and _unhooked(norm)
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
    )


def _single(values: Tensor | None) -> bool:
    return values is None or (
        values.dtype == torch.float32 and values.device.type == "cpu" and values.is_contiguous()
    )


def _same_layout(residual: Tensor, x: Tensor) -> bool:
    return (
        type(residual) in (Tensor, nn.Parameter)
        and residual.dtype == x.dtype
        and residual.device == x.device
        and residual.shape == x.shape
        and residual.is_contiguous(memory_format=torch.channels_last)
    )


def _unhooked(module: nn.Module) -> bool:
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or modules._has_any_global_hook()  # type: ignore[no-untyped-call]
    )


def _run(kernels: Kernels, norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    batch_statistics = norm.training or norm.running_mean is None
    momentum = 0.0 if norm.momentum is None else norm.momentum
    running_mean, running_var = norm.running_mean, norm.running_var
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:  # a plain average over all batches
            momentum = 1.0 / float(norm.num_batches_tracked)
    if norm.training and not norm.track_running_stats:
        running_mean = running_var = None
    options = (kernels, running_mean, running_var, batch_statistics, momentum, norm.eps, relu)
    y: Tensor = _NormAct.apply(x, residual, norm.weight, norm.bias, options)  # type: ignore[no-untyped-call]
    return y


class _NormAct(torch.autograd.Function):
    """Saved for the gradient: x, the statistics, the scale, and one bit an element where there is a ReLU."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, options: tuple[Any, ...]
    ) -> Tensor:
        kernels, running_mean, running_var, batch_statistics, momentum, eps, relu = options
        channels = x.shape[1]
        y = torch.empty_like(x)
        mean, invstd = torch.empty(2, channels)
        mask = None
        if relu and any(ctx.needs_input_grad):
            mask = torch.empty(-(-x.numel() // kernels.lanes) * kernels.lanes // 8, dtype=torch.uint8)
        kernels.forward(
            x.dtype == torch.bfloat16,
            torch.get_num_threads(),
            x.numel(),
            channels,
            batch_statistics,
            relu,
            momentum,
            eps,
            *map(_address, (x, residual, y, mask, weight, bias, running_mean, running_var, mean, invstd)),
        )
        ctx.save_for_backward(x, mask, weight, mean, invstd)
        ctx.kernels, ctx.batch_statistics = kernels, batch_statistics
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UsageError(
                "the fused kernels have no second derivatives (create_graph=True); "
                "run the forward pass under resnets.networks.kernels.using(False)"
            )
        x, mask, weight, mean, invstd = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        to_x = torch.empty_like(x)
        to_residual = None
        if ctx.needs_input_grad[1]:
            to_residual = grad if mask is None else torch.empty_like(x)
        to_weight, to_bias = torch.empty(2, x.shape[1])
        ctx.kernels.backward(
            x.dtype == torch.bfloat16,
            torch.get_num_threads(),
            x.numel(),
            x.shape[1],
            ctx.batch_statistics,
            *map(_address, (grad, x, mask, weight, mean, invstd, to_x)),
            None if mask is None else _address(to_residual),
            *map(_address, (to_weight, to_bias)),
        )
        return to_x, to_residual, to_weight, to_bias, None


def _address(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()
