"""How long an accuracy takes on real small pictures: `resnets train` beside a plain loop and airbench94, in turns.

    python benchmarks/plain_loop.py CIFAR10 --out plain-cifar10/          # first, once: the accuracy to reach
    python benchmarks/time_to_accuracy.py CIFAR10 --plain plain-cifar10/ --flags "--model … --epochs …"
    python benchmarks/time_to_accuracy.py CIFAR10 --airbench airbench94_muon.py --evaluate "--views flip-shift"

A turn is one seed. `resnets` is the whole command in a process of its own, start-up and the measurement of the
test pictures included (`--all-train` is always given: nothing is chosen), with --evaluate the separate `resnets
evaluate` too, whose accuracy then counts. The plain loop's time is that of two of its epochs in the same turn,
times the half of its epochs. airbench94's is of its training and last measurement (see airbench.py). Rates are
whole trainings an hour, so that the table's ratios are of times.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rounds import RESNETS, Comparison, Record, in_own_process, run_rounds, spread, table

HERE = Path(__file__).parent
TIMED_EPOCHS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--flags", default="", help="of `resnets train`")
    parser.add_argument("--evaluate", default="", help="flags of a `resnets evaluate` after it")
    parser.add_argument("--plain", type=Path, help="what plain_loop.py left behind")
    parser.add_argument("--airbench", type=Path, help="airbench94_muon.py")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("time_to_accuracy.jsonl"))
    options = parser.parse_args()
    sides: dict[str, Callable[[int], Record]] = {
        "resnets": partial(resnets_side, options.data, options.flags, options.evaluate)
    }
    if options.plain:
        sides["plain loop"] = partial(plain_side, options.data, options.plain)
    if options.airbench:
        sides["airbench94"] = partial(airbench_side, options.data, options.airbench)
    settings = {"flags": options.flags, "evaluate": options.evaluate}
    comparison = Comparison(
        case=f"{Path(options.data).name}, time to accuracy", settings=settings, sides=sides, unit="trainings/hour"
    )
    records = run_rounds([comparison], rounds=options.seeds, out=options.out)
    print("\n" + table(records, [comparison]) + "\n")
    for side in sides:
        mine = [record for record in records if record["side"] == side]
        seconds = spread([3600 / record["rate"] for record in mine])
        percent = ", ".join(f"{100 * record['top1']:.2f}" for record in mine)
        mean = 100 * statistics.mean(record["top1"] for record in mine)
        print(f"{side}: {seconds} s; {percent}% of the test pictures right, mean {mean:.2f}%, n = {len(mine)}")


def resnets_side(data: str, flags: str, evaluate: str, turn: int) -> Record:
    """A training with the round's number as its seed, and if flags for it are given another measurement."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        where = ["--name", run.name, "--runs", folder, "--seed", str(turn)]
        command = [RESNETS, "train", data, "--all-train", "--json", *where, *shlex.split(flags)]
        printed, figures = in_own_process(command)
        top1 = one_view = json.loads(printed)["heads"]["label"]["top1"]
        seconds = figures["seconds"]
        if evaluate:
            printed, more = in_own_process([RESNETS, "evaluate", run, data, "--json", *shlex.split(evaluate)])
            top1 = json.loads(printed)["heads"]["label"]["top1"]
            seconds += more["seconds"]
    return figures | {"rate": 3600 / seconds, "seconds": seconds, "top1": top1, "one_view": one_view}


def plain_side(data: str, done: Path, _: int) -> Record:
    """Two epochs now, and the accuracy of the whole training that plain_loop.py did."""
    result = json.loads((done / "result.json").read_text())
    script = [sys.executable, HERE / "plain_loop.py", data, "--epochs", str(TIMED_EPOCHS)]
    printed, figures = in_own_process(script)
    seconds = json.loads(printed)["seconds"] * result["epochs"] / TIMED_EPOCHS
    return figures | {"rate": 3600 / seconds, "seconds": seconds, "top1": result["top1"]}


def airbench_side(data: str, script: Path, turn: int) -> Record:
    printed, figures = in_own_process([sys.executable, HERE / "airbench.py", script, data, "--seed", str(turn)])
    found = json.loads(printed.splitlines()[-1])
    return figures | {"rate": 3600 / found["seconds"], **found}


if __name__ == "__main__":
    main()
