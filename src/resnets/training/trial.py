"""Steps on a copy of the network before a run begins: how fast they are, and what a learning rate does."""

import copy
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count

import torch
from torch import nn

from resnets.data.batches import Batch, Pictures, training_batches
from resnets.training.learner import Learner
from resnets.training.plan import Plan
from resnets.training.prepare import prepare
from resnets.training.step import cuts


def trial(
    plan: Plan, network: nn.Module, pictures: Pictures, rates: Iterable[float]
) -> Iterator[tuple[int, float]]:
    """Train a copy by the plan, one step a rate: (pictures, loss) of each step.

    The run's own streams are not touched: the order is that of epoch 0, 1, … with seed 0.
    """
    config, device = plan.config, torch.device(plan.config.device or "cpu")
    tried = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    learner = Learner(plan, tried, device=device)
    augment = plan.augment.left_for_device(packed=pictures.whole)
    for (epoch, step, batch), rate in zip(_batches(plan, pictures), rates, strict=False):
        ready = partial(
            prepare,
            batch,
            augment=augment,
            preprocess=plan.preprocess,
            device=device,
            seed=0,
            epoch=epoch,
            step=step,
        )
        record = learner.step(
            [partial(ready, cut) for cut in cuts(len(batch.rows), config.accumulate or 1)],
            pictures=len(batch.rows),
            learning_rate=rate,
            number=step,
            scheduled=plan.steps,
        )
        yield len(batch.rows), record.loss.item()


def _batches(plan: Plan, pictures: Pictures) -> Iterator[tuple[int, int, Batch]]:
    """(epoch, step, batch) without end; batches of one picture, which batch norm cannot train on, are left out."""
    steps = count()
    for epoch in count():
        with training_batches(
            pictures,
            augment=plan.augment,
            batch=plan.config.batch or 1,
            seed=0,
            epoch=epoch,
            threads=plan.config.threads or 1,
        ) as batches:
            for batch in batches:
                if len(batch.rows) > 1:
                    yield epoch, next(steps), batch
