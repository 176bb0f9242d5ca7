"""The training step with the CPU kernels and without, step by step in turns: medians and quartiles.

    python benchmarks/kernels.py                  # ResNet-20 at 32 px, batch 128; ResNet-18 at 224 px, batch 32
    python benchmarks/kernels.py --network resnet50 --steps 6
    python benchmarks/kernels.py --ops            # the norms alone, pooling, convolutions and their gradients
    python benchmarks/kernels.py --apart 5        # beside a bare loop with the default allocator, in 5 turns

Random pictures, bf16 autocast where the processor has bf16 units (--precision), channels-last, SGD. Where kinds
are measured apart, each is a process of its own: `resnets` has its kernels and keeps freed memory, as `resnets
train` does, `bare` is the same eager loop with neither.
"""

import argparse
import copy
import json
import platform
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from resnets.base.machine import bf16_units_in_words, cores, has_bf16_units, keep_freed_memory
from resnets.networks import build, kernels
from resnets.networks.layers import MaxPool2d, conv
from resnets.training.bench import without_kernels
from resnets.training.rates import Stopwatch
from rounds import Comparison, Record, run_rounds, side_of, table

CASES = {
    "resnet20": (128, 32, 10),
    "resnet18": (32, 224, 1000),
    "resnet50": (32, 224, 1000),
}  # batch, pixels, classes
COUNTED = {"resnet20": 25, "resnet18": 7, "resnet50": 7}  # steps, where not told
SIDES = ("resnets", "bare")
SHAPES = (
    (128, 16, 32, 32),
    (128, 64, 8, 8),
    (32, 64, 112, 112),
    (32, 64, 56, 56),
    (32, 256, 56, 56),
    (32, 512, 28, 28),
    (32, 2048, 7, 7),
)
POOLED = (32, 64, 112, 112)
COLOURS = 3  # whose gradient nobody wants
FILTERS = (  # batch, channels, pixels a side; out, side of a filter, stride
    ((128, 16, 32), (16, 3, 1)),
    ((128, 64, 8), (64, 3, 1)),
    ((32, 3, 224), (64, 7, 2)),
    ((32, 64, 56), (64, 3, 1)),
    ((32, 128, 28), (128, 3, 1)),
    ((32, 256, 14), (256, 3, 1)),
    ((32, 256, 14), (512, 3, 2)),
    ((32, 512, 7), (512, 3, 1)),
    ((32, 64, 56), (256, 1, 1)),
    ((32, 512, 28), (1024, 1, 2)),
    ((512, 256, 16), (256, 3, 1)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=CASES, action="append")
    parser.add_argument(
        "--steps", type=int, default=0, help="counted, of each kind (default 25 at 32 px, 7 at 224 px)"
    )
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument(
        "--precision", choices=("bf16", "fp32"), default="bf16" if has_bf16_units("cpu") else "fp32"
    )
    parser.add_argument("--ops", action="store_true")
    parser.add_argument("--apart", type=int, metavar="TURNS", help="kinds in processes of their own, in turns")
    parser.add_argument("--out", type=Path, default=Path("kernels.jsonl"), help="of --apart: its lines")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(alone(options.side, **options.job)))
        return
    torch.set_num_threads(options.threads)
    with kernels.using(True):
        print(
            f"{platform.machine()}, {bf16_units_in_words()}, {options.threads} threads, torch {torch.__version__}"
        )
        print(f"norms: {kernels.state()}; times in ms: median [quartiles]")
    names = options.network or ("resnet20", "resnet18")
    if options.apart:
        about = {"bf16": options.precision == "bf16", "threads": options.threads}
        jobs = [about | {"name": name, "steps": options.steps or COUNTED[name]} for name in names]
        compare_apart(jobs, turns=options.apart, out=options.out)
    elif options.ops:
        dtype, steps = torch.bfloat16 if options.precision == "bf16" else torch.float32, options.steps or 15
        for shape in SHAPES:
            compare_norms(shape, dtype, steps)
        compare_pools(POOLED, dtype, steps)
        for shape, filters in FILTERS:
            compare_convolutions(shape, filters, dtype, steps)
    else:
        for name in names:
            compare_steps(name, options.precision == "bf16", options.steps or COUNTED[name])


def compare_steps(name: str, bf16: bool, steps: int) -> None:
    batch, pixels, _ = CASES[name]
    network = network_of(name)
    plain, fused = in_turns(stepper(name, network, bf16), stepper(name, copy.deepcopy(network), bf16), steps)
    print(
        f"{name}, {pixels} px, batch {batch}: torch {spread(plain)}, fused {spread(fused)}, "
        f"{statistics.median(plain) / statistics.median(fused):.3f} times the images/s "
        f"({1000 * batch / statistics.median(plain):.1f} to {1000 * batch / statistics.median(fused):.1f})",
        flush=True,
    )


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, num_classes=CASES[name][2]).to(memory_format=torch.channels_last)


def stepper(name: str, network: nn.Module, bf16: bool) -> Callable[[], None]:
    batch, pixels, classes = CASES[name]
    images = torch.randn(batch, 3, pixels, pixels).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (batch,))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = network(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare_apart(jobs: Sequence[Record], *, turns: int, out: Path) -> None:
    comparisons = [
        Comparison(
            case=f"{job['name']}, the step",
            settings=job,
            sides={side: partial(side_of, __file__, side, job) for side in SIDES},
        )
        for job in jobs
    ]
    print("\n" + table(run_rounds(comparisons, rounds=turns, out=out), comparisons))


def alone(side: str, *, name: str, bf16: bool, threads: int, steps: int, **_: int) -> Record:
    """The median rate of one kind of step in this process."""
    if side == "resnets":
        keep_freed_memory()
    torch.set_num_threads(threads)
    watch = Stopwatch(device=torch.device("cpu"), seconds=0.0, least=steps)
    with kernels.using(side == "resnets"):
        return {"rate": watch.rate(stepper(name, network_of(name), bf16), CASES[name][0], "images/s").median}


def compare_norms(shape: Sequence[int], dtype: torch.dtype, steps: int) -> None:
    x, residual, grad = (channels_last(shape, dtype) for _ in range(3))
    x.requires_grad_()
    residual.requires_grad_()
    norm, act = nn.BatchNorm2d(shape[1]), nn.ReLU()

    for beside, name in ((None, "norm + relu"), (residual, "norm + add + relu")):

        def step(beside: torch.Tensor | None = beside) -> None:
            kernels.norm_act(norm, x, residual=beside, act=act).backward(grad)
            x.grad = residual.grad = None

        show(name, x, in_turns(step, step, steps))


def compare_pools(shape: Sequence[int], dtype: torch.dtype, steps: int) -> None:
    x, pool = channels_last(shape, dtype).requires_grad_(), MaxPool2d(3, 2, padding=1)
    grad = channels_last(pool(x).shape, dtype)

    def step() -> None:
        pool(x).backward(grad)
        x.grad = None

    show("max pool", x, in_turns(step, step, steps))


def compare_convolutions(
    shape: tuple[int, int, int], filters: tuple[int, int, int], dtype: torch.dtype, steps: int
) -> None:
    (batch, channels, pixels), (out, side, stride) = shape, filters
    layer = conv(channels, out, side, stride=stride).to(memory_format=torch.channels_last)
    x = channels_last((batch, channels, pixels, pixels), dtype)

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            y: torch.Tensor = layer(x)
        return y

    def gradients(on: bool) -> Callable[[], None]:
        with kernels.using(on):
            y = forward()
        grad = channels_last(y.shape, y.dtype)
        return lambda: y.backward(grad, retain_graph=True)

    name = f"{side}x{side}/{stride} to {out}"
    show(f"{name}, values", x, in_turns(forward, forward, steps))
    show(f"{name}, filters", x, in_turns(gradients(False), gradients(True), steps))
    if channels > COLOURS:
        x.requires_grad_()
        show(f"{name}, and input", x, in_turns(gradients(False), gradients(True), steps))


def channels_last(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(tuple(shape)).to(dtype).contiguous(memory_format=torch.channels_last)


def show(name: str, x: torch.Tensor, times: tuple[list[float], list[float]]) -> None:
    plain, ours = times
    megabytes = x.numel() * x.element_size() / 1e6
    print(
        f"{name:24} {tuple(x.shape)!s:19} {megabytes:5.1f} MB: torch {spread(plain)}, ours {spread(ours)}, "
        f"{statistics.median(plain) / statistics.median(ours):.2f} times as fast",
        flush=True,
    )


def in_turns(
    plain: Callable[[], object], fused: Callable[[], object], steps: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of each counted step, the two kinds in turns so that the machine's moods meet both."""
    watch = Stopwatch(device=torch.device("cpu"), seconds=0.0, least=steps)
    with kernels.using(True):
        rounds = watch.rounds(without_kernels(plain), fused)
    return [1000 * seconds for seconds, _ in rounds], [1000 * seconds for _, seconds in rounds]


def spread(times: list[float]) -> str:
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
