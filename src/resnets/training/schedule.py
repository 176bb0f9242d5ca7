"""The learning rate as a pure function of the step."""

import math
from typing import Literal

Schedule = Literal["cosine", "step", "one-cycle", "constant"]


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
    (Loshchilov and Hutter 2017); `step` is multiplied by `decay_factor` after each share in `decay_at` of the
    run (He et al. 2015: halfway and at three quarters on CIFAR-10); `one-cycle` rises over the first
    third at least and falls linearly to 0 (after Smith 2018); `constant` stays.
    """
    if schedule == "one-cycle":
        warmup_steps = max(warmup_steps, round(steps * 0.3))
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if schedule == "one-cycle":
        return peak * max(0.0, 1 - progress)
    if schedule == "step":
        passed = sum(step >= round(at * steps) for at in decay_at)
        return float(peak * decay_factor**passed)
    return peak
