"""The optimizers, and which parameters go at what rate and with what decay."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from resnets.training.muon import Muon
from resnets.training.plan import Plan
from resnets.training.sgd import SGD
from resnets.training.thaw import rate_shares

Optimizer = Literal["sgd", "adam", "adamw", "muon"]

REST_SHARE = 10.0  # of the rate of filters that keep their norm: that is a turn, and no other parameter's measure


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
