"""What learns: a network with its optimizer and its average, and a step of all three."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from resnets.evaluation.predict import full_fp32
from resnets.training.checkpoint import optimizer_tensors, restore_optimizer
from resnets.training.compiling import compiled
from resnets.training.distill import Teacher, Teaching
from resnets.training.optimizers import optimizer_of
from resnets.training.plan import Plan
from resnets.training.step import Average, HeadLoss, Part, StepRecord, Summing, train_step
from resnets.training.thaw import hold
from resnets.weights.modelfile import Model


class Learner:
    """A network on its device, trained in place by a plan's optimizer, precision and loss.

    losses: how each head counts. summing: what adds up the gradients of several processes.
    """

    def __init__(
        self,
        plan: Plan,
        network: nn.Module,
        *,
        device: torch.device,
        losses: Mapping[str, HeadLoss] | None = None,
        summing: Summing | None = None,
        teacher: Model | None = None,
    ) -> None:
        config = plan.config
        self.plan, self.network, self.device, self.losses, self.summing = plan, network, device, losses, summing
        hold(network, plan.thaw, step=plan.steps)  # the optimizer has all that is ever trained
        self.optimizer = optimizer_of(network, plan)
        self.average = Average(network, config.ema) if config.ema else None
        self.called = compiled(network) if config.compile else network  # one way or the other
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
        self.teaching = None if teacher is None else self._taught_by(teacher)

    @property
    def shipped(self) -> nn.Module:
        """The network that is validated, saved and shipped: the average where there is one."""
        return self.network if self.average is None else self.average.network

    def step(
        self,
        parts: Sequence[Callable[[], Part]],
        *,
        pictures: int,
        learning_rate: float,
        number: int,
        scheduled: int,
    ) -> StepRecord:
        """One update from all `parts` (see `train_step`).

        number: of the step in the run, 0 is the first. scheduled: where in the schedule it is.
        """
        config = self.plan.config
        hold(self.network, self.plan.thaw, step=scheduled)
        with full_fp32(self.device) if config.precision == "fp32" else contextlib.nullcontext():
            record = train_step(
                self.called,
                parts,
                self.optimizer,
                pictures=pictures,
                learning_rate=learning_rate,
                label_smoothing=config.label_smoothing or 0.0,
                clip=config.clip,
                autocast=self.autocast,
                heads=self.losses,
                summing=self.summing,
                teaching=self.teaching,
            )
        if self.average is not None:
            self.average.update(number)
        return record

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """All that a step changes."""
        tensors = {"network": self.network.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        return tensors if self.average is None else tensors | {"average": self.average.network.state_dict()}

    def restore(self, tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Take up what `tensors` gave."""
        self.network.load_state_dict(tensors["network"])
        restore_optimizer(self.optimizer, tensors["optimizer"])
        if self.average is not None:
            self.average.network.load_state_dict(tensors["average"])

    def _taught_by(self, model: Model) -> Teaching:
        teacher = Teacher(
            model,
            heads=self.plan.heads,
            preprocess=self.plan.preprocess,
            device=self.device,
            autocast=self.autocast,
        )
        return Teaching(teacher=teacher, weight=self.plan.config.teacher_weight)
