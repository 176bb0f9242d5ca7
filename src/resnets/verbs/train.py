"""`resnets.train`: from a source of pictures to a run folder, or on from where a run folder stands."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from resnets.base.errors import RunError, UsageError, WorkStopped, is_out_of_memory
from resnets.base.text import counted
from resnets.data.dataset import Data
from resnets.data.manifest import Manifest
from resnets.evaluation.predict import threads_of
from resnets.networks import kernels
from resnets.networks.variants import variant
from resnets.training import run as folder
from resnets.training.checkpoint import load_checkpoint
from resnets.training.config import TrainConfig, read_config, write_config
from resnets.training.default_weights import with_default_weights
from resnets.training.distributed import Group, process_group, refuse_impossible, shared_data
from resnets.training.finish import finish
from resnets.training.gallery import Gallery
from resnets.training.imbalance import warn_of_rare
from resnets.training.loop import OnEvent, Training
from resnets.training.memory import fit, spare_memory
from resnets.training.pace import epochs_within, measured_rate
from resnets.training.plan import Plan, differences, make_plan, plan_line, warn_of_few
from resnets.training.probe import Probe, probe
from resnets.training.reproducible import kernels_of
from resnets.training.resume import (
    begun_before,
    changed_plan,
    departures_of,
    first_change,
    launch_key,
    recorded,
    recorded_device,
    refuse_other_options,
    resume_command,
)
from resnets.training.signals import Stop, listening
from resnets.training.start import (
    OnProgress,
    as_weights_ask,
    data_origin,
    first_teacher,
    first_weights,
    lasting_address,
    open_for_training,
    planned_network,
    with_lasting_paths,
)
from resnets.training.tracking import check_trackers, open_trackers
from resnets.training.watch import is_interactive, show
from resnets.weights.modelfile import Model, load

log = logging.getLogger("resnets")

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run.

    path: its folder. model: the model file. split: the part its figures are of, `test` or `val` (None: neither).
    n: pictures of that part. heads: head -> figures, as `evaluate` gives them. score: the combined one of several
    heads. left_out: files left out.
    """

    path: Path
    model: Path
    split: str | None
    n: int
    heads: Figures
    score: Figures | None = None
    left_out: int
    seconds: float

    def load(self) -> Model:
        """Network, classes and preprocessing of the model file."""
        return load(self.model)

    def to_json(self) -> dict[str, Any]:
        outputs = [str(path) for path in sorted(self.path.iterdir()) if path.is_file() and path.name[0] != "."]
        return {
            "run": str(self.path),
            "model": str(self.model),
            "split": self.split,
            "n": self.n,
            "heads": self.heads,
            "score": self.score,
            "left_out": self.left_out,
            "seconds": round(self.seconds, 3),
            "outputs": outputs,
        }


def train(
    data: Any = None,
    *,
    config: TrainConfig | None = None,
    resume: Path | str | None = None,
    network: nn.Module | None = None,
    on_event: OnEvent | None = None,
    on_progress: OnProgress | None = None,
) -> Run:
    """Train a network on `data`, or go on with the run folder `resume`.

    data: a name, a folder, a file, arrays, a map-style dataset or {part: dataset} (see `open_data`). With `resume`
        it is only needed where the run's data was in memory.
    config: the options; with `resume` only epochs, threads, track and exact.
    network: a module of your own, (B, C, H, W) to (B, classes), trained in place of a named one.
    on_event: called with each event of the run as it happens, those of `events.jsonl` and a few more. Without it a
        notebook or a prompt is shown a line an epoch, and a script nothing.
    on_progress: called while pictures are read, with what is done, how many, and of how many.

    Several processes that torchrun has started train one network; the first of them writes, and calls the two.

    Ctrl-C and SIGTERM save and raise Interrupted, whose message has the command that resumes. Raises UsageError,
    DataError and RunError before anything is written, NotFinite and OutOfSpace with the last checkpoint kept.
    """
    config = config or TrainConfig()
    started = time.monotonic()
    check_trackers(config.track)
    if resume is None and data is None:
        raise UsageError("train needs pictures: a folder, a file or a name such as digits; or --resume RUN")
    device = config.device if resume is None else recorded_device(Path(resume))
    with process_group(device) as group:
        tell = on_event or (show if is_interactive() else None)
        caller = _Caller(
            group=group,
            tell=tell if tell is not None and group.leads else lambda event: None,
            progress=on_progress if on_progress is not None and group.leads else lambda label, done, total: None,
            started=started,
        )
        refuse_impossible(config)
        key = launch_key(data, config)
        if resume is not None:
            return _resume(data, Path(resume), config, network, caller)
        begun = group.lead(lambda: begun_before(Path(config.runs), key))
        if begun is not None:
            return _resume(data, begun, TrainConfig(exact=config.exact), network, caller)
        return _start(data, config, network, caller, key)


@dataclass(frozen=True, kw_only=True)
class _Caller:
    """The processes that were asked for a run, what hears of it, and when it was asked for."""

    group: Group
    tell: OnEvent
    progress: OnProgress
    started: float


def _start(data: Any, config: TrainConfig, network: nn.Module | None, caller: _Caller, key: str | None) -> Run:
    group, progress = caller.group, caller.progress
    runs = Path(config.runs)
    if group.leads:
        if config.name is not None:
            folder.refuse_taken(runs, config.name)
        folder.refuse_unwritable(runs)
    if config.model is not None and network is None:
        variant(config.model)  # a wrong name is told before the pictures are read
    asked = group.lead(lambda: as_weights_ask(with_lasting_paths(config), progress))
    opened = shared_data(group, lambda: open_for_training(data, asked, progress))
    choice = None
    if network is None:
        asked, choice = group.lead(lambda: with_default_weights(asked, opened, progress))
    with threads_of(asked.used_threads), kernels_of(asked):
        gallery = Gallery(opened, threads=asked.threads, progress=progress)
        foreign = network is not None
        plan = group.lead(lambda: make_plan(asked, opened, measure=gallery.mean_std, foreign=foreign))
        base = planned_network(plan) if network is None else network
        parts = group.lead(lambda: fit(plan, base))
        plan = parts.of(plan)
        origin, line = group.lead(lambda: first_weights(base, plan, gallery, progress))
        teacher = first_teacher(plan, origin)
        probes = group.lead(lambda: _probes(base, plan, gallery)) if asked.probe else []
        if asked.minutes is not None:
            left = asked.minutes * 60 - (time.monotonic() - caller.started)
            plan = parts.of(_paced(asked, plan, opened, base, gallery, group, seconds=left, foreign=foreign))
        default = f"{folder.plain_name(opened.name)}-{folder.plain_name(plan.config.model or '')}"
        run = group.lead(lambda: folder.new_run_folder(runs, name=asked.name, default=default))
        with _held(run, group) as stop:
            events = None
            if group.leads:
                warn_of_few(plan)
                warn_of_rare(opened)
                address = lasting_address(data) if isinstance(data, str | Path) else None
                write_config(run / folder.CONFIG, data=address, asked=asked, resolved=plan.config)
                opened.manifest.write(run / folder.MANIFEST)
                events = _planned(run, plan, opened, caller, origin, notes=(choice, line))
                if probes:
                    text = "; ".join(one.line() for one in probes)
                    caller.tell(events.append("probe", text=text, probes=[one.to_json() for one in probes]))
                if key is not None:
                    (run / folder.LAUNCH).write_text(key)
            origin = origin | data_origin(opened, run, plan.config)
            training = _training(caller, plan, opened, base, run, origin, events, gallery, stop, teacher)
            return _train_and_finish(training, caller)


def _planned(
    run: Path, plan: Plan, opened: Data, caller: _Caller, origin: dict[str, Any], notes: Iterable[str | None]
) -> folder.Events:
    """The log of a new run, with its plan."""
    events = folder.Events(run / folder.EVENTS)
    caller.tell({"event": "note", "text": opened.summary()})
    plan_event = {"plan": plan.to_json(), "data": opened.manifest.hash(), "origin": origin}
    caller.tell(events.append("plan", text=plan_line(plan), **plan_event))
    for note in notes:
        if note is not None:
            caller.tell(events.append("note", text=note))
    return events


@contextlib.contextmanager
def _held(run: Path, group: Group) -> Iterator[Stop]:
    """The run's lock, in the process that writes it; signals, in all."""
    with folder.locked(run) if group.leads else contextlib.nullcontext(), listening(resume_command(run)) as stop:
        yield stop


def _training(
    caller: _Caller,
    plan: Plan,
    opened: Data,
    network: nn.Module,
    run: Path,
    origin: dict[str, Any],
    events: folder.Events | None,
    gallery: Gallery,
    stop: Stop,
    teacher: Model | None,
) -> Training:
    spared = spare_memory(plan, network)
    if spared is not None and events is not None:
        caller.tell(events.append("note", text=spared))
    return Training(
        plan,
        opened,
        network,
        run=run,
        origin=origin,
        group=caller.group,
        events=events,
        on_event=caller.tell,
        gallery=gallery,
        stop=stop,
        teacher=teacher,
    )


def _probes(network: nn.Module, plan: Plan, gallery: Gallery) -> list[Probe]:
    known, new = (gallery.evaluation(part, plan.preprocess) for part in ("train", "val"))
    config = plan.config
    return probe(network, known, new, heads=plan.heads, device=config.device or "cpu", threads=config.threads or 1)


def _paced(
    config: TrainConfig,
    plan: Plan,
    data: Data,
    network: nn.Module,
    gallery: Gallery,
    group: Group,
    *,
    seconds: float,
    foreign: bool,
) -> Plan:
    """The plan with the epochs that end within `seconds`, at a rate that is measured now."""
    started = time.monotonic()
    with group.locally_first():
        pictures = gallery.training(plan.preprocess, plan.augment)
    rate = measured_rate(plan, network, pictures, group)

    def planned() -> Plan:
        left = seconds - (time.monotonic() - started)
        epochs = epochs_within(left, plan, rate)
        statistics = plan.preprocess.mean, plan.preprocess.std
        asked = replace(config, epochs=epochs, minutes=None)
        paced = make_plan(asked, data, measure=lambda _: statistics, foreign=foreign)
        reason = f"{counted(epochs, 'epoch')} in {config.minutes:g} minutes at {rate:,.0f} images/s"
        return replace(paced, reasons=(reason, *paced.reasons), seconds=left)

    return group.lead(planned)


def _resume(data: Any, run: Path, config: TrainConfig, network: nn.Module | None, caller: _Caller) -> Run:
    refuse_other_options(config)
    group, progress = caller.group, caller.progress
    before = group.lead(lambda: recorded(run))
    with _held(run, group) as stop, kernels_of(before.latest.config):
        plan = group.lead(lambda: changed_plan(before.latest, config, run, finished=before.finished))
        opened = shared_data(group, lambda: _same_data(data, run, plan.config, progress, expected=before.data))
        checkpoint = group.lead(lambda: load_checkpoint(run))
        earlier = checkpoint.state["position"]["departures"] if checkpoint else []
        departures = departures_of(before.first, plan, earlier)
        elsewhere = differences(before.first.environment, plan.environment) if plan.config.reproducible else []
        if refused := departures if config.exact else elsewhere:
            raise RunError(f"an exact resume is not possible here: {'; '.join(refused)}")
        with threads_of(plan.config.threads):
            gallery = Gallery(opened, threads=plan.config.threads, progress=progress)
            base = planned_network(plan) if network is None else network
            if checkpoint is None and group.leads:
                first_weights(base, plan, gallery, progress)
            events = folder.Events(run / folder.EVENTS) if group.leads else None
            origin = before.origin | data_origin(opened, run, plan.config)
            teacher = first_teacher(plan, origin)
            training = _training(caller, plan, opened, base, run, origin, events, gallery, stop, teacher)
            if checkpoint is not None:
                training.restore(checkpoint)
            position = training.position
            position.departures = departures
            how = "continued, not exact: " + "; ".join(position.departures) if position.departures else "exact"
            training.record(
                "resume",
                text=f"resumed at step {position.step:,} of {training.course.steps:,} ({how})",
                step=position.step,
                events_length=checkpoint.state["events_length"] if checkpoint else before.plan_length,
                plan=plan.to_json(),
                departures=position.departures,
            )
            return _train_and_finish(training, caller)


def _train_and_finish(training: Training, caller: _Caller) -> Run:
    config = training.plan.config
    run = training.run
    trackers = open_trackers(
        config.track if caller.group.leads else (),
        run_folder=run,
        run_name=run.name,
        config=training.plan.to_json()["config"],
        project=config.project,
    )
    training.trackers = trackers
    try:
        training.train()
        with kernels.using(False):  # figures are measured as `evaluate` measures them
            split, evaluation = finish(training)
        trackers.summary(_headlines(split, evaluation))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise WorkStopped(
            f"there is not enough memory for this run; its state is kept, and {resume_command(run)} goes on where "
            "there is more; or start a new run with a smaller --batch or --size, or with --accumulate 2"
        ) from error
    finally:
        trackers.close()
    return Run(
        path=run,
        model=run / folder.MODEL,
        split=split,
        n=evaluation["n"],
        heads=evaluation["heads"],
        score=evaluation["score"],
        left_out=len(training.data.left_out) + len(training.position.bad),
        seconds=time.monotonic() - caller.started,
    )


def _headlines(split: str | None, evaluation: Figures) -> dict[str, float]:
    """The figures of a whole run for trackers: top-1 or mean average precision a head, and the combined score."""
    figures = {
        f"{split}_{head}_{name}": values[name]
        for head, values in evaluation["heads"].items()
        for name in ("top1", "map")
        if name in values
    }
    return figures | ({f"{split}_score": evaluation["score"]["value"]} if evaluation["score"] else {})


def _same_data(data: Any, run: Path, config: TrainConfig, progress: OnProgress, *, expected: str) -> Data:
    """The data a run began with, from where its config says it is. Raises RunError where it is gone or another."""
    if data is None:
        data, _ = read_config(run / folder.CONFIG)
        if data is None:
            raise RunError(f"the data of {run} was in memory: resume from Python, resnets.train(data, resume=…)")
        if Path(data).is_absolute() and not Path(data).exists():
            raise RunError(f"the data of {run} is no longer at {data}; put it back there and resume again")
    opened = open_for_training(data, config, progress)
    if opened.manifest.hash() != expected:
        change = first_change(opened.manifest, Manifest.read(run / folder.MANIFEST))
        raise RunError(f"the data has changed since {run} began ({change}); start a new run")
    return opened
