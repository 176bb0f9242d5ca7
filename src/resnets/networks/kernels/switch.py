"""Whether the fused kernels are wanted, whether they can run, and what to say of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from resnets.base.errors import UsageError
from resnets.networks.kernels.build import Kernels, load

DTYPES = (torch.float32, torch.bfloat16)

_on = False


def use(on: bool) -> None:
    """Whether fused kernels are taken where they can run, in this process from here on."""
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
    """Whose kernels run on the processor now: `fused (AVX512-BF16, g++ 12.2.0, source 5e1c0a)`, or `torch`.

    With `AMX` in it, convolutions and their gradients are computed by this package too.
    """
    if not _on:
        return "torch"
    loaded = load()
    return f"torch ({loaded})" if isinstance(loaded, str) else f"fused ({loaded.name})"


def kernels_for(x: Tensor) -> Kernels | None:
    """The kernels, if they are wanted and can take x (B, C, H, W)."""
    return kernels_wanted() if fits(x) else None


def kernels_wanted() -> Kernels | None:
    """The kernels, if they are on, there, and torch is not writing down what it runs."""
    if not _on or torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return None
    loaded = load()
    return None if isinstance(loaded, str) else loaded


def fits(x: Tensor) -> bool:
    """A plain tensor of the processor's, in channels-last memory."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.device.type == "cpu"
        and x.dtype in DTYPES
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def unhooked(module: nn.Module) -> bool:
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or modules._has_any_global_hook()  # type: ignore[no-untyped-call]
    )


def address(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


def refuse_second_derivatives() -> None:
    """To be called in a backward pass. Raises UsageError where its own steps are to be differentiated."""
    if torch.is_grad_enabled():
        raise UsageError(
            "the fused kernels have no second derivatives (create_graph=True); "
            "run the forward pass under resnets.networks.kernels.using(False)"
        )
