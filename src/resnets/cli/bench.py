"""`resnets bench`."""

from typing import TYPE_CHECKING, Any

from resnets.base.machine import keep_freed_memory
from resnets.base.text import counted
from resnets.cli.commands import Command, options_of
from resnets.cli.live import watching
from resnets.cli.terminal import Terminal, table
from resnets.verbs.bench import BenchConfig, bench

if TYPE_CHECKING:
    from resnets.training.bench import Bench
    from resnets.training.rates import Measured

HEADINGS = ["", "median", "quartiles", "n"]
Row = list[str]


def run(given: dict[str, Any], terminal: Terminal) -> int:
    config = BenchConfig(**given)
    kept = keep_freed_memory()
    with watching(terminal) as watch:

        def progress(name: str, done: int, total: int) -> None:
            if terminal.interactive:
                watch.progress(name, done, total)
            else:
                terminal.note(f"{done + 1}/{total} {name}")

        result = bench(config, progress=progress)
    if terminal.json:
        terminal.emit({**result.to_json(), "freed_memory_kept": kept, "seconds": terminal.seconds()})
    else:
        for line in lines(result, kept=kept):
            terminal.say(line)
    return 0


def lines(result: "Bench", *, kept: bool) -> list[str]:
    """The result for people, in at most 80 columns where names of processors and compilers are not long.

    kept: whether this process kept the memory that it freed.
    """
    return [*_facts(result, kept=kept), "", *table(HEADINGS, _rows(result), right=[1, 2, 3]), *_remarks(result)]


def _facts(result: "Bench", *, kept: bool) -> list[str]:
    facts = result.machine
    gpu = [facts["gpu"]] if facts["gpu"] else []
    return [
        f"{facts['processor']}, {counted(facts['cores'], 'core')}, {facts['memory_gib']} GiB",
        *gpu,
        f"resnets {facts['resnets']}, torch {facts['torch']} ({facts['instructions']}), Pillow {facts['pillow']}, "
        f"Python {facts['python']}, {facts['system']}",
        f"{facts['bf16_units']}, {counted(facts['threads'], 'thread')}, "
        f"freed memory {'kept' if kept else 'given back'}",
        f"norms: {facts['norms']}",
        f"step: {result.case}",
    ]


def _rows(result: "Bench") -> list[Row]:
    parts = [_row(f"step: {name}", part) for name, part in result.parts.items()]
    beside = [
        _row("step of resnets train", result.step),
        _row("step of a plain loop, in turns", result.plain),
        _row("times as fast", result.ratios),
    ]
    return [*(_row(name, rate) for name, rate in result.rates.items()), *parts, *beside]


def _row(name: str, value: "Measured") -> Row:
    low, high = value.quartiles
    unit = "" if value.unit == "times" else f" {value.unit}"
    return [name, f"{figure(value.median)}{unit}", f"{figure(low)} to {figure(high)}", f"{value.n:,}"]


def _remarks(result: "Bench") -> list[str]:
    share = []
    if result.share is not None:
        share = [
            f"The step of resnets train reaches {result.share:.1%} of the matrix product's rate,",
            "counting three times the multiply-adds of the forward pass.",
        ]
    return [
        "",
        *share,
        "The plain loop: fp32, NCHW, eager, torch's norms and SGD; the same network and",
        "batch, without the averaging of weights that resnets train does.",
    ]


def figure(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


COMMAND = Command(
    options=options_of(BenchConfig),
    details=(
        "Matrix products, memory, JPEG decoding, the loader of small pictures, each part of a training step, and "
        "the step beside a plain loop's; every figure is a median with its quartiles. Paste it into a report."
    ),
    examples=(
        "resnets bench",
        "resnets bench --quick",
        "resnets bench --model resnet50 --batch 16 --json",
    ),
    run=run,
)
