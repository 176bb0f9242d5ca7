"""Real training processes that are killed: what the tests and the proof of exact resume share."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import safetensors.torch
import torch

RUN = ["--epochs", "40", "--seed", "3", "--threads", "1", "--save-minutes", "0.003", "--quiet", "--mixup", "0.2"]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "resnets", *map(str, arguments)]


def train_whole(runs: Path, data: Path | str, *, name: str) -> Path:
    """A run that nothing interrupts."""
    arguments = command("train", data, "--runs", runs, "--name", name, *RUN)
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return runs / name


def train_killed(runs: Path, data: Path | str, *, name: str, kills: int, seed: int) -> tuple[Path, list[int]]:
    """The same run, killed with SIGKILL at random moments of its training and resumed until it ends.

    Gives the run and the steps at which its log stood when it was killed.
    """
    run, chance, steps = runs / name, random.Random(seed), []
    log = run / "events.jsonl"
    for _ in range(kills):
        seen = len(log.read_bytes()) if log.exists() else 0
        process = subprocess.Popen(_next(run, data, name), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and (not log.exists() or len(log.read_bytes()) <= seen):
            assert time.monotonic() < deadline, "training did not begin"
            time.sleep(0.01)
        time.sleep(chance.random() * 0.9)
        process.send_signal(signal.SIGKILL)
        process.wait()
        events = [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]]
        if events and events[-1]["event"] == "end":
            return run, steps  # its work was done before the kill
        steps.append(max((event.get("step", 0) for event in events), default=0))
    subprocess.run(_next(run, data, name), check=True, stdout=subprocess.DEVNULL)
    return run, steps


def _next(run: Path, data: Path | str, name: str) -> list[str]:
    if (run / "events.jsonl").exists() and b"\n" in (run / "events.jsonl").read_bytes():
        return command("train", "--resume", run, "--quiet")
    if run.exists():  # killed before its plan was written: nothing was lost, it starts again
        for file in run.iterdir():
            file.unlink()
        run.rmdir()
    return command("train", data, "--runs", run.parent, "--name", name, *RUN)


def differing_tensors(first: Path, second: Path) -> list[str]:
    """Which tensors of the two runs differ in any bit: the model file, and every file of the last checkpoint."""
    different = []
    steps = {(run / "checkpoint" / "latest").read_text() for run in (first, second)}
    if len(steps) != 1:
        return [f"last checkpoints {steps}"]
    last = Path("checkpoint", steps.pop().strip())
    names = [
        "model.safetensors",
        *(str(last / f"{role}.safetensors") for role in ("network", "average", "optimizer")),
    ]
    for name in names:
        ours, theirs = (safetensors.torch.load_file(run / name) for run in (first, second))
        if ours.keys() != theirs.keys():
            different.append(f"{name}: names")
        different += [f"{name}: {key}" for key in ours if not torch.equal(ours[key], theirs[key])]
    positions = [json.loads((run / last / "state.json").read_text())["position"] for run in (first, second)]
    for position in positions:
        del position["seconds"]  # what the clock says
    if positions[0] != positions[1]:
        different.append(f"positions {positions}")
    return different
