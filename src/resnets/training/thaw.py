"""What of a network is trained, from which step on and how fast: for runs that start from weights.

A network's parts, in its order: `stem`, `stage1`, `stage2`, …, `head`.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.networks.resnet import ResNet

THAWED = 0.5  # share of a run after which a gradual one trains every part

Freeze = Literal["none", "body", "gradual"]


@dataclass(frozen=True, kw_only=True)
class Thaw:
    """freeze: nothing, all but the head for the whole run, or all but the head at first, a part more at a time.

    layer_decay: a part's rate as a share of the next one's. frozen_norms: batch norms stay as they were loaded.
    steps: of the whole run.
    """

    freeze: Freeze = "none"
    layer_decay: float = 1.0
    frozen_norms: bool = False
    steps: int = 1

    @property
    def everything(self) -> bool:
        return self.freeze == "none" and self.layer_decay == 1 and not self.frozen_norms

    def first_trained(self, parts: int, step: int) -> int:
        """The number of the first part that is trained at `step`; all after it are too."""
        if self.freeze == "none":
            return 0
        if self.freeze == "body":
            return parts - 1
        return max(0, parts - 1 - int(step / (THAWED * self.steps) * (parts - 1)))

    def begins(self, parts: int, number: int) -> int | None:
        """The first step at which part `number` is trained; None: it never is."""
        return next((step for step in range(self.steps) if self.first_trained(parts, step) <= number), None)

    def shares(self, parts: int) -> list[float]:
        """Each part's share of the learning rate."""
        return [self.layer_decay ** (parts - 1 - number) for number in range(parts)]

    def said(self, rate: float, stages: int) -> str:
        """What is trained, from when and at what peak rate, in one line."""
        if self.everything:
            return f"all of the network is trained, at {rate:g}"
        names = ["stem", *(f"stage{number}" for number in range(1, stages + 1)), "head"]
        words = []
        for number, (name, share) in reversed([*enumerate(zip(names, self.shares(len(names)), strict=True))]):
            begins = self.begins(len(names), number)
            if begins is not None:
                words.append(f"{name} {rate * share:.3g}" + (f" from step {begins:,}" if begins else ""))
        norms = "; batch norms stay as loaded" if self.frozen_norms else ""
        return f"trained at: {', '.join(words)}{norms}"


def parts_of(network: nn.Module) -> list[list[nn.Module]]:
    """The modules of each part of a ResNet; every parameter is in exactly one."""
    assert isinstance(network, ResNet), "make_plan refuses what is not"
    stages: list[list[nn.Module | None]] = [[stage] for stage in network.stages()]
    stages[-1].append(network.norm)
    head = [network.hidden, network.fc, network.heads]
    parts = [[network.conv1, network.bn1, network.maxpool], *stages, head]
    return [[module for module in part if module is not None] for part in parts]


def hold(network: nn.Module, thaw: Thaw, *, step: int) -> None:
    """For a network in training mode: what is frozen at `step` takes no gradient and runs as in evaluation."""
    if thaw.everything:
        return
    if thaw.freeze != "none":
        parts = parts_of(network)
        first = thaw.first_trained(len(parts), step)
        for number, part in enumerate(parts):
            for module in part:
                module.requires_grad_(number >= first)
                module.train(number >= first)
    if thaw.frozen_norms:
        for module in network.modules():
            if isinstance(module, _BatchNorm):  # also a synchronised one
                module.requires_grad_(False)
                module.eval()


def rate_shares(network: nn.Module, thaw: Thaw) -> dict[nn.Parameter, float]:
    """Every parameter's share of the learning rate; empty: the whole of it for all."""
    if thaw.layer_decay == 1:
        return {}
    parts = parts_of(network)
    return {
        parameter: share
        for part, share in zip(parts, thaw.shares(len(parts)), strict=True)
        for module in part
        for parameter in module.parameters()
    }
