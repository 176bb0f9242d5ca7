"""The network compiled by torch, where that was asked for.

It is never chosen: on a processor the kernels of this package are faster, and cost seconds once and not a minute a
run; on GPUs it has not been measured.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from resnets.base.errors import UsageError

KERNELS = "torch.compile"  # in place of the fused kernels' name


def check_compiler(device: str) -> None:
    """Compile something small. Raises UsageError where that fails."""
    try:
        with _quiet():
            torch.compile(lambda x: (x + 1).sum())(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler, or the lack of one, makes of it
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UsageError(f"--compile: torch cannot compile for {device}: {reason[:200]}; leave it out") from error


def compiled(network: nn.Module) -> nn.Module:
    """A module that runs the network's steps as torch compiles them at its first call; it has the same tensors.

    Every size of batch and picture is compiled on its own: that is faster, and depends on nothing before.
    """
    return cast(nn.Module, torch.compile(network, dynamic=False))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's pages on what a compiler said."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
