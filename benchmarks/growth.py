"""How cost grows: pictures, picture size, depth, batch, threads, processes; each on its own, all else as it is.

    python benchmarks/growth.py                                # all of it, some minutes on two cores
    python benchmarks/growth.py --parts depth batch --seconds 5
    python benchmarks/growth.py --quick                        # does it work? the figures mean nothing

size, depth, batch, threads: the training step of `resnets train` (bf16 where the processor multiplies it, its
norms, the average of the weights) on random pictures; the works of a part take turns. pictures: whole commands of
`resnets train` over so many JPEG files for one epoch, with the memory that they held at most. processes:
`torchrun` with so many processes that share the cores. Every row goes to `--out` as soon as it is measured.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from resnets.base.machine import cores, has_bf16_units, keep_freed_memory
from resnets.evaluation.predict import threads_of
from resnets.networks import kernels
from resnets.networks.variants import variant
from resnets.training.bench import Case, training_step
from resnets.training.rates import JPEG_PICTURES, Measured, Stopwatch, jpeg_decode, jpeg_pictures, measured
from rounds import RESNETS, events_of, figure, in_own_process, last_epoch, machine

Row = dict[str, Any]
SIZES = (96, 128, 160, 192, 224, 288)
DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101")
SMALL_DEPTHS = ("resnet20", "resnet32", "resnet44", "resnet56")
BATCHES = (1, 4, 16, 64)
SMALL_BATCHES = (8, 32, 128, 512)
PICTURES = (1_000, 4_000, 16_000)
LIGHT = ("--model", "resnet18:width=16", "--weights", "none", "--size", "64", "--epochs", "1", "--batch", "32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each step that is measured (default 10)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("growth.jsonl"))
    options = parser.parse_args()
    print(f"{machine()}\n")
    for part in options.parts:
        print(f"| {part} | rate, median [quartiles] | n | |\n| --- | --- | --- | --- |")
        for one in PARTS[part](options.seconds, options.quick):
            with options.out.open("a") as lines:
                lines.write(json.dumps({"part": part, "machine": machine(), **one}) + "\n")
            print(f"| {one['what']} | {rate(one)} images/s | {one['n']} | {rest(one)} |", flush=True)
        print()


def row(what: str, found: Measured | float, **rest: float) -> Row:
    """What was measured, once or often, and what else is known of it."""
    if isinstance(found, Measured):
        return {"what": what, "n": found.n, "median": found.median, "quartiles": found.quartiles, **rest}
    return {"what": what, "n": 1, "median": found, **rest}


def rate(row: Row) -> str:
    """`12.3 [11.8, 12.9]`; a single value has no quartiles."""
    quartiles = f" [{', '.join(map(figure, row['quartiles']))}]" if "quartiles" in row else ""
    return figure(row["median"]) + quartiles


def rest(row: Row) -> str:
    known = ("what", "n", "median", "quartiles")
    return ", ".join(f"{key} {value:,}" for key, value in row.items() if key not in known)


def steps(cases: dict[str, Case], seconds: float, quick: bool) -> Iterator[Row]:
    """The rates of several steps, in turns."""
    if quick:
        cases, seconds = {what: replace(case, size=(32, 32), batch=2) for what, case in cases.items()}, 0.0
    watch = Stopwatch(device=torch.device("cpu"), seconds=seconds, least=2 if quick else 5)
    with kernels.using(True):
        turns = watch.rounds(*(on_threads(case.threads, training_step(case)) for case in cases.values()))
    for (what, case), times in zip(cases.items(), zip(*turns, strict=True), strict=True):
        yield row(what, measured([case.batch / one for one in times], "images/s"))


def on_threads(threads: int, step: Callable[[], object]) -> Callable[[], object]:
    def work() -> None:
        with threads_of(threads):
            step()

    return work


def case(model: str, *, size: int, batch: int, threads: int | None = None) -> Case:
    return Case(
        model=model,
        spec=variant(model),
        size=(size, size),
        batch=batch,
        optimizer="sgd",
        precision="bf16" if has_bf16_units("cpu") else "fp32",
        device="cpu",
        threads=threads or cores(),
    )


def by_size(seconds: float, quick: bool) -> Iterator[Row]:
    cases = {f"ResNet-18, batch 16, {size} px": case("resnet18", size=size, batch=16) for size in SIZES}
    yield from steps(cases, seconds, quick)


def by_depth(seconds: float, quick: bool) -> Iterator[Row]:
    yield from steps(
        {f"{model}, 224 px, batch 8": case(model, size=224, batch=8) for model in DEPTHS}, seconds, quick
    )
    yield from steps(
        {f"{model}, 32 px, batch 128": case(model, size=32, batch=128) for model in SMALL_DEPTHS}, seconds, quick
    )


def by_batch(seconds: float, quick: bool) -> Iterator[Row]:
    large = {f"ResNet-18, 224 px, batch {batch}": case("resnet18", size=224, batch=batch) for batch in BATCHES}
    small = {f"ResNet-20, 32 px, batch {batch}": case("resnet20", size=32, batch=batch) for batch in SMALL_BATCHES}
    yield from steps(large, seconds, quick)
    yield from steps(small, seconds, quick)


def by_threads(seconds: float, quick: bool) -> Iterator[Row]:
    counts = doubled(cores())
    names = {f"ResNet-18, 224 px, batch 16, threads {count}": count for count in counts}
    yield from steps(
        {what: case("resnet18", size=224, batch=16, threads=count) for what, count in names.items()},
        seconds,
        quick,
    )
    watch = Stopwatch(device=torch.device("cpu"), seconds=0.0 if quick else seconds)
    for count in counts:
        yield row(f"JPEG decode, 400 to 224 px, threads {count}", jpeg_decode(watch, threads=count))


def by_pictures(_: float, quick: bool) -> Iterator[Row]:
    for count in (100, 200) if quick else PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "pictures")
            photographs(files, count)
            yield trained(f"{count:,} JPEG files, 64 px", Path(folder), [RESNETS])


def by_processes(_: float, quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "pictures")
        photographs(files, 200 if quick else 4_000)
        for count in doubled(cores()):
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
            threads = ["--threads", str(cores() // count)]
            done = trained(f"processes {count}, 64 px", Path(folder), [*torchrun, "-m", "resnets"], *threads)
            yield {key: value for key, value in done.items() if key != "peak_mb"}  # the launcher's


def trained(what: str, folder: Path, program: Iterable[str | Path], *more: str) -> Row:
    """A whole training of a light network: its rate, seconds, and peak memory."""
    name = ["--runs", str(folder), "--name", f"run{len(list(folder.iterdir()))}"]
    _, figures = in_own_process([*program, "train", folder / "pictures", "--quiet", *LIGHT, *name, *more])
    return row(what, last_epoch(events_of(folder / name[-1]))["rate"], **figures)


def photographs(root: Path, count: int) -> None:
    """So many JPEG files of 400 pixels in two classes, of a few kinds."""
    jpegs = jpeg_pictures(min(count, JPEG_PICTURES))
    for number in range(count):
        folder = root / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(jpegs[number % len(jpegs)])


def doubled(most: int) -> list[int]:
    """1, 2, 4, … and `most`."""
    return sorted({*(2**power for power in range(most.bit_length())), most})


PARTS: dict[str, Callable[[float, bool], Iterator[Row]]] = {
    "size": by_size,
    "depth": by_depth,
    "batch": by_batch,
    "threads": by_threads,
    "pictures": by_pictures,
    "processes": by_processes,
}

if __name__ == "__main__":
    keep_freed_memory()
    main()
