"""The learning rate, and the size of growing pictures, as pure functions of the step."""

import math
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "linear", "step", "one-cycle", "constant"]

GROWN = 0.7  # share of a run after which growing pictures have their full size


@dataclass(frozen=True, kw_only=True)
class Course:
    """How the steps of a run go through its planned schedule: one by one, or in longer strides to end in time.

    planned: steps of the schedule. steps: of the run. From step `start` on, where the schedule stood at its step
    `at`, the steps that are left go through all of the schedule that is left.
    """

    planned: int
    steps: int
    start: int = 0
    at: int = 0

    def planned_step(self, step: int) -> int:
        """Where in the schedule the run is at `step` (0 is the first); from `start` on."""
        return self.at + (step - self.start) * (self.planned - self.at) // max(1, self.steps - self.start)

    def ending_at(self, steps: int, *, step: int) -> "Course":
        """The rest of the schedule, from `step` on, in a run of so many steps in all."""
        return Course(planned=self.planned, steps=steps, start=step, at=self.planned_step(step))


def rate(
    step: int,
    *,
    schedule: Schedule,
    peak: float,
    steps: int,
    warmup_steps: int,
    decay_at: tuple[float, ...] = (0.5, 0.75),
    decay_factor: float = 0.1,
) -> float:
    """The learning rate of `step` (0 is the first) in a run of `steps`.

    All schedules rise linearly over `warmup_steps`, the first step included, to `peak`. Then: `cosine` falls to 0
    (Loshchilov and Hutter 2017); `linear` falls to 0 in a straight line; `step` is multiplied by
    `decay_factor` after each share in `decay_at` of the run (He et al. 2015: halfway and at three quarters on
    CIFAR-10); `one-cycle` rises over the first third at least and falls linearly to 0 (after Smith 2018);
    `constant` stays.
    """
    if schedule == "one-cycle":
        warmup_steps = max(warmup_steps, round(steps * 0.3))
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if schedule in ("linear", "one-cycle"):
        return peak * max(0.0, 1 - progress)
    if schedule == "step":
        passed = sum(step >= round(at * steps) for at in decay_at)
        return float(peak * decay_factor**passed)
    return peak


def size_at(step: int, *, size: tuple[int, int], grow: float, steps: int) -> tuple[int, int]:
    """(height, width) in pixels of the pictures of `step` where they grow from the share `grow` of `size`.

    The sides grow linearly over the first seven tenths of the run, in steps of 8 pixels (of 32 from 128 on), so
    that a network strides over whole pixels and few shapes occur; the rest of the run is at the full size
    (progressive resizing, after Howard 2018). Steps of 4 pixels are no faster: 28 pixels, whose maps have 7 a side
    at the end, cost as much as 32.
    """
    share = min(1.0, grow + (1 - grow) * step / max(1.0, GROWN * steps))
    height, width = (_multiple(share * side, 32 if min(size) >= 128 else 8, most=side) for side in size)
    return height, width


def _multiple(side: float, of: int, *, most: int) -> int:
    """The nearest multiple, at least one and at most the full side."""
    return min(most, max(of, round(side / of) * of)) if side < most else most
