"""A network's outputs on pictures: the seam between what runs a network and what is done with its logits.

Letters of the shapes: B pictures, n of them in all, H×W pixels, C channels, K classes.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from resnets.base.errors import NotFinite, UsageError
from resnets.data.augment.batch import normalise
from resnets.data.batches import Pictures, evaluation_batches
from resnets.networks.backbone import body
from resnets.networks.fold import foldable, folded
from resnets.networks.unet import UNet
from resnets.preprocess import Pixels, Preprocess
from resnets.weights.modelfile import Model

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
Logits = dict[str, npt.NDArray[np.float32]]
Progress = Callable[[int, int], None]  # pictures done, pictures in all

BATCH = 64  # pictures; more is no faster on a processor
SMALL_BATCH, SMALL_SIDE = 256, 64  # for pictures of up to so many pixels a side


class Backend(Protocol):
    """What runs a network, whatever with: prepared pictures in, logits a head out."""

    def logits(self, pictures: Pixels) -> Logits:
        """uint8 (B, H, W, C), resized and cropped but not normalised -> head name -> float32 (B, K)."""


class TorchBackend:
    """A network run by torch.

    A network of this package that no hook watches is copied as it is now, with its batch norms folded into its
    convolutions; bf16 then has weights of that type. Any other is in evaluation mode while it runs and as it was
    afterwards, is copied only where it must move to another device, and has bf16 by autocast. fp32 is full fp32
    on a GPU too (no TF32). Raises NotFinite for a folded network with weights that are NaN or infinite.
    """

    def __init__(self, model: Model, *, device: str = "cpu", precision: Precision = "fp32") -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if isinstance(model.network, UNet):
            raise UsageError("a U-Net names the class of each pixel, not of a picture: call the network itself")
        self.device = torch.device(device)
        self.precision = precision
        self.heads = tuple(model.heads)
        self.preprocess = model.preprocess
        fold, bf16 = foldable(model.network), precision == "bf16"
        self.dtype = torch.bfloat16 if fold and bf16 else torch.float32  # of the pictures
        self.autocast = bf16 and not fold
        self.network = folded(model.network, dtype=self.dtype) if fold else model.network
        if fold:
            refuse_damaged(model.network)
            refuse_damaged(self.network)  # a negative variance becomes NaN where it is folded
        first = next(iter(self.network.parameters()), None)
        if first is not None and first.device != torch.empty(0, device=self.device).device:  # "cuda" is "cuda:0"
            self.network = copy.deepcopy(self.network).to(self.device)

    def logits(self, pictures: Pixels) -> Logits:
        """uint8 (B, H, W, C) -> head name -> float32 (B, K)."""
        images = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2)  # (B, C, H, W), channels last
        images = normalise(images, mean=self.preprocess.mean, std=self.preprocess.std, dtype=self.dtype)
        bf16 = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast)
        with torch.inference_mode(), evaluating(self.network), full_fp32(self.device), bf16:
            outputs = self.network(images)
        if not isinstance(outputs, Mapping):
            outputs = {self.heads[0] if self.heads else "features": outputs}
        return {name: value.float().cpu().numpy() for name, value in outputs.items()}


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """rows: (n,) as asked for, without those that failed. logits: head -> (n, K). failed: row -> reason."""

    rows: npt.NDArray[np.int64]
    logits: Logits
    failed: dict[int, str]


def classify(
    backend: Backend,
    pictures: Pictures,
    *,
    batch: int = BATCH,
    threads: int = 1,
    progress: Progress | None = None,
) -> Outputs:
    """The logits of all pictures, in their order; `threads` decode them.

    Raises NotFinite where an output is NaN or infinite.
    """
    rows: list[npt.NDArray[np.int64]] = []
    logits: list[Logits] = []
    failed: dict[int, str] = {}
    done = 0
    with evaluation_batches(pictures, batch=batch, threads=threads) as batches:
        for one in batches:
            failed.update(one.failed)
            done += len(one.rows) + len(one.failed)
            if len(one.rows):
                found = backend.logits(one.images.permute(0, 2, 3, 1).numpy())
                refuse_not_finite(found)
                rows.append(one.rows)
                logits.append(found)
            if progress is not None:
                progress(done, len(pictures.rows))
    names = logits[0] if logits else {}
    return Outputs(
        rows=np.concatenate(rows) if rows else np.empty(0, dtype=np.int64),
        logits={name: np.concatenate([found[name] for found in logits]) for name in names},
        failed=failed,
    )


def refuse_not_finite(logits: Logits) -> None:
    """Raises NotFinite where an output is NaN or infinite."""
    for name, values in logits.items():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise NotFinite(
                f"the network gives NaN or infinity for {bad} of {len(values)} pictures (head {name}): "
                "its weights are damaged or it needs --precision fp32"
            )


def refuse_damaged(network: nn.Module) -> None:
    """Raises NotFinite for weights that are NaN or infinite: oneDNN's ReLU makes a zero of NaN and hides it."""
    for name, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise NotFinite(f"the network would give NaN or infinity: its weights are damaged, at {name}")


def without_heads(model: Model) -> Model:
    """The model of a network of this package, to give its pooled features as the output `features`."""
    return replace(model, network=body(model.network), heads={})


def batch_for(preprocess: Preprocess) -> int:
    """How many pictures to run at a time, by their size."""
    return SMALL_BATCH if max(preprocess.size) <= SMALL_SIDE else BATCH


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each module's own mode afterwards."""
    trained = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


@contextlib.contextmanager
def full_fp32(device: torch.device) -> Iterator[None]:
    """No TF32 inside the block: an NVIDIA GPU's convolutions use it by default."""
    if device.type != "cuda":
        yield
        return
    backends: Any = torch.backends
    settings = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    try:
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


@contextlib.contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """So many threads of torch inside the block (None: as it is), as many as before afterwards."""
    before = torch.get_num_threads()
    if count is not None:
        if count < 1:
            raise UsageError(f"--threads must be at least 1, got {count}")
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
