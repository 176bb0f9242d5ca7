"""Sides of a comparison in turns: each run in a process of its own, a JSON line a run, a Markdown table of all.

A file of lines that is there already is taken up: what it has is not run again, so that a comparison may be
stopped at any moment, and given more rounds later.
"""

import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from resnets.base.machine import bf16_units_in_words, cores, memory_bytes, processor_name

Record = dict[str, Any]
RESNETS = Path(sys.executable).with_name("resnets")  # the program
POLL_SECONDS = 0.2  # between two looks at the memory of a process; what it takes in its last ones is missed


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared: `case` in words, `settings` that a stored line must share, and what runs each side.

    A side is called with the round's number (from 0), which a training may take as its seed, and gives a record
    with at least `rate`, in `unit`; the first side is the one that others are compared with.
    """

    case: str
    settings: Record
    sides: dict[str, Callable[[int], Record]]
    unit: str = "images/s"


def run_rounds(comparisons: Sequence[Comparison], *, rounds: int, out: Path) -> list[Record]:
    """All records, those that `out` had included; each round begins with another side."""
    records = [record for record in stored(out) if any(belongs(record, one) for one in comparisons)]
    done = {(record["case"], record["side"], record["round"]) for record in records}
    for turn in range(rounds):
        for one in comparisons:
            names = list(one.sides)
            start = turn % len(names)
            for side in names[start:] + names[:start]:
                if (one.case, side, turn) in done:
                    continue
                head = {"case": one.case, "side": side, "round": turn, "date": str(datetime.date.today())}
                record = (
                    head
                    | {"settings": one.settings, "machine": machine(), "unit": one.unit}
                    | one.sides[side](turn)
                )
                with out.open("a") as lines:
                    lines.write(json.dumps(record) + "\n")
                records.append(record)
                print(f"round {turn + 1}, {one.case}, {side}: {record['rate']:,.1f} {one.unit}", flush=True)
    return records


def stored(out: Path) -> list[Record]:
    """The lines of a file; a torn last one, of a run that was killed, is cut off."""
    if not out.exists():
        return []
    whole, _, torn = out.read_text().rpartition("\n")
    if torn:
        out.write_text(whole + "\n" if whole else "")
    return [json.loads(line) for line in whole.splitlines()]


def belongs(record: Record, comparison: Comparison) -> bool:
    return (
        record["case"] == comparison.case
        and record["side"] in comparison.sides
        and record["settings"] == json.loads(json.dumps(comparison.settings))
        and record["machine"] == machine()
    )


def table(records: Sequence[Record], comparisons: Sequence[Comparison]) -> str:
    """A Markdown table: medians and quartiles, and how many times as fast the first side is, round by round."""
    rows = [
        ["case", "side", "rate, median [quartiles]", "n", "the first is so many times as fast", "peak memory, MB"],
        ["---"] * 6,
    ]
    for one in comparisons:
        mine = [record for record in records if record["case"] == one.case]
        ours, *_ = one.sides
        rates = {side: {r["round"]: r["rate"] for r in mine if r["side"] == side} for side in one.sides}
        for side, by_round in rates.items():
            if not by_round:
                continue
            both = sorted(rates[ours].keys() & by_round.keys()) if side != ours else []
            ratio = spread([rates[ours][turn] / by_round[turn] for turn in both]) if both else ""
            peaks = [r["peak_mb"] for r in mine if r["side"] == side and "peak_mb" in r]
            peak = f"{statistics.median(peaks):,.0f}" if peaks else ""
            rate = f"{spread(list(by_round.values()))} {one.unit}"
            rows.append([one.case, side, rate, str(len(by_round)), ratio, peak])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def spread(values: Sequence[float]) -> str:
    """`12.3 [11.8, 12.9]`; one value alone has no quartiles."""
    if len(values) < 2:
        return figure(values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{figure(middle)} [{figure(low)}, {figure(high)}]"


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def machine() -> str:
    """This machine in words, for the record beside a figure."""
    gib, torch = memory_bytes() / 2**30, metadata.version("torch")
    return f"{processor_name()}, {cores()} cores, {bf16_units_in_words()}, {gib:.0f} GiB, torch {torch}"


def in_own_process(command: Sequence[str | Path]) -> tuple[str, Record]:
    """What a command prints, its `seconds`, and on Linux `peak_mb`: of its main process, without its workers."""
    started, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen([str(word) for word in command], stdout=printed)
        try:
            while process.poll() is None:
                peak = max(peak, high_water(process.pid))
                time.sleep(POLL_SECONDS)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.returncode:
            sys.exit(f"status {process.returncode} of: {' '.join(map(str, command))}")
        printed.seek(0)
        figures: Record = {"seconds": round(time.monotonic() - started, 2)}
        return printed.read(), figures | ({"peak_mb": round(peak / 1e6)} if peak else {})


def high_water(pid: int) -> int:
    """Bytes that a process has held at most so far; 0 where that is not known.

    Not ru_maxrss, which begins at what the parent held when it started the process.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def side_of(script: str, side: str, job: Record, turn: int) -> Record:
    """The record that `script --side SIDE --job JSON` prints on its last line, run in a process of its own."""
    job = {**job, "round": turn}
    printed, figures = in_own_process([sys.executable, script, "--side", side, "--job", json.dumps(job)])
    return {**json.loads(printed.splitlines()[-1]), **figures}


def events_of(run: Path) -> list[Record]:
    """The log of a run of `resnets train`."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def last_epoch(events: Iterable[Record]) -> Record:
    """The rate of the last epoch of a run, and the share of its time that went into waiting for pictures."""
    epoch = [event for event in events if event["event"] == "epoch"][-1]
    return {"rate": epoch["images_per_second"], "waiting": epoch["waiting"]}


def rate_of(loader: Iterable[Any], step: Callable[[Any, Any], None], epochs: int) -> float:
    """Pictures a second of the last epoch, from the first batch asked for to the last step done."""
    rate = 0.0
    for _ in range(epochs):
        started, pictures = time.monotonic(), 0
        for images, labels in loader:
            step(images, labels)
            pictures += len(images)
        rate = pictures / (time.monotonic() - started)
    return rate


def allow_torchvision() -> None:
    """Let torchvision be imported beside a torch without its kernels, which are not needed here."""
    if "torchvision" in sys.modules:
        return
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    torchvision.kept_alive = library  # the operators go when the library object does
