"""One training step: forward, backward, clip, update, average. One path for every precision."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from resnets.training.distill import Teaching, distance


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a step did; tensors stay on the device until somebody asks.

    loss: mean over the batch. gradient_norm: before clipping, None where nothing was clipped. pictures: B.
    """

    loss: torch.Tensor
    gradient_norm: torch.Tensor | None
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a batch, ready for the network.

    images: (B, C, H, W) float, channels last. first: head -> labels (B,), -1 where one is missing.
    second, weight: where pictures were mixed, the other labels and each picture's own share (B,).
    """

    images: torch.Tensor
    first: dict[str, torch.Tensor]
    second: dict[str, torch.Tensor] | None = None
    weight: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class HeadLoss:
    """How the loss of a head counts: its weight among the heads, and weights of its classes (None: all 1).

    classes: (K,), by the true class; of a head with several classes a picture (K, 2), of pictures that lack the
    class and of those that have it.
    """

    weight: float = 1.0
    classes: torch.Tensor | None = None


PLAIN = HeadLoss()


class Summing(Protocol):
    """What sums the gradients and losses of several processes (see `distributed.Exchange`)."""

    def begin(self) -> None:
        """The backward pass that comes is this process's last of the step."""

    def finish(self, loss: torch.Tensor | None, *, share: float) -> torch.Tensor:
        """The batch's loss; the gradients are the batch's from here on.

        loss: this process's part of it, None where it had no pictures. share: its part of the batch's pictures.
        """


def train_step(
    network: nn.Module,
    parts: Sequence[Callable[[], Part]],
    optimizer: torch.optim.Optimizer,
    *,
    pictures: int,
    learning_rate: float,
    label_smoothing: float,
    clip: float | None,
    autocast: torch.autocast,
    heads: Mapping[str, HeadLoss] | None = None,
    summing: Summing | None = None,
    teaching: Teaching | None = None,
) -> StepRecord:
    """One update from the pictures of all `parts`; each part is made, used and let go before the next.

    The loss is the mean over the whole batch, so that parts differ from one large batch in batch norm alone.
    pictures: of the whole batch. summing: other processes have other parts of it; this one may have none.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("share", 1.0)
    total: torch.Tensor | None = None
    own = 0
    for number, make in enumerate(parts, start=1):
        part = make()
        with autocast:
            logits = network(part.images)
        loss = loss_of(logits, part, label_smoothing, heads)
        if teaching is not None:
            taught = distance(logits, teaching.teacher(part.images))
            loss = (1 - teaching.weight) * loss + teaching.weight * taught
        loss = loss * (len(part.images) / pictures)
        if summing is not None and number == len(parts):
            summing.begin()
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach() if total is None else total + loss.detach()
        own += len(part.images)
    if summing is not None:
        total = summing.finish(total, share=own / pictures)
    if total is None:
        raise ValueError("a step needs at least one part")
    norm = None
    if clip is not None:
        norm = nn.utils.clip_grad_norm_(network.parameters(), clip, foreach=True)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepRecord(loss=total, gradient_norm=norm, pictures=pictures)


def cuts(pictures: int, parts: int) -> list[slice]:
    """A batch in at most so many parts of nearly equal size, none of a single picture if that can be helped."""
    parts = min(parts, max(1, pictures // 2))
    ends = [pictures * (number + 1) // parts for number in range(parts)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def loss_of(
    logits: torch.Tensor | Mapping[str, torch.Tensor],
    part: Part,
    label_smoothing: float,
    heads: Mapping[str, HeadLoss] | None = None,
) -> torch.Tensor:
    """The loss in fp32, the mean over pictures that have a label; of several heads, their weighted mean.

    Cross-entropy, or binary cross-entropy a class where a picture may have several classes.
    A mixed picture's loss is weight * loss(first) + (1 - weight) * loss(second).
    """
    by_head = logits if isinstance(logits, Mapping) else {next(iter(part.first)): logits}
    losses, weights = [], []
    for head, output in by_head.items():
        how = (heads or {}).get(head, PLAIN)
        loss = _loss(output.float(), part.first[head], label_smoothing, how.classes)  # (B, K) -> (B,)
        if part.second is not None and part.weight is not None:
            other = _loss(output.float(), part.second[head], label_smoothing, how.classes)
            loss = part.weight * loss + (1 - part.weight) * other
        losses.append(loss.mean())
        weights.append(how.weight)
    if len(losses) == 1:
        return losses[0]
    return torch.stack([loss * weight for loss, weight in zip(losses, weights, strict=True)]).sum() / sum(weights)


def _loss(
    logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, classes: torch.Tensor | None
) -> torch.Tensor:
    """(B,): its mean is the mean over the pictures, or cells, that have a label."""
    of = _binary_cross_entropy if target.is_floating_point() else _cross_entropy
    return of(logits, target, label_smoothing, classes)


def _cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, classes: torch.Tensor | None
) -> torch.Tensor:
    present = target >= 0
    count = present.sum().clamp(min=1)
    loss = F.cross_entropy(logits, target, reduction="none", ignore_index=-1, label_smoothing=label_smoothing)
    if classes is not None:
        loss = loss * classes[target.clamp(min=0)]
    return loss * (len(target) / count)


def _binary_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, label_smoothing: float, classes: torch.Tensor | None
) -> torch.Tensor:
    """target: (B, K) of 1, 0 and NaN, which counts nowhere; smoothed towards a half.

    The sum over the classes, whose gradient is of the size of cross-entropy's; a mean would slow the network down
    by the number of classes.
    """
    known = ~target.isnan()
    there = target > 0
    smooth = there.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    loss = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    if classes is not None:
        loss = loss * torch.where(there, classes[:, 1], classes[:, 0])
    return (loss * known).sum(dim=1) * (target.numel() / known.sum().clamp(min=1))


class Average:
    """An exponential moving average of a network's weights and statistics (EMA), as a network of its own.

    The decay rises as (1 + step) / (10 + step), so that the first steps are forgotten soon.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        pairs = [*zip(_tensors(self.network), _tensors(network), strict=True)]
        self._smooth = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the network's present weights, after global step `step` (0 is the first)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([ours for ours, _ in self._smooth], [theirs for _, theirs in self._smooth], weight)
        if self._counters:
            torch._foreach_copy_([ours for ours, _ in self._counters], [theirs for _, theirs in self._counters])


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers, the very tensors that the optimiser and batch norm change in place."""
    return [tensor.detach() for tensor in [*network.parameters(), *network.buffers()]]
