"""Muon (Jordan et al. 2024): momentum whose matrix is made orthogonal before it is used, for filters.

A convolution's gradient, written as a matrix of (filters, channels * height * width), is usually dominated by a
few directions; its nearest orthogonal matrix moves all directions alike, which reaches an accuracy in fewer steps.
"""

from collections.abc import Iterable
from typing import Any

import torch

from resnets.training.sgd import sgd_step

# Jordan's coefficients: five rounds take singular values of 0.001 to 1 near 1 (within 0.7 to 1.2)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Muon for groups with `orthogonal: True`, SGD with Nesterov momentum for the others, at one rate.

    A filter's update has the size that an orthogonal matrix has, sqrt(min(rows, columns)), times
    sqrt(max(1, rows / columns)). Decay is apart from the gradient: at every step a weight loses rate * decay of
    itself (Loshchilov and Hutter 2019). Where norms are fixed, a filter bank (rows, ...) is instead scaled to the
    norm sqrt(rows) before every update: behind a batch norm its size says nothing, and the rate is then near the
    angle in radians by which it turns (Jordan 2024, for airbench94).
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], *, lr: float, momentum: float, fixed_norm: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False})
        self.fixed_norm = fixed_norm

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update from the gradients; parameters without one stay as they are."""
        for group in self.param_groups:
            members = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not members:
                continue
            if group["orthogonal"] and self.fixed_norm:
                for member in members:
                    member.mul_(len(member) ** 0.5 / member.norm().clamp(min=1e-7))
            elif group["weight_decay"]:
                torch._foreach_mul_(members, 1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                gradients = [parameter.grad for parameter in members]
                updates = orthogonal(self._with_momentum(members, gradients, group["momentum"]))
                torch._foreach_add_(members, updates, alpha=-group["lr"])
            else:
                sgd_step(
                    members,
                    self.state,
                    lr=group["lr"],
                    momentum=group["momentum"],
                    weight_decay=0.0,
                    dampening=0.0,
                    nesterov=True,
                    maximize=False,
                    fused=True,
                )

    def _with_momentum(
        self, members: list[torch.Tensor], gradients: list[torch.Tensor], momentum: float
    ) -> list[torch.Tensor]:
        """Gradients with Nesterov momentum, as torch.optim.SGD has it."""
        for parameter in members:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in members]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        return list(torch._foreach_add(gradients, buffers, alpha=momentum))


def orthogonal(updates: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each tensor (rows, ...) as the nearest orthogonal matrix, near enough; those of one shape together."""
    result: list[torch.Tensor] = list(updates)
    by_shape: dict[torch.Size, list[int]] = {}
    for number, update in enumerate(updates):
        by_shape.setdefault(update.shape, []).append(number)
    for shape, numbers in by_shape.items():
        matrices = newton_schulz(torch.stack([updates[number].reshape(shape[0], -1) for number in numbers]))
        matrices *= max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
        for number, matrix in zip(numbers, matrices, strict=True):
            result[number] = matrix.reshape(shape)
    return result


def newton_schulz(matrices: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) to matrices of the same singular vectors and singular values near 1.

    The quintic iteration a X + b (X X') X + c (X X')^2 X of Jordan et al. 2024. Every step multiplies X by a
    polynomial of X X', so that the steps are taken with these small square matrices, of the shorter side, alone.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram: torch.Tensor = x @ x.mT  # (n, side, side)
    product = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    for last in (*[False] * (ROUNDS - 1), True):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor @ product
        if not last:
            gram = factor @ gram @ factor
    result: torch.Tensor = product @ x
    return result.mT if tall else result
