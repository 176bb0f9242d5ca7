"""What share of a machine's matrix rate a run reaches: how much of the time goes into anything but products."""

import time
from collections import Counter
from functools import cache

import torch

from resnets.base.errors import is_out_of_memory
from resnets.networks.spec import ResNetSpec
from resnets.networks.summary import summary
from resnets.training.rates import Stopwatch, product

PASSES = 3  # forward, and the gradients of inputs and of weights, each with as many multiply-adds
SETTLED_SECONDS = 10.0  # of training, before the machine's rate is measured: a short run is not held up
LEAST = 3  # products that are timed


@cache
def step_operations(spec: ResNetSpec, size: tuple[int, int]) -> int:
    """Additions and multiplications that a training step has for each picture of (height, width)."""
    return 2 * PASSES * summary(spec, size).multiply_adds


class Efficiency:
    """The share of the rate of one large matrix product (`rates.product`) that the steps reach.

    spec: of the network; None where it cannot be said, such as for a module of the user's own.
    """

    def __init__(self, spec: ResNetSpec | None, *, device: torch.device, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec, device, dtype
        self.started = time.monotonic()
        self.matrix_rate: float | None = None  # operations a second
        self.pictures: Counter[tuple[int, int]] = Counter()  # by size, since `begin`

    def begin(self) -> None:
        """An epoch begins, or the rest of one."""
        self.pictures.clear()

    def add(self, pictures: int, size: tuple[int, int]) -> None:
        """Count a step of so many pictures of (height, width)."""
        self.pictures[size] += pictures

    def measure(self) -> None:
        """Measure the machine's rate, once, when the run has gone on for a while; takes a fraction of a second."""
        waits = time.monotonic() - self.started < SETTLED_SECONDS
        if self.spec is not None and self.matrix_rate is None and not waits:
            watch = Stopwatch(device=self.device, seconds=0.0, least=LEAST)
            try:
                work, operations = product(self.device, self.dtype)
                self.matrix_rate = (
                    operations / min(watch.rounds(work))[0]
                )  # others may disturb it, none speeds it up
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self.spec = None  # the run goes on without the share

    def share(self, seconds: float) -> float | None:
        """Of what was counted since `begin` and done in so many seconds; None before there is a rate."""
        if self.spec is None or self.matrix_rate is None:
            return None
        operations = sum(count * step_operations(self.spec, size) for size, count in self.pictures.items())
        return operations / seconds / self.matrix_rate
