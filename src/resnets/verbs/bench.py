"""`resnets bench`: how fast this machine is, and this package on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resnets.base.errors import UsageError
from resnets.base.options import option

if TYPE_CHECKING:
    from resnets.training.bench import Bench, Case

SECONDS, QUICK_SECONDS = 3.0, 0.3
QUICK_LEAST, QUICK_BATCH = 3, 16
STEP, MACHINE = "The training step", "The machine"


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What `bench` measures, and for how long."""

    model: str | None = option(None, "the network: resnet18, with --quick resnet20", group=STEP)
    size: str | None = option(
        None, "its input in pixels, N or HxW: 224, or 32 where its stem is small", group=STEP
    )
    batch: int | None = option(
        None, "pictures a step: 32, or 128 where the stem is small; with --quick 16", group=STEP
    )
    optimizer: Literal["sgd", "adam", "adamw", "muon"] | None = option(
        None, "of the step: what resnets train takes for such pictures; the plain loop has SGD", group=STEP
    )
    seconds: float | None = option(
        None, f"about how long each measurement takes: {SECONDS:g}, with --quick {QUICK_SECONDS:g}"
    )
    quick: bool = option(False, "a small network and short measurements, to see that it works")
    device: str | None = option(None, "cpu, cuda, cuda:N or mps", group=MACHINE)
    precision: Literal["fp32", "bf16"] | None = option(
        None, "of the training step: bf16 where the hardware multiplies it, else fp32", group=MACHINE
    )
    threads: int | None = option(None, "processor threads: all", group=MACHINE)


def bench(
    config: BenchConfig | None = None, *, progress: Callable[[str, int, int], None] | None = None
) -> "Bench":
    """Measure this machine, each part of a training step, and the step beside a plain loop's, in turns.

    Every figure is a median with its quartiles and n. progress: called with what is measured next, how many
    measurements are done, and of how many.
    """
    from resnets.evaluation.predict import threads_of
    from resnets.training.bench import measure
    from resnets.training.rates import LEAST

    config = config or BenchConfig()
    case = _case(config)
    seconds = config.seconds if config.seconds is not None else QUICK_SECONDS if config.quick else SECONDS
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--seconds must be above 0, got {seconds:g}")
    with threads_of(case.threads):
        return measure(
            case,
            seconds=seconds,
            least=QUICK_LEAST if config.quick else LEAST,
            progress=progress or (lambda name, done, total: None),
        )


def _case(config: BenchConfig) -> "Case":
    """The step with all that was not asked for chosen. Raises UsageError for what cannot be."""
    from resnets.base.machine import cores, has_bf16_units, pick_device
    from resnets.networks.summary import CIFAR_SIZE, IMAGENET_SIZE, summary
    from resnets.networks.variants import variant
    from resnets.training.bench import Case
    from resnets.training.config import parse_size
    from resnets.training.recipes import MANY_PICTURES, Facts, recipe

    model = config.model or ("resnet20" if config.quick else "resnet18")
    spec = variant(model)
    small = spec.keeps_size
    size = parse_size(config.size) if config.size else CIFAR_SIZE if small else IMAGENET_SIZE
    summary(spec, size)  # a size that does not go through the network is told before anything is measured
    batch = config.batch if config.batch is not None else QUICK_BATCH if config.quick else 128 if small else 32
    if batch < 2:
        raise UsageError(f"--batch must be at least 2, for batch norm cannot train on one picture; got {batch}")
    device = pick_device(config.device)
    return Case(
        model=model,
        spec=spec,
        size=size,
        batch=batch,
        optimizer=config.optimizer or recipe(Facts(pictures=MANY_PICTURES, size=size))[0]["optimizer"],
        precision=config.precision or ("bf16" if has_bf16_units(device) else "fp32"),
        device=device,
        threads=config.threads if config.threads is not None else cores(),
    )
