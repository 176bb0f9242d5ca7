"""Steps on a copy of the network before a run begins: how fast they are, and what a learning rate does."""

import copy
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count

from torch import nn

from resnets.data.batches import Batch, Pictures, training_batches
from resnets.training.distributed import Exchange, Group
from resnets.training.learner import Learner
from resnets.training.plan import Plan
from resnets.training.prepare import prepare
from resnets.training.step import cuts


def trial(
    plan: Plan, network: nn.Module, pictures: Pictures, rates: Iterable[float], *, group: Group | None = None
) -> Iterator[tuple[int, float]]:
    """Train a copy by the plan, one step a rate: (pictures, loss) of each step, of all processes of the group.

    The run's own streams are not touched: the order is that of epoch 0, 1, … with seed 0. All processes must take
    as many steps.
    """
    group = group or Group()
    config, device = plan.config, group.device(plan.config.device or "cpu")
    tried = group.ready(copy.deepcopy(network), device, sync_norm=config.sync_norm).train()
    learner = Learner(plan, tried, device=device, summing=None if group.alone else Exchange(tried))
    augment = plan.augment.left_for_device(packed=pictures.whole)
    for (epoch, step, batch, total), rate in zip(_batches(plan, pictures, group), rates, strict=False):
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
        parts = cuts(len(batch.rows), config.accumulate or 1) if len(batch.rows) > 1 else []
        record = learner.step(
            [partial(ready, cut) for cut in parts],
            pictures=total,
            learning_rate=rate,
            number=step,
            scheduled=plan.steps,
        )
        yield total, record.loss.item()


def _batches(plan: Plan, pictures: Pictures, group: Group) -> Iterator[tuple[int, int, Batch, int]]:
    """(epoch, step, batch, pictures of all processes) without end.

    Batches of one picture, which batch norm cannot train on, are left out, in all processes alike.
    """
    steps = count()
    for epoch in count():
        with training_batches(
            pictures,
            augment=plan.augment,
            batch=plan.config.batch or 1,
            seed=0,
            epoch=epoch,
            part=None if group.alone else group.part,
            threads=plan.config.threads or 1,
        ) as batches:
            for batch in batches:
                usable = len(batch.rows) > 1
                total, idle = group.total(len(batch.rows) if usable else 0, not usable)
                if total and not (plan.config.sync_norm and idle):
                    yield epoch, next(steps), batch, total
