"""The optimizers, and which parameters go at what rate and with what decay."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from resnets.training.muon import Muon
from resnets.training.plan import Plan
from resnets.training.thaw import rate_shares

Optimizer = Literal["sgd", "adam", "adamw", "muon"]

REST_SHARE = 10.0  # of the rate of filters that keep their norm: that is a turn, and no other parameter's measure


class SGD(torch.optim.SGD):
    """torch's fused SGD with the same bits, over filters in the order in which they lie in memory.

    Torch copies channels-last gradients into another order first, which takes three times as long as the step.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update from the gradients; parameters without one stay as they are."""
        for group in self.param_groups:
            moved = [self._as_they_lie(one, group) for one in group["params"] if one.grad is not None]
            sgd(
                [parameter for parameter, *_ in moved],
                [gradient for _, gradient, *_ in moved],
                [buffer for _, _, *buffers in moved for buffer in buffers],
                fused=group["fused"],
                maximize=group["maximize"],
                **{name: group[name] for name in ("weight_decay", "momentum", "lr", "dampening", "nesterov")},
            )

    def _as_they_lie(self, parameter: nn.Parameter, group: dict[str, Any]) -> list[Tensor]:
        """A parameter, its gradient and its momentum, if any, as they lie: (O, C, k, k) or (O, k, k, C)."""
        gradient = parameter.grad
        assert gradient is not None
        if gradient.stride() != parameter.stride():  # torch would pair what lies in the same place
            gradient = torch.empty_like(parameter).copy_(gradient)
        all_of_it = [parameter, gradient]
        if group["momentum"]:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            all_of_it.append(self.state[parameter]["momentum_buffer"])
        if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
            return [one.permute(0, 2, 3, 1) for one in all_of_it]
        return all_of_it


def optimizer_of(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimizer for what of the network takes gradients now."""
    config = plan.config
    return make_optimizer(
        network,
        config.optimizer or "sgd",
        momentum=config.momentum or 0.0,
        weight_decay=config.weight_decay or 0.0,
        shares=rate_shares(network, plan.thaw),
        fixed_norm=config.fixed_norm or False,
    )


def make_optimizer(
    network: nn.Module,
    kind: Optimizer,
    *,
    momentum: float,
    weight_decay: float,
    shares: Mapping[nn.Parameter, float] | None = None,
    fixed_norm: bool = False,
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, Adam, AdamW or Muon; parameters of one dimension (norms, biases) have no decay.

    Muon moves and decays the filters of convolutions; the rest, the classifier too, goes by SGD at the same rate
    without decay, or at REST_SHARE times it where filters keep their norm. shares: of the learning rate, where it
    differs by parameter.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    by_share: dict[float, list[nn.Parameter]] = {}
    for parameter in trained:
        by_share.setdefault((shares or {}).get(parameter, 1.0), []).append(parameter)
    groups = [
        {**group, "share": share}
        for share, parameters in by_share.items()
        for group in _groups(parameters, kind, weight_decay)
        if group["params"]
    ]
    if kind == "muon":
        for group in groups if fixed_norm else ():
            group["share"] *= 1.0 if group.get("orthogonal") else REST_SHARE
        return Muon(groups, lr=0.0, momentum=momentum, fixed_norm=fixed_norm)
    if kind == "sgd":
        return SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)
    adam = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return adam(groups, lr=0.0, betas=(momentum, 0.999), fused=True)


def _groups(parameters: list[nn.Parameter], kind: Optimizer, weight_decay: float) -> list[dict[str, Any]]:
    """What is decayed, and what is not."""
    decayed = [one for one in parameters if (one.ndim == 4 if kind == "muon" else one.ndim > 1)]
    others = [one for one in parameters if (one.ndim != 4 if kind == "muon" else one.ndim <= 1)]
    first: dict[str, Any] = {"params": decayed, "weight_decay": weight_decay}
    return [first | ({"orthogonal": True} if kind == "muon" else {}), {"params": others, "weight_decay": 0.0}]
