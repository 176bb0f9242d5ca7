"""Steps on a copy of the network before a run begins: how fast they are, and what a learning rate does."""

import copy
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count

import torch
from torch import nn

from resnets.data.batches import Batch, Pictures, training_batches
from resnets.training.optimizers import optimizer_of
from resnets.training.plan import Plan
from resnets.training.prepare import prepare
from resnets.training.step import cuts, train_step
from resnets.training.thaw import hold


def trial(
    plan: Plan, network: nn.Module, pictures: Pictures, rates: Iterable[float]
) -> Iterator[tuple[int, float]]:
    """Train a copy by the plan, one step a rate: (pictures, loss) of each step.

    The run's own streams are not touched: the order is that of epoch 0, 1, … with seed 0.
    """
    config, device = plan.config, torch.device(plan.config.device or "cpu")
    tried = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    hold(tried, plan.thaw, step=plan.steps)
    optimizer = optimizer_of(tried, plan)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
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
        record = train_step(
            tried,
            [partial(ready, cut) for cut in cuts(len(batch.rows), config.accumulate or 1)],
            optimizer,
            pictures=len(batch.rows),
            learning_rate=rate,
            label_smoothing=config.label_smoothing or 0.0,
            clip=config.clip,
            autocast=autocast,
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
