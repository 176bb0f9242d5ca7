"""How long a run will take: the rate of its own steps, measured on a copy, and the epochs that a time allows."""

import time
from itertools import repeat

from torch import nn

from resnets.base.errors import UsageError
from resnets.data.batches import Pictures
from resnets.training.plan import Plan
from resnets.training.schedule import size_at
from resnets.training.trial import trial

MEASURED_SECONDS = 2.0
WARMING_STEPS = 2  # the first steps choose kernels and fill the allocator
VALIDATING = 0.4  # of a training picture's time goes into a validation picture: forward alone
SHARE = 0.92  # of the time that is planned for: rates fall when the machine has other work


def measured_rate(plan: Plan, network: nn.Module, pictures: Pictures) -> float:
    """Training pictures a second, with reading and augmentation, from about two seconds of steps on a copy."""
    warming = min(WARMING_STEPS, plan.steps_per_epoch - 1)
    started, seen = time.perf_counter(), 0
    for step, (count, _) in enumerate(trial(plan, network, pictures, repeat(0.0))):
        seen += count
        if step + 1 == warming:
            started, seen = time.perf_counter(), 0
        elif step >= warming and time.perf_counter() - started > MEASURED_SECONDS:
            break
    return seen / max(1e-9, time.perf_counter() - started)


def epochs_within(seconds: float, plan: Plan, rate: float) -> int:
    """The epochs that end within so many seconds, final measurement included, at `rate` whole pictures a second.

    Where pictures grow, a smaller one is taken to cost its share of the pixels.

    Raises UsageError where not even one does.
    """
    pictures = plan.pictures
    epoch = (pictures["train"] * _pixels(plan) + VALIDATING * pictures["val"]) / rate
    end = (pictures["val"] + pictures["test"]) / rate  # in fp32, about as slow as training in bf16
    epochs = int((seconds * SHARE - end) / epoch)
    if epochs < 1:
        raise UsageError(
            f"{seconds / 60:.1f} minutes are left and an epoch takes about {(epoch + end) / 60:.1f} here; "
            "give more --minutes, or a smaller --size or --model"
        )
    return epochs


def _pixels(plan: Plan) -> float:
    """The mean share of a whole picture's pixels that a step works on."""
    grow, (height, width) = plan.config.grow or 1.0, plan.preprocess.size
    if grow == 1:
        return 1.0
    sizes = [size_at(step, size=(height, width), grow=grow, steps=100) for step in range(100)]
    return sum(high * wide for high, wide in sizes) / (100 * height * width)
