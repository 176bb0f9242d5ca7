"""Numbers and pictures on their way to the device."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch


def sent(
    values: torch.Tensor | npt.NDArray[np.generic], device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """On the device; to an NVIDIA GPU from pinned memory, so that the program need not wait until it has come."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if dtype is not None and tensor.device.type == "cpu":
        tensor = tensor.to(dtype)
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=True)


def numbers(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """Numbers as a tensor of the type of `like`, where it is, without waiting for its device."""
    return sent(torch.tensor(values, device="cpu"), like.device, like.dtype)
