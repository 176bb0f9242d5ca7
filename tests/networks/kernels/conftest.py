"""For tests of what the kernels compute."""

from collections.abc import Iterator

import pytest
import torch

from resnets.networks import kernels


@pytest.fixture
def fused() -> Iterator[None]:
    """The kernels are on; skipped where there are none."""
    can, reason = kernels.available("cpu", torch.float32)
    if not can:
        pytest.skip(f"no fused kernels here: {reason}")
    with kernels.using(True):
        yield
