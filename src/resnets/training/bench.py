"""The training step on this machine: its parts, its share of the matrix rate, and a plain loop beside it."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import PIL
import torch
from torch import nn
from torch.nn import functional as F

from resnets._version import VERSION
from resnets.base.machine import bf16_units_in_words, cores, has_bf16_units, memory_bytes, processor_name
from resnets.evaluation.predict import Precision
from resnets.networks import build, kernels
from resnets.networks.spec import ResNetSpec
from resnets.training.efficiency import step_operations
from resnets.training.optimizers import Optimizer, make_optimizer
from resnets.training.rates import (
    JPEG_SIDE,
    JPEG_SIZE,
    LEAST,
    MATRIX_SIDE,
    SMALL_SIDE,
    WARM,
    Measured,
    Stopwatch,
    jpeg_decode,
    loader,
    matrix_product,
    measured,
    memory_copy,
    product,
)
from resnets.training.step import Average, Part, loss_of, train_step

PARTS = ("forward", "loss", "backward", "optimizer", "average")
RATE, MOMENTUM, DECAY, EMA = 0.01, 0.9, 1e-4, 0.995  # of the steps that are measured
PRODUCTS = 8  # of matrices in a turn: as long as a short step
LATE = 10_000  # a step at which the average has its full decay

Progress = Callable[[str, int, int], None]  # what is measured now, how many are done, of how many
Step = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """The training step that is measured. size: (height, width) in pixels. threads: of the processor."""

    model: str
    spec: ResNetSpec
    size: tuple[int, int]
    batch: int
    optimizer: Optimizer
    precision: Precision
    device: str
    threads: int

    def __str__(self) -> str:
        height, width = self.size
        return (
            f"{self.model}, {height}x{width} px, batch {self.batch}, {self.optimizer}, "
            f"{self.precision} on {self.device}"
        )


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What was measured.

    machine: facts, by name. case: the step, in words. rates: of the machine. parts: of a step, in ms.
    step: of `resnets train`, images/s; plain: of a plain loop, in turns with it; ratios: of each turn.
    share: of the matrix rate that the step reaches, by the products that took turns with it, since the rate may
    change within seconds where others share the processor; None where the machine has no such rate.
    """

    machine: dict[str, Any]
    case: str
    rates: dict[str, Measured]
    parts: dict[str, Measured]
    step: Measured
    plain: Measured
    ratios: Measured
    share: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def facts(case: Case) -> dict[str, Any]:
    """What the figures depend on, beside the case; to be read inside `kernels.using(True)`."""
    device = torch.device(case.device)
    return {
        "processor": processor_name(),
        "cores": cores(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "bf16_units": bf16_units_in_words(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.system(),
        "resnets": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": case.threads,
        "norms": kernels.state() if device.type == "cpu" else "torch",
    }


def measure(case: Case, *, seconds: float, least: int = LEAST, progress: Progress) -> Bench:
    """All measurements, about `seconds` and at least so many runs each, with the kernels that training takes."""
    watch = Stopwatch(device=torch.device(case.device), seconds=seconds, least=least)
    works = dict(_works(case, watch))
    names = [*works, "parts of the training step", "the training step beside a plain loop"]
    rates = {}
    for done, (name, work) in enumerate(works.items()):
        progress(name, done, len(names))
        rates[name] = work()
    with kernels.using(True):
        machine = facts(case)
        progress(names[-2], len(works), len(names))
        parts = step_parts(case, watch)
        progress(names[-1], len(works) + 1, len(names))
        several, operations = products(case, watch.device)
        turns = watch.rounds(training_step(case), without_kernels(plain_step(case)), several)
    step = measured([case.batch / ours for ours, _, _ in turns], "images/s")
    name = matrix_name(case.precision, watch.device)
    share = None
    if name in rates:
        rate = measured([operations / 1e12 / of_products for *_, of_products in turns], "TFLOP/s")
        rates[f"{name}, in turns"] = rate
        share = step_operations(case.spec, case.size) * step.median / (rate.median * 1e12)
    return Bench(
        machine=machine,
        case=str(case),
        rates=rates,
        parts=parts,
        step=step,
        plain=measured([case.batch / plain for _, plain, _ in turns], "images/s"),
        ratios=measured([plain / ours for ours, plain, _ in turns], "times"),
        share=share,
    )


def matrix_name(precision: Precision, device: torch.device) -> str:
    return f"{precision} matrix product, {MATRIX_SIDE[device.type]}³"


def _works(case: Case, watch: Stopwatch) -> Iterator[tuple[str, Callable[[], Measured]]]:
    """The rates of the machine: a name, and what measures it."""
    if has_bf16_units(case.device):  # without them the product is emulated, and training does not use it
        yield matrix_name("bf16", watch.device), lambda: matrix_product(watch, torch.bfloat16)
    yield matrix_name("fp32", watch.device), lambda: matrix_product(watch, torch.float32)
    yield "memory copy, read and written", lambda: memory_copy(watch)
    yield f"JPEG decode, {JPEG_SIDE} to {JPEG_SIZE[0]} px", lambda: jpeg_decode(watch, threads=case.threads)
    yield f"loader, {SMALL_SIDE} px, batches of 128", lambda: loader(watch, threads=case.threads)


def products(case: Case, device: torch.device) -> tuple[Step, float]:
    """Some products of matrices, to take turns with the step, in its precision; the operations that they have."""
    in_bf16 = case.precision == "bf16" and has_bf16_units(case.device)  # else they would be emulated
    work, operations = product(device, torch.bfloat16 if in_bf16 else torch.float32)

    def several() -> None:
        for _ in range(PRODUCTS):
            work()

    return several, PRODUCTS * operations


def training_step(case: Case) -> Step:
    """The step of `resnets train`, averaging of the weights included, on one batch of random pictures."""
    network, part, optimizer = _ours(case)
    average = Average(network, EMA)
    autocast = _autocast(case)

    def step() -> None:
        train_step(
            network,
            [lambda: part],
            optimizer,
            pictures=case.batch,
            learning_rate=RATE,
            label_smoothing=0.0,
            clip=None,
            autocast=autocast,
        )
        average.update(LATE)

    return step


def step_parts(case: Case, watch: Stopwatch) -> dict[str, Measured]:
    """Milliseconds of each part of the same step, and of all of them."""
    network, part, optimizer = _ours(case)
    average = Average(network, EMA)
    autocast = _autocast(case)
    for group in optimizer.param_groups:
        group["lr"] = RATE
    marks: list[list[float]] = []

    def step() -> None:
        times = [watch.now()]
        with autocast:
            logits = network(part.images)
        times.append(watch.now())
        loss = loss_of(logits, part, 0.0)
        times.append(watch.now())
        loss.backward()  # type: ignore[no-untyped-call]
        times.append(watch.now())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(watch.now())
        average.update(LATE)
        times.append(watch.now())
        marks.append(times)

    watch.rounds(step)
    counted = marks[WARM:]
    parts = {
        name: measured([1000 * (times[place + 1] - times[place]) for times in counted], "ms")
        for place, name in enumerate(PARTS)
    }
    return {**parts, "all of it": measured([1000 * (times[-1] - times[0]) for times in counted], "ms")}


def plain_step(case: Case) -> Step:
    """What most scripts do: the same network in fp32 and NCHW memory, torch's own norms and SGD, no averaging."""
    device = torch.device(case.device)
    network = build(case.spec).to(device).train()
    images, labels = _batch(case)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def without_kernels(step: Step) -> Step:
    """The step with torch's own norms, whatever is on around it."""

    def plain() -> None:
        with kernels.using(False):
            step()

    return plain


def _ours(case: Case) -> tuple[nn.Module, Part, torch.optim.Optimizer]:
    """Network, batch and optimizer as `resnets train` has them."""
    device = torch.device(case.device)
    network = build(case.spec).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    images, labels = _batch(case)
    part = Part(images=images.contiguous(memory_format=torch.channels_last), first={"label": labels})
    return network, part, make_optimizer(network, case.optimizer, momentum=MOMENTUM, weight_decay=DECAY)


def _batch(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pictures (B, C, H, W) and labels (B,)."""
    device = torch.device(case.device)
    images = torch.randn(case.batch, case.spec.in_channels, *case.size, device=device)
    return images, torch.arange(case.batch, device=device) % case.spec.heads[0][1]


def _autocast(case: Case) -> torch.autocast:
    return torch.autocast(torch.device(case.device).type, dtype=torch.bfloat16, enabled=case.precision == "bf16")
