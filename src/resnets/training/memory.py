"""Whether a training step fits into memory, and micro-batches that do where the whole batch does not.

What a step keeps for its backward pass is counted without the memory for it: a copy of the network trains on the
meta device, which has shapes and no numbers, and autograd says what it saves.
"""

import copy
import logging
import math
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.base.errors import UsageError
from resnets.base.machine import Allocator, free_memory_bytes, give_back_freed_memory
from resnets.base.world import world
from resnets.training.plan import Plan
from resnets.training.thaw import hold

log = logging.getLogger("resnets")

LARGE = 0.5  # of the free memory, from which on a program does not keep what it frees
SHARE = 0.6  # of the free memory is planned for: a processor's heap, with its holes, grew to 1.5 times the need
FEWEST = 2  # pictures of a micro-batch: batch norm cannot train on one
COPIES = 4  # of the pictures in float32, while they are changed and normalised
STATES = {"sgd": 1, "muon": 1, "adam": 2, "adamw": 2}  # numbers that an optimizer remembers of a weight


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes that a training step asks for: `fixed` whatever the pictures are, and `each` for a picture."""

    fixed: int
    each: int

    def of(self, pictures: int) -> int:
        return self.fixed + self.each * pictures


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The parts that a batch is computed in, and why, if they were chosen."""

    parts: int = 1
    said: str | None = None

    def of(self, plan: Plan) -> Plan:
        """The plan with these parts."""
        reasons = plan.reasons if self.said is None else (self.said, *plan.reasons)
        return replace(plan, config=replace(plan.config, accumulate=self.parts), reasons=reasons)


def fit(plan: Plan, network: nn.Module, *, free: int | None = None) -> Fit:
    """As few parts of a batch as fit, each computed on its own; those that were asked for are left alone.

    free: bytes of memory to be had; None: what there is now, for the planned device. Raises UsageError where not
    even the smallest part fits.
    """
    config = plan.config
    if config.accumulate is not None or config.sync_norm:
        return Fit(parts=config.accumulate or 1)
    need = step_need(plan, network)
    if need is None:
        return Fit()
    free = free_bytes(config.device or "cpu") if free is None else free
    batch = math.ceil((config.batch or 1) / world().size)  # of this process
    most = max(1, batch // FEWEST)
    parts = next((parts for parts in range(1, most) if need.of(math.ceil(batch / parts)) <= SHARE * free), most)
    part = math.ceil(batch / parts)
    height, width = plan.preprocess.size
    pixels = f"{height} pixels" if height == width else f"{height}x{width} pixels"
    if need.of(part) > free:
        raise UsageError(
            f"{config.model} with {part} pictures at {pixels} would take about {_gigabytes(need.of(part))}, and "
            f"{_gigabytes(free)} are free; give a smaller --size or --model, or --accumulate {parts} to try it"
        )
    if parts == 1:
        return Fit()
    seen = f"; batch norm sees {part}" if any(isinstance(one, _BatchNorm) for one in network.modules()) else ""
    return Fit(
        parts=parts,
        said=f"micro-batches of {part}: {batch} pictures at {pixels} would take about "
        f"{_gigabytes(need.of(batch))} of {_gigabytes(free)}{seen}",
    )


def spare_memory(plan: Plan, network: nn.Module, *, free: int | None = None) -> str | None:
    """Where a step takes much of the free memory, give back what is freed, if the program kept it; what to say.

    A heap that keeps everything grows beyond what is used at any one time, by its holes.
    """
    if not Allocator.keeps_freed_memory or plan.config.device != "cpu":
        return None
    need = step_need(plan, network)
    free = free_bytes("cpu") if free is None else free
    part = math.ceil((plan.config.batch or 1) / world().size / (plan.config.accumulate or 1))
    if need is None or need.of(part) <= LARGE * free:
        return None
    give_back_freed_memory()
    return (
        f"freed memory is given back to the system, which costs some time: a step takes about "
        f"{_gigabytes(need.of(part))} of {_gigabytes(free)}"
    )


def step_need(plan: Plan, network: nn.Module) -> Need | None:
    """What a step of this plan takes beside the program itself; None: the network cannot be counted.

    Counted are weights, gradients, the optimizer's state, the average, what autograd saves, what comes and goes
    around the largest layer, and the pictures. A teacher is not.
    """
    config = plan.config
    height, width = plan.preprocess.size
    shape = FEWEST, len(plan.preprocess.mean), height, width
    try:
        blank = copy.deepcopy(network).to("meta").train()
        weights = _bytes([*blank.parameters(), *blank.buffers()])
        hold(blank, plan.thaw, step=plan.steps)
        trained = _bytes([one for one in blank.parameters() if one.requires_grad])
        numbers = sum(one.numel() for one in blank.parameters())
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        blank, images = blank.to(dtype), torch.empty(shape, device="meta", dtype=dtype)
        kept = _saved(blank, images)
        largest = max(kept if plan.thaw.everything else _saved(blank.requires_grad_(True), images), default=0)
    except Exception as error:  # a network of the user's own may do what has no meaning without numbers
        log.debug("the memory of a step is not known: %s", error)
        return None
    return Need(
        fixed=weights * (2 if config.ema else 1)
        + trained * (1 + STATES[config.optimizer or "sgd"])
        + (2 * numbers if dtype == torch.bfloat16 else 0),  # the step's own copies of the weights
        each=(sum(kept) + 2 * largest) // FEWEST + COPIES * 4 * math.prod(shape[1:]),
    )


def free_bytes(device: str) -> int:
    """Memory that this process can still get on the device; a processor's is shared with those beside it."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory_bytes() // world().local_size


def _saved(network: nn.Module, images: torch.Tensor) -> list[int]:
    """Bytes of each block of memory that autograd saves on the way through, the network's own left out."""
    blocks: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    def save(tensor: torch.Tensor) -> torch.Tensor:
        block = tensor.untyped_storage()
        blocks[block._cdata] = block
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        network(images)
    own = {one.untyped_storage()._cdata for one in (*network.parameters(), *network.buffers())}
    return [block.nbytes() for place, block in blocks.items() if place not in own]


def _bytes(tensors: list[torch.Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2g} GB" if count < 10e9 else f"{count / 1e9:.0f} GB"
