"""SGD over filters in the order in which they lie in memory."""

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

Memory = MutableMapping[Tensor, dict[str, Any]]  # an optimizer's state


class SGD(torch.optim.SGD):
    """torch's fused SGD with the same bits.

    Torch copies channels-last gradients into another order first, which takes three times as long as the step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients; parameters without one stay as they are. Gives what the closure gives."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            sgd_step(
                group["params"],
                self.state,
                fused=group["fused"],
                maximize=group["maximize"],
                grad_scale=getattr(self, "grad_scale", None),  # of a GradScaler
                found_inf=getattr(self, "found_inf", None),
                **{name: group[name] for name in ("weight_decay", "momentum", "lr", "dampening", "nesterov")},
            )
        return loss


def sgd_step(parameters: Iterable[Tensor], memory: Memory, *, momentum: float, **options: Any) -> None:
    """A step of SGD for those that have a gradient; the momentum is kept in memory. options: of torch's `sgd`."""
    moved = [_as_they_lie(one, memory, momentum != 0) for one in parameters if one.grad is not None]
    sgd(
        [parameter for parameter, *_ in moved],
        [gradient for _, gradient, *_ in moved],
        [buffer for _, _, *buffers in moved for buffer in buffers],
        momentum=momentum,
        **options,
    )


def _as_they_lie(parameter: Tensor, memory: Memory, keeps_momentum: bool) -> list[Tensor]:
    """A parameter, its gradient and its momentum, if any, as they lie: (O, C, k, k) or (O, k, k, C)."""
    assert parameter.grad is not None
    all_of_it = [parameter, _like(parameter, parameter.grad)]
    if keeps_momentum:
        buffer = memory[parameter].get("momentum_buffer")
        buffer = torch.zeros_like(parameter) if buffer is None else _like(parameter, buffer)
        memory[parameter]["momentum_buffer"] = buffer
        all_of_it.append(buffer)
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        return [one.permute(0, 2, 3, 1) for one in all_of_it]
    return all_of_it


def _like(parameter: Tensor, values: Tensor) -> Tensor:
    """The values laid out as the parameter is: torch would pair what lies in the same place."""
    return values if values.stride() == parameter.stride() else torch.empty_like(parameter).copy_(values)
