"""How long a run will take: the rate of its own steps, measured on a copy, and the epochs that a time allows.

Where the epochs turn out to be slower than was planned, what is left of the run is shortened.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

from torch import nn

from resnets.base.errors import UsageError
from resnets.data.batches import Pictures
from resnets.training.distributed import Group
from resnets.training.plan import Plan
from resnets.training.schedule import Course, size_at
from resnets.training.trial import trial

MEASURED_SECONDS = 2.0
WARMING_STEPS = 2  # the first steps choose kernels and fill the allocator
VALIDATING = 0.4  # of a training picture's time goes into a validation picture: forward alone
SHARE = 0.92  # of the time that is planned for: rates fall when the machine has other work
TELLING = 0.1  # of the time must have been measured in epochs before they are believed


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """An epoch that is done: its seconds, with validation and checkpoint, and its work (see `work`)."""

    seconds: float
    work: float


class Pace:
    """The clock of a run that goes through its epochs.

    worked: seconds before this process took the run up.
    """

    def __init__(self, plan: Plan, *, worked: float = 0.0) -> None:
        self.plan = plan
        self.since = time.monotonic()  # the end of the last epoch
        self.began = self.since - worked
        self.epochs: list[Epoch] = []  # that this process has done

    def worked(self) -> float:
        """Seconds of the run so far, stops left out."""
        return time.monotonic() - self.began

    def end_epoch(self, course: Course, *, step: int, whole: bool) -> tuple[Course, float] | None:
        """A shorter course where the run has a time to end in and would not (see `late`).

        step: the run's. whole: all of the epoch is this process's work, so that its time tells.
        """
        now = time.monotonic()
        if whole:
            first = course.planned_step(step - self.plan.steps_per_epoch)
            cost = work(self.plan, start=first, stop=course.planned_step(step))
            self.epochs.append(Epoch(seconds=now - self.since, work=cost))
        self.since = now
        return late(self.plan, course, step=step, spent=now - self.began, epochs=self.epochs)


def measured_rate(plan: Plan, network: nn.Module, pictures: Pictures, group: Group) -> float:
    """Training pictures a second of all processes, with reading, augmentation and what they tell each other.

    From about two seconds of steps on a copy, of which the first process's clock decides how many.
    """
    warming = min(WARMING_STEPS, plan.steps_per_epoch - 1)
    started, seen = time.perf_counter(), 0
    for step, (count, _) in enumerate(trial(plan, network, pictures, repeat(0.0), group=group)):
        seen += count
        if step + 1 == warming:
            started, seen = time.perf_counter(), 0
        elif step >= warming and group.lead(partial(_over, started)):
            break
    return seen / max(1e-9, time.perf_counter() - started)


def _over(started: float) -> bool:
    return time.perf_counter() - started > MEASURED_SECONDS


def epochs_within(seconds: float, plan: Plan, rate: float) -> int:
    """The epochs that end within so many seconds, final measurement included, at `rate` whole pictures a second.

    Raises UsageError where not even one does.
    """
    epoch, end = work(plan) / rate, _last_measurement(plan) / rate
    epochs = int((seconds * SHARE - end) / epoch)
    if epochs < 1:
        raise UsageError(
            f"{seconds / 60:.1f} minutes are left and an epoch takes about {(epoch + end) / 60:.1f} here; "
            "give more --minutes, or a smaller --size or --model"
        )
    return epochs


def late(
    plan: Plan, course: Course, *, step: int, spent: float, epochs: Sequence[Epoch]
) -> tuple[Course, float] | None:
    """The course that ends in time, and by how many seconds the present one would end late; None: it would not.

    step: the run's, at the end of an epoch. spent: seconds of the run so far. epochs: those that this process has
    done. What is left is foreseen from as many of the last ones: far ahead an average counts, near the end the
    pace of now. Epochs are left out whole, and one always remains, so that the schedule comes to its end.
    """
    left = (course.steps - step) // plan.steps_per_epoch
    if plan.seconds is None or left < 2 or sum(each.seconds for each in epochs) < TELLING * plan.seconds:
        return None
    recent = epochs[-left:]
    rate = sum(each.work for each in recent) / sum(each.seconds for each in recent)
    epoch = work(plan, start=course.planned_step(step)) / rate
    end = _last_measurement(plan) / rate
    lateness = spent + left * epoch + end - plan.seconds
    if lateness <= 0:
        return None
    fitting = max(1, int(((plan.seconds - spent) * SHARE - end) / epoch))
    return course.ending_at(step + fitting * plan.steps_per_epoch, step=step), lateness


def work(plan: Plan, *, start: int = 0, stop: int | None = None) -> float:
    """What an epoch costs, validation included, in whole training pictures.

    The mean over the steps from `start` to `stop` of the schedule: where pictures grow, a smaller one is taken to
    cost its share of the pixels.
    """
    share = _pixels(plan, start, plan.steps if stop is None else stop)
    return plan.pictures["train"] * share + VALIDATING * plan.pictures["val"]


def _last_measurement(plan: Plan) -> int:
    """What the figures at the end cost, in training pictures: in fp32, about as slow as training in bf16."""
    return plan.pictures["val"] + plan.pictures["test"]


def _pixels(plan: Plan, start: int, stop: int) -> float:
    """The mean share of a whole picture's pixels that the steps from `start` to `stop` of the schedule work on."""
    grow, (height, width) = plan.config.grow or 1.0, plan.preprocess.size
    if grow == 1:
        return 1.0
    steps = [start + (stop - start) * part // 100 for part in range(100)]
    sizes = [size_at(step, size=(height, width), grow=grow, steps=plan.steps) for step in steps]
    return sum(high * wide for high, wide in sizes) / (100 * height * width)
