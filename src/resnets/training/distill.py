"""A trained network as a teacher: its softened answers beside the labels (Hinton, Vinyals and Dean 2015).

Shapes: B pictures, C channels, H×W pixels, K classes.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.base.errors import DataError, UsageError
from resnets.base.text import some
from resnets.labels import Head
from resnets.preprocess import Preprocess
from resnets.weights.modelfile import Model

TEMPERATURE = 4.0  # that both sides' logits are divided by
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as decoding takes it


class Teacher:
    """A model that answers the very pictures a student is trained on, cropped and mixed as they are.

    heads, preprocess: the student's, whose classes the answers are put in the order of.
    """

    def __init__(
        self,
        model: Model,
        *,
        heads: Mapping[str, Head],
        preprocess: Preprocess,
        device: torch.device,
        autocast: torch.autocast,
    ) -> None:
        self.positions = {
            name: torch.tensor(_positions(name, head, model.heads), device=device) for name, head in heads.items()
        }
        self.network = model.network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.network.requires_grad_(False)
        self.theirs, self.ours, self.autocast = model.preprocess, preprocess, autocast
        if "rgba" in (self.theirs.channels, self.ours.channels) and self.theirs.channels != self.ours.channels:
            raise UsageError(
                f"the teacher takes {self.theirs.channels} pictures, this run {self.ours.channels}; "
                f"give --channels {self.theirs.channels}, or another --teacher"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) as the student takes it -> head name -> logits (B, K), in the student's order."""
        with self.autocast:
            outputs = self.network(self._seen(images))
        found = outputs if isinstance(outputs, Mapping) else {next(iter(self.positions)): outputs}
        return {name: found[name].float()[:, positions] for name, positions in self.positions.items()}

    def _seen(self, images: Tensor) -> Tensor:
        """The student's input as the teacher's: the same pixels, otherwise normalised, sized and coloured."""
        x = images * _channels(self.ours.std, images) + _channels(self.ours.mean, images)
        if self.theirs.channels != self.ours.channels:
            grey = self.theirs.channels == "grey"
            x = (x * _channels(GREY, x)).sum(1, keepdim=True) if grey else x.expand(-1, 3, -1, -1)
        if x.shape[2:] != self.theirs.size:
            x = F.interpolate(x, self.theirs.size, mode="bilinear", antialias=True, align_corners=False)
        x = (x - _channels(self.theirs.mean, x)) / _channels(self.theirs.std, x)
        return x.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Who teaches, and the share of the loss that following it is; the labels have the rest."""

    teacher: Teacher
    weight: float


def distance(
    logits: Tensor | Mapping[str, Tensor], taught: Mapping[str, Tensor], temperature: float = TEMPERATURE
) -> Tensor:
    """The mean over pictures and heads of T² KL(teacher || student), both softened by the temperature T.

    T² keeps the gradient's size whatever the temperature is.
    """
    by_head = logits if isinstance(logits, Mapping) else {next(iter(taught)): logits}
    losses = [
        F.kl_div(
            F.log_softmax(by_head[name].float() / temperature, dim=1),
            F.log_softmax(answers / temperature, dim=1),
            log_target=True,
            reduction="batchmean",
        )
        for name, answers in taught.items()
    ]
    return torch.stack(losses).mean() * temperature**2


def _positions(name: str, head: Head, theirs: Mapping[str, Head]) -> list[int]:
    """Where the teacher has each of the student's classes."""
    by_name = theirs.get(name) or (next(iter(theirs.values())) if len(theirs) == 1 else None)
    if by_name is None:
        raise DataError(f"the teacher does not answer {name!r}; it answers {some([*theirs])}")
    if "multi" in (head.kind, by_name.kind):
        raise UsageError(f"--teacher is for heads with one class a picture; {name!r} may have several")
    index = by_name.index()
    missing = [one for one in head.ids if one not in index]
    if missing:
        raise DataError(f"the teacher does not know {some(missing)} of {name!r}; train it on these classes first")
    return [index[one] for one in head.ids]


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return _on_device(values, like.dtype, like.device)


@functools.cache  # a copy from the processor would wait for a GPU's work in every step
def _on_device(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]
