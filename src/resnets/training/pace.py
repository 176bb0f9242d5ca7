"""How long a run will take: the rate of its own steps, measured on a copy, and the epochs that a time allows."""

import copy
import time
from functools import partial

import torch
from torch import nn

from resnets.base.errors import UsageError
from resnets.data.batches import Pictures, training_batches
from resnets.training.plan import Plan
from resnets.training.prepare import prepare
from resnets.training.step import cuts, make_optimizer, train_step

MEASURED_SECONDS = 2.0
WARMING_STEPS = 2  # the first steps choose kernels and fill the allocator
VALIDATING = 0.4  # of a training picture's time goes into a validation picture: forward alone
SHARE = 0.92  # of the time that is planned for: rates fall when the machine has other work


def measured_rate(plan: Plan, network: nn.Module, pictures: Pictures) -> float:
    """Training pictures a second, with reading and augmentation, from about two seconds of steps on a copy."""
    config, device = plan.config, torch.device(plan.config.device or "cpu")
    trial = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = make_optimizer(
        trial, config.optimizer or "sgd", momentum=config.momentum, weight_decay=config.weight_decay or 0.0
    )
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
    augment = plan.augment.left_for_device(packed=pictures.whole)
    warming = min(WARMING_STEPS, plan.steps_per_epoch - 1)
    started, seen = time.perf_counter(), 0
    with training_batches(
        pictures, augment=plan.augment, batch=config.batch or 1, seed=0, epoch=0, threads=config.threads or 1
    ) as batches:
        for step, batch in enumerate(batches):
            if len(batch.rows) < 2:
                continue
            ready = partial(
                prepare,
                batch,
                augment=augment,
                preprocess=plan.preprocess,
                device=device,
                seed=0,
                epoch=0,
                step=step,
            )
            train_step(
                trial,
                [partial(ready, cut) for cut in cuts(len(batch.rows), config.accumulate)],
                optimizer,
                pictures=len(batch.rows),
                learning_rate=0.0,
                label_smoothing=config.label_smoothing or 0.0,
                clip=config.clip,
                autocast=autocast,
            ).loss.item()
            seen += len(batch.rows)
            if step + 1 == warming:
                started, seen = time.perf_counter(), 0
            if step >= warming and time.perf_counter() - started > MEASURED_SECONDS:
                break
    return seen / max(1e-9, time.perf_counter() - started)


def epochs_within(seconds: float, plan: Plan, rate: float) -> int:
    """The epochs that end within so many seconds, final measurement included, at `rate` pictures a second.

    Raises UsageError where not even one does.
    """
    pictures = plan.pictures
    epoch = (pictures["train"] + VALIDATING * pictures["val"]) / rate
    end = (pictures["val"] + pictures["test"]) / rate  # in fp32, about as slow as training in bf16
    epochs = int((seconds * SHARE - end) / epoch)
    if epochs < 1:
        raise UsageError(
            f"{seconds / 60:.1f} minutes are left and an epoch takes about {(epoch + end) / 60:.1f} here; "
            "give more --minutes, or a smaller --size or --model"
        )
    return epochs
