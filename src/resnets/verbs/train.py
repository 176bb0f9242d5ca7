"""`resnets.train`: from a source of pictures to a run folder, or on from where a run folder stands."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnets._version import VERSION
from resnets.base.errors import RunError, UsageError, WorkStopped, is_out_of_memory
from resnets.base.machine import cores
from resnets.base.text import counted
from resnets.data.dataset import Data, open_data
from resnets.data.manifest import Manifest
from resnets.data.options import ASKED, PLACE, data_options
from resnets.evaluation.predict import threads_of
from resnets.networks import kernels
from resnets.networks.resnet import build
from resnets.networks.variants import variant
from resnets.preprocess import CHANNELS, HALF
from resnets.training import run as folder
from resnets.training.checkpoint import load_checkpoint
from resnets.training.config import TrainConfig, read_config, write_config
from resnets.training.finish import finish
from resnets.training.gallery import Gallery
from resnets.training.imbalance import warn_of_rare
from resnets.training.loop import OnEvent, Training
from resnets.training.pace import epochs_within, measured_rate
from resnets.training.plan import Plan, make_plan, plan_line, warn_of_few
from resnets.training.recalibrate import unfold
from resnets.training.resume import (
    changed_plan,
    departures_of,
    first_change,
    recorded,
    refuse_other_options,
    resume_command,
)
from resnets.training.signals import listening
from resnets.training.tracking import check_trackers, open_trackers
from resnets.training.watch import is_interactive, show
from resnets.weights.loading import initialise, network_of
from resnets.weights.modelfile import LICENCE, RECEIPT, Model, load

log = logging.getLogger("resnets")

OnProgress = Callable[[str, int, int | None], None]  # what is being done, how many are done, of how many
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

    Ctrl-C and SIGTERM save and raise Interrupted, whose message has the command that resumes. Raises UsageError,
    DataError and RunError before anything is written, NotFinite and OutOfSpace with the last checkpoint kept.
    """
    config = config or TrainConfig()
    started = time.monotonic()
    check_trackers(config.track)
    tell = on_event or (show if is_interactive() else lambda event: None)
    progress = on_progress or (lambda label, done, total: None)
    if resume is not None:
        return _resume(data, Path(resume), config, network, tell, progress, started)
    if data is None:
        raise UsageError("train needs pictures: a folder, a file or a name such as digits; or --resume RUN")
    return _start(data, config, network, tell, progress, started)


def _start(
    data: Any,
    config: TrainConfig,
    network: nn.Module | None,
    tell: OnEvent,
    progress: OnProgress,
    started: float,
) -> Run:
    runs = Path(config.runs)
    if config.name is not None:
        folder.refuse_taken(runs, config.name)
    folder.refuse_unwritable(runs)
    if config.model is not None and network is None:
        variant(config.model)  # a wrong name is told before the pictures are read
    config = _as_weights_ask(_with_lasting_paths(config), progress)
    opened = _open(data, config, progress)
    with threads_of(config.threads or cores()), kernels.using(True):
        gallery = Gallery(opened, threads=config.threads, progress=progress)
        plan = make_plan(config, opened, measure=gallery.mean_std, foreign=network is not None)
        base = _network(plan) if network is None else network
        origin, line = _first_weights(base, plan, gallery, progress)
        if config.minutes is not None:
            left = config.minutes * 60 - (time.monotonic() - started)
            plan = _paced(config, plan, opened, base, gallery, seconds=left, foreign=network is not None)
        default = f"{folder.plain_name(opened.name)}-{folder.plain_name(plan.config.model or '')}"
        run = folder.new_run_folder(runs, name=config.name, default=default)
        warn_of_few(plan)
        warn_of_rare(opened)
        with folder.locked(run), listening(resume_command(run)) as stop:
            address = _lasting(data) if isinstance(data, str | Path) else None
            write_config(run / folder.CONFIG, data=address, asked=config, resolved=plan.config)
            opened.manifest.write(run / folder.MANIFEST)
            events = folder.Events(run / folder.EVENTS)
            tell({"event": "note", "text": opened.summary()})
            tell(
                events.append(
                    "plan", text=plan_line(plan), plan=plan.to_json(), data=opened.manifest.hash(), origin=origin
                )
            )
            if line is not None:
                tell(events.append("note", text=line))
            origin |= _data_origin(opened, run, plan.config)
            training = Training(
                plan,
                opened,
                base,
                run=run,
                origin=origin,
                events=events,
                on_event=tell,
                gallery=gallery,
                stop=stop,
            )
            return _train_and_finish(training, started)


def _paced(
    config: TrainConfig,
    plan: Plan,
    data: Data,
    network: nn.Module,
    gallery: Gallery,
    *,
    seconds: float,
    foreign: bool,
) -> Plan:
    """The plan with the epochs that end within `seconds`, at a rate that is measured now."""
    started = time.monotonic()
    rate = measured_rate(plan, network, gallery.training(plan.preprocess, plan.augment))
    epochs = epochs_within(seconds - (time.monotonic() - started), plan, rate)
    statistics = plan.preprocess.mean, plan.preprocess.std
    asked = replace(config, epochs=epochs, minutes=None)
    paced = make_plan(asked, data, measure=lambda _: statistics, foreign=foreign)
    reason = f"{counted(epochs, 'epoch')} in {config.minutes:g} minutes at {rate:,.0f} images/s"
    return replace(paced, reasons=(reason, *paced.reasons))


def _resume(
    data: Any,
    run: Path,
    config: TrainConfig,
    network: nn.Module | None,
    tell: OnEvent,
    progress: OnProgress,
    started: float,
) -> Run:
    refuse_other_options(config)
    before = recorded(run)
    with folder.locked(run), kernels.using(True), listening(resume_command(run)) as stop:
        plan = changed_plan(before.latest, config, run, finished=before.finished)
        opened = _same_data(data, run, plan.config, progress, expected=before.data)
        checkpoint = load_checkpoint(run)
        earlier = checkpoint.state["position"]["departures"] if checkpoint else []
        departures = departures_of(before.first, plan, earlier)
        if departures and config.exact:
            raise RunError(f"an exact resume is not possible here: {'; '.join(departures)}")
        with threads_of(plan.config.threads):
            gallery = Gallery(opened, threads=plan.config.threads, progress=progress)
            base = _network(plan) if network is None else network
            if checkpoint is None:
                _first_weights(base, plan, gallery, progress)
            events = folder.Events(run / folder.EVENTS)
            origin = before.origin | _data_origin(opened, run, plan.config)
            training = Training(
                plan,
                opened,
                base,
                run=run,
                origin=origin,
                events=events,
                on_event=tell,
                gallery=gallery,
                stop=stop,
            )
            if checkpoint is not None:
                training.restore(checkpoint)
            position = training.position
            position.departures = departures
            how = "continued, not exact: " + "; ".join(position.departures) if position.departures else "exact"
            tell(
                events.append(
                    "resume",
                    text=f"resumed at step {position.step:,} of {plan.steps:,} ({how})",
                    step=position.step,
                    events_length=checkpoint.state["events_length"] if checkpoint else before.plan_length,
                    plan=plan.to_json(),
                    departures=position.departures,
                )
            )
            return _train_and_finish(training, started)


def _train_and_finish(training: Training, started: float) -> Run:
    config = training.plan.config
    run = training.run
    trackers = open_trackers(
        config.track,
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
        seconds=time.monotonic() - started,
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


def _open(data: Any, config: TrainConfig, progress: OnProgress) -> Data:
    return open_data(
        data,
        classes=None if config.classes is None else Path(config.classes),
        strict=config.strict_data,
        all_train=config.all_train,
        options=data_options(config),
        progress=lambda done, total: progress("looking at the pictures", done, total),
        download_progress=progress,
    )


def _same_data(data: Any, run: Path, config: TrainConfig, progress: OnProgress, *, expected: str) -> Data:
    """The data a run began with, from where its config says it is. Raises RunError where it is gone or another."""
    if data is None:
        data, _ = read_config(run / folder.CONFIG)
        if data is None:
            raise RunError(f"the data of {run} was in memory: resume from Python, resnets.train(data, resume=…)")
        if Path(data).is_absolute() and not Path(data).exists():
            raise RunError(f"the data of {run} is no longer at {data}; put it back there and resume again")
    opened = _open(data, config, progress)
    if opened.manifest.hash() != expected:
        change = first_change(opened.manifest, Manifest.read(run / folder.MANIFEST))
        raise RunError(f"the data has changed since {run} began ({change}); start a new run")
    return opened


def _as_weights_ask(config: TrainConfig, progress: OnProgress) -> TrainConfig:
    """The network, stem and normalisation that the first weights are for, where no others are asked for."""
    if config.weights in (None, "none", "auto"):
        return config
    name, spec, preprocess = network_of(str(config.weights), progress=progress)
    stem: Any = "small" if spec.stem == "small" else "own"
    halves = preprocess is not None and preprocess.mean == HALF
    return replace(
        config,
        model=config.model or name,
        stem=config.stem or stem,
        normalize=config.normalize or ("half" if halves else None),
    )


def _network(plan: Plan) -> nn.Module:
    """The planned network with random weights, drawn by the run's seed."""
    config = plan.config
    spec = variant(config.model or "")
    if config.stem is not None and config.stem != "own":
        spec = replace(spec, stem=config.stem)
    spec = replace(
        spec,
        zero_last=config.zero_last,
        in_channels=CHANNELS[plan.preprocess.channels],
        heads=tuple((name, len(head)) for name, head in plan.heads.items()),
    )
    torch.manual_seed(config.seed)
    return build(spec)


def _first_weights(
    network: nn.Module, plan: Plan, gallery: Gallery, progress: OnProgress
) -> tuple[dict[str, Any], str | None]:
    """Put in the weights that the run starts from: what the origin says of them, and the receipt's line.

    Batch norms with folded statistics get the statistics of these pictures; the network's answers stay the same.
    """
    origin = {"resnets": VERSION, "torch": torch.__version__, "model": plan.config.model}
    if plan.config.weights in (None, "none"):
        return origin, None
    receipt = initialise(network, str(plan.config.weights), heads=plan.heads, progress=progress)
    line = receipt.line()
    if receipt.folded:
        unfold(network, gallery.normalised("train", plan.preprocess, batch=plan.config.batch or 1))
        line += "; folded batch norms were given the statistics of these pictures"
    return {**origin, RECEIPT: receipt.to_json(), LICENCE: receipt.licence}, line


def _data_origin(data: Data, run: Path, config: TrainConfig) -> dict[str, Any]:
    parts = {part: len(data.rows(part)) for part in ("train", "val", "test")}
    about: dict[str, Any] = {
        "name": data.name,
        "origin": data.origin,
        "hash": data.manifest.hash(),
        "pictures": parts,
    }
    asked = data_options(config).given()
    address = data.manifest.address or {}
    if asked:  # with which `evaluate` divides the same data in the same way
        about |= {ASKED: asked, PLACE: address.get("table") or address.get("root")}
    return {"data": about, "run": run.name}


def _with_lasting_paths(config: TrainConfig) -> TrainConfig:
    """The files that a resume may need again, as they can be found from any folder."""
    names = ("classes", "weights", "root", "holdout_combinations")
    given = {name: getattr(config, name) for name in names}
    lasting: dict[str, Any] = {name: _lasting(path) for name, path in given.items() if path is not None}
    return replace(config, **lasting)


def _lasting(address: str | Path) -> str:
    """A path as it can be found from anywhere; a name such as `digits` as it is."""
    path = Path(address)
    return str(path.absolute()) if path.exists() else str(address)
