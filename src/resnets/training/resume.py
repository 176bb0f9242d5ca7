"""What a resume needs to know: the recorded plan, what may change in it, and what then makes it inexact."""

import hashlib
import json
import os
import shlex
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnets.base.errors import RunError, UsageError
from resnets.base.machine import pick_device
from resnets.base.options import flag_of
from resnets.base.program import command_line
from resnets.base.text import counted, printable
from resnets.base.world import restarts, world
from resnets.data.manifest import Manifest
from resnets.training.compiling import check_compiler
from resnets.training.config import RESUMABLE, TrainConfig, changed
from resnets.training.plan import Plan, differences, environment_of, extend
from resnets.training.run import EVENTS, LAUNCH, read_events


def resume_command(run: Path) -> str:
    """What goes on with a run, as it can be typed here."""
    here = world()
    if here.size == 1:
        return command_line("train", "--resume", str(run))
    machines = [] if here.local_size == here.size else ["--nnodes", str(here.size // here.local_size)]
    launch = ["torchrun", *machines, "--nproc-per-node", str(here.local_size), "-m", "resnets"]
    return shlex.join([*launch, "train", "--resume", str(run)])


def launch_key(data: Any, config: TrainConfig) -> str | None:
    """What is the same when torchrun starts this command again, and differs from other starts; None without it."""
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    if launch is None:
        return None
    if launch == "none":  # torchrun was given no --rdzv-id: it is the process that has started this one
        launch = f"{socket.gethostname()}/{os.getppid()}"
    address = str(data) if isinstance(data, str | Path) else None
    asked = {name: repr(value) for name, value in changed(config).items()}
    return hashlib.blake2b(json.dumps([launch, address, asked]).encode(), digest_size=16).hexdigest()


def begun_before(runs: Path, key: str | None) -> Path | None:
    """The run that this command had begun before torchrun, after a failure, started it again; or None."""
    if key is None or restarts() == 0:
        return None
    begun = [file for file in runs.glob(f"*/{LAUNCH}") if file.read_text() == key]
    return max(begun, key=lambda file: file.stat().st_mtime).parent if begun else None


def refuse_other_options(config: TrainConfig) -> None:
    """Raise UsageError where an option would change what the run was planned to be."""
    others = [flag_of(name) for name in changed(config) if name not in RESUMABLE]
    if others:
        allowed = ", ".join(flag_of(name) for name in RESUMABLE)
        raise UsageError(
            f"{', '.join(others)} cannot be given with --resume, which takes {allowed}; start a new run"
        )


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What `events.jsonl` knows of a run.

    first: the plan it began with. latest: the plan in force. data: the manifest's hash. origin: of the first
    weights. finished: it has ended. plan_length: bytes of the log up to and with the first plan.
    """

    first: Plan
    latest: Plan
    data: str
    origin: dict[str, Any]
    finished: bool
    plan_length: int


def recorded(run: Path) -> Recorded:
    """Read the log of a run folder. Raises RunError where there is none, or no plan in it."""
    path = run / EVENTS
    if not path.exists():
        raise RunError(f"{printable(str(run))} is no run folder: it has no {EVENTS}; give the folder of a run")
    events = read_events(path)
    if not events or events[0]["event"] != "plan":
        raise RunError(f"{run} was stopped before its plan was written; remove the folder and start again")
    plans = [event for event in events if event["event"] in ("plan", "resume")]
    with path.open("rb") as handle:
        plan_length = len(handle.readline())
    return Recorded(
        first=Plan.from_json(plans[0]["plan"]),
        latest=Plan.from_json(plans[-1]["plan"]),
        data=events[0]["data"],
        origin=events[0]["origin"],
        finished=events[-1]["event"] == "end",
        plan_length=plan_length,
    )


def recorded_device(run: Path) -> str | None:
    """Where a run computes; None where its folder does not say, or is on another machine."""
    try:
        return _device_here(recorded(run).latest.config.device)
    except RunError:
        return None


def _device_here(device: str | None) -> str | None:
    """Of several processes each takes a GPU of its own, whichever the run had."""
    return device if device is None or world().size == 1 else device.partition(":")[0]


def changed_plan(plan: Plan, config: TrainConfig, run: Path, *, finished: bool) -> Plan:
    """The plan with what a resume may change, in the environment of this moment.

    Raises RunError where a finished run is not extended, and where the run's device is missing.
    """
    if config.epochs is not None and config.epochs != plan.config.epochs:
        plan = extend(plan, epochs=config.epochs)
    elif finished:
        raise RunError(
            f"{run} is finished; extend it with: {resume_command(run)} --epochs {2 * (plan.config.epochs or 1)}"
        )
    asked = replace(
        plan.config, threads=config.threads or plan.config.threads, track=config.track or plan.config.track
    )
    try:
        pick_device(_device_here(asked.device))
    except UsageError as error:
        raise RunError(
            f"{run} computes on {asked.device}, which is not here; resume it where there is one"
        ) from error
    if asked.compile:
        check_compiler(asked.device or "cpu")
    return replace(plan, config=asked, environment=environment_of(asked))


def departures_of(before: Plan, now: Plan, earlier: list[str]) -> list[str]:
    """Why the run, taken up with the plan `now`, is not the one that was planned; `earlier` ones stay."""
    changes = differences(before.environment, now.environment)
    if now.config.compile:  # for the shapes that come, in the order that they come in
        changes.append("compiled anew by torch")
    if now.config.epochs != before.config.epochs:
        changes.append(f"extended from {before.config.epochs} to {now.config.epochs} epochs")
    return list(dict.fromkeys([*earlier, *changes]))


def first_change(now: Manifest, before: Manifest) -> str:
    """How the data differs from what it was, with one file as an example."""
    old = dict(zip(before.paths(), before.table["content"].to_pylist(), strict=True))
    new = dict(zip(now.paths(), now.table["content"].to_pylist(), strict=True))
    for word, paths in (
        ("missing", old.keys() - new.keys()),
        ("new", new.keys() - old.keys()),
        ("changed", {path for path in old.keys() & new.keys() if old[path] != new[path]}),
    ):
        if paths:
            return f"{counted(len(paths), 'file')} {word}, such as {printable(min(paths))}"
    return "classes or parts differ"
