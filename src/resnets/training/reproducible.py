"""Which kernels a run takes, and what `--reproducible` does without."""

import contextlib
import os
from collections.abc import Iterator

import torch

from resnets.networks import kernels
from resnets.training.config import TrainConfig


@contextlib.contextmanager
def kernels_of(config: TrainConfig) -> Iterator[None]:
    """This package's kernels inside the block, but torch's where the network is compiled by torch and with
    `--reproducible`; there, on a GPU, those that add in one order.
    """
    own = not (config.compile or config.reproducible)
    with kernels.using(own), deterministic(config.reproducible and torch.cuda.is_available()):
        yield


@contextlib.contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """An operation that adds in no fixed order is an error inside the block."""
    if not on:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
