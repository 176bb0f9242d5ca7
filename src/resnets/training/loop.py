"""The training loop: epochs of steps, validation, the best network kept, checkpoints, a stop at any step."""

import copy
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resnets.base.errors import WorkStopped
from resnets.base.files import write_bytes
from resnets.base.streams import step_seed
from resnets.base.text import counted
from resnets.data.batches import Batch, training_batches
from resnets.data.dataset import Data
from resnets.evaluation.score import WEIGHTS, head_weights
from resnets.networks.resnet import ResNet
from resnets.training import run as folder
from resnets.training.checkpoint import Checkpoint, save_checkpoint
from resnets.training.distributed import Exchange, Group
from resnets.training.efficiency import Efficiency
from resnets.training.failures import not_finite, nothing_readable
from resnets.training.gallery import Gallery
from resnets.training.imbalance import balanced_labels, losses_of
from resnets.training.learner import Learner
from resnets.training.pace import Pace
from resnets.training.plan import Plan
from resnets.training.position import Position
from resnets.training.prepare import prepare
from resnets.training.progress import Progress
from resnets.training.schedule import Course, rate, size_at
from resnets.training.signals import Stop
from resnets.training.step import Part, StepRecord, cuts
from resnets.training.tracking import Trackers
from resnets.training.validate import flat, judged_by, validation_figures
from resnets.weights.modelfile import Model, save

OnEvent = Callable[[dict[str, Any]], None]
STEP_EVENTS_PER_EPOCH = 20


class Training:
    """A run in progress: what learns, its position, and the folder that they are saved in."""

    def __init__(
        self,
        plan: Plan,
        data: Data,
        network: nn.Module,
        *,
        run: Path,
        origin: dict[str, Any],
        group: Group,
        events: folder.Events | None,
        on_event: OnEvent,
        gallery: Gallery,
        stop: Stop,
        teacher: Model | None = None,
    ) -> None:
        config = plan.config
        self.plan, self.data, self.run, self.origin = plan, data, run, origin
        self.group, self.events, self.on_event, self.gallery, self.stop = group, events, on_event, gallery, stop
        self.trackers = Trackers({})
        self.device = group.device(config.device or "cpu")
        network = group.ready(network, self.device, sync_norm=config.sync_norm)
        self.losses = losses_of(config, data, self.device)
        self.score_weights = head_weights(config.score_weight, data.heads, flag="--score-weight")
        self.balance = balanced_labels(data) if config.sampling == "balanced" else None
        with group.locally_first():
            self.pictures = gallery.training(plan.preprocess, plan.augment)
            if not group.alone:
                gallery.evaluation("val", plan.preprocess)  # what is packed is packed now, once on a machine
        self.augment = plan.augment.left_for_device(packed=self.pictures.whole)
        self.learner = Learner(
            plan,
            network,
            device=self.device,
            losses=self.losses,
            summing=None if group.alone else Exchange(network),
            teacher=teacher,
        )
        self.position = Position()
        self.pace = Pace(plan)
        known = config.freeze == "none" and teacher is None and group.alone
        spec = network.spec if known and isinstance(network, ResNet) else None
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self.progress = Progress(Efficiency(spec, device=self.device, dtype=dtype), on_event)
        wide = torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no double precision
        self.loss = torch.zeros((), dtype=wide, device=self.device)  # of the epoch so far, summed
        self.learning_rate = 0.0  # of the last step
        self.saved_at = time.monotonic()

    # what is saved and restored

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up exactly where `checkpoint` was saved."""
        self.learner.restore(checkpoint.tensors)
        self.position = Position.from_json(checkpoint.state["position"])
        self.pace = Pace(self.plan, worked=self.position.seconds)
        if self.position.course is not None and self.position.course.planned != self.plan.steps:
            self.position.course = None  # the run was extended since: its schedule is that of the longer one
        self.loss.fill_(self.position.loss)
        if not self.group.leads:
            return
        model = self.run / folder.MODEL
        model.unlink(missing_ok=True)
        if checkpoint.best is not None:  # a later best, if there was one, is superseded with its steps
            write_bytes(model, checkpoint.best.read_bytes())

    def save(self) -> None:
        """Write a checkpoint of this very moment, where this process writes the run's files."""
        self.saved_at = time.monotonic()
        if self.events is None:
            return
        self.position.loss = self.finite_loss()
        self.position.seconds = self.pace.worked()
        state = {"position": asdict(self.position), "events_length": self.events.length()}
        save_checkpoint(
            self.run,
            step=self.position.step,
            tensors=self.learner.tensors(),
            state=state,
            best=self.run / folder.MODEL,
        )
        self.saved_at = time.monotonic()

    def record(self, event: str, **values: Any) -> None:
        """Append an event to the run's log and tell the display, where this process writes the run's files."""
        if self.events is not None:
            self.on_event(self.events.append(event, **values))

    # the loop

    @property
    def course(self) -> Course:
        """How the steps go through the schedule."""
        return self.position.course or Course(planned=self.plan.steps, steps=self.plan.steps)

    def epochs_planned(self) -> int:
        """Of the whole run, as it stands now."""
        return self.course.steps // self.plan.steps_per_epoch

    def train(self) -> None:
        """Train to the last step of the schedule, or to an early stop.

        Raises Interrupted, NotFinite or OutOfSpace.
        """
        self.stop.patient = True
        while self.position.epoch < self.epochs_planned() and not self.position.stopped_early:
            started = time.monotonic()
            whole = self.position.batch == 0  # not the rest of an epoch, after a resume
            figures = self.train_epoch()
            self.position.epoch += 1
            self.position.batch, self.position.pictures, self.loss = 0, 0, torch.zeros_like(self.loss)
            figures |= self.validate()
            self.trackers.log(self.position.step, {"epoch": self.position.epoch, **flat(figures)})
            self.record(
                "epoch",
                epoch=self.position.epoch,
                step=self.position.step,
                **figures,
                best=self.position.best_epoch == self.position.epoch,
                seconds=round(time.monotonic() - started, 3),
            )
            self.keep_pace(whole=whole)
            self.save()
            self.end_if_asked()
        self.stop.patient = False

    def keep_pace(self, *, whole: bool) -> None:
        """At the end of an epoch: shorten what is left where the run has a time to end in, and would not."""
        if self.plan.seconds is None:
            return
        position, before = self.position, self.epochs_planned()
        found = self.group.lead(lambda: self.pace.end_epoch(self.course, step=position.step, whole=whole))
        if found is None:
            return
        position.course, lateness = found
        epochs = self.epochs_planned()
        text = (
            f"{counted(epochs, 'epoch')} in place of {before:,}: at this pace the run would end "
            f"{lateness / 60:.1f} minutes late; the schedule is shortened with it"
        )
        self.record("shortened", step=position.step, epochs=epochs, before=before, text=text)

    def train_epoch(self) -> dict[str, Any]:
        """The rest of the epoch the run stands in; gives the mean training loss and the rate of pictures."""
        plan, position, config, group = self.plan, self.position, self.plan.config, self.group
        self.learner.network.train()
        self.progress.begin()
        batches = training_batches(
            self.pictures,
            augment=plan.augment,
            batch=config.batch or 1,
            seed=config.seed,
            epoch=position.epoch,
            start_batch=position.batch,
            skip=position.bad,
            balance=self.balance,
            part=None if group.alone else group.part,
            threads=config.threads or 1,
        )
        with batches:
            for batch in batches:
                usable = len(batch.rows) > 1  # batch norm cannot train on one picture
                pictures, kept, failed, idle = group.total(
                    len(batch.rows) if usable else 0, len(batch.rows), len(batch.failed), not usable
                )
                bad = group.merged(dict(batch.failed)) if failed else {}
                self.note_bad(bad)
                if bad and not kept:
                    raise self.failed(nothing_readable(bad, path=self.data.path, resume=self.stop.resume_command))
                if pictures and not (config.sync_norm and idle):  # it would wait for who has no pictures
                    parts = cuts(len(batch.rows), config.accumulate or 1) if usable else []
                    record = self.step(batch, parts, pictures=pictures)
                    self.loss += (
                        record.loss.to(self.loss.dtype) * record.pictures
                    )  # stays on the device until it is asked for
                    position.pictures += record.pictures
                position.step += 1
                position.batch += 1
                self.progress.show(batches.waited_seconds, self.where)
                if time.monotonic() - self.saved_at > config.save_minutes * 60:
                    self.save()
                self.end_if_asked()
        return {"loss": self.finite_loss() / max(1, position.pictures)} | {
            name: round(value, 1 if name == "images_per_second" else 4)
            for name, value in self.progress.rates(batches.waited_seconds).items()
        }

    def step(self, batch: Batch, parts: Sequence[slice], *, pictures: int) -> StepRecord:
        """One update from one batch; a loss that is not finite ends the run.

        batch: what this process has of it, computed in these parts, if any. pictures: of the whole batch.
        """
        plan, position, config, rank = self.plan, self.position, self.plan.config, self.group.world.rank
        scheduled = self.course.planned_step(position.step)
        self.learning_rate = learning_rate = rate(
            scheduled,
            schedule=config.schedule or "cosine",
            peak=config.lr or 0.0,
            steps=plan.steps,
            warmup_steps=plan.warmup_steps,
            decay_at=config.decay_at,
            decay_factor=config.decay_factor,
        )
        purpose = f"generators/{rank}" if rank else "generators"
        seed_generators(step_seed(seed=config.seed, step=position.step, purpose=purpose))
        record = self.learner.step(
            [
                partial(self.prepared, batch, cut, part)
                for part, cut in enumerate(parts, rank * (config.accumulate or 1))
            ],
            pictures=pictures,
            learning_rate=learning_rate,
            number=position.step,
            scheduled=scheduled,
        )
        self.progress.add(pictures, self.size() or plan.preprocess.size)
        due = position.step % max(1, plan.steps_per_epoch // STEP_EVENTS_PER_EPOCH) == 0
        if due or self.device.type == "cpu":
            loss = record.loss.item()
            if not math.isfinite(loss):
                raise self.failed(not_finite(loss, position, learning_rate=learning_rate, config=config))
            if due:
                norm = {} if record.gradient_norm is None else {"gradient_norm": record.gradient_norm.item()}
                self.trackers.log(position.step, {"step_loss": loss, "lr": learning_rate, **norm})
                self.record(
                    "step", step=position.step, epoch=position.epoch + 1, loss=loss, lr=learning_rate, **norm
                )
        return record

    def finite_loss(self) -> float:
        """The sum of the epoch so far; one that is not finite ends the run before it is saved or validated.

        On a GPU few steps' losses are looked at by themselves, but NaN and infinity stay in the sum.
        """
        loss = self.loss.item()
        if not math.isfinite(loss):
            config, learning_rate = self.plan.config, self.learning_rate
            raise self.failed(not_finite(loss, self.position, learning_rate=learning_rate, config=config))
        return loss

    def prepared(self, batch: Batch, cut: slice, part: int) -> Part:
        return prepare(
            batch,
            cut,
            augment=self.augment,
            preprocess=self.plan.preprocess,
            device=self.device,
            seed=self.plan.config.seed,
            epoch=self.position.epoch,
            step=self.position.step,
            part=part,
            size=self.size(),
        )

    def size(self) -> tuple[int, int] | None:
        """What the pictures of this step are scaled down to, where they grow."""
        plan, grow = self.plan, self.plan.config.grow
        if grow is None or grow == 1:
            return None
        step = self.course.planned_step(self.position.step)
        return size_at(step, size=plan.preprocess.size, grow=grow, steps=plan.steps)

    def note_bad(self, failed: dict[int, str]) -> None:
        """Pictures that could not be read are written down, once, before the step that lacks them."""
        for row, reason in failed.items():
            if row not in self.position.bad:
                self.position.bad[row] = reason
                self.record("left_out", row=row, path=self.data.path(row), reason=reason, step=self.position.step)

    def judges(self) -> bool:
        """Whether validation pictures choose the best network."""
        return bool(self.plan.pictures["val"]) and not self.plan.config.all_train

    def foreign(self) -> nn.Module | None:
        """A copy of the user's own module, which a model file's tensors are loaded into; None for ours."""
        network = self.learner.network
        return None if isinstance(network, ResNet) else copy.deepcopy(network).cpu()

    def validate(self) -> dict[str, Any]:
        """Validation figures in training precision; the best network so far is written to `model.safetensors`."""
        position, config = self.position, self.plan.config
        figures: dict[str, Any] = {}
        figure, better = None, True
        if self.judges():
            figures, failed = self.validation_figures(self.model({}))
            self.note_bad(failed)
            _, figure = judged_by(figures)
            better = position.best is None or figure >= position.best
        if better:
            position.best, position.best_epoch = figure, position.epoch
            if self.group.leads:
                save(self.run / folder.MODEL, self.model(figures))
        patience = config.early_stop
        if patience is not None and position.epoch - (position.best_epoch or 0) >= patience:
            position.stopped_early = True
        return figures

    def validation_figures(self, model: Model) -> tuple[dict[str, Any], dict[int, str]]:
        """Figures of a model on the validation pictures in training precision; row -> reason of what failed."""
        return validation_figures(
            model,
            self.gallery.evaluation("val", self.plan.preprocess),
            group=self.group,
            device=str(self.device),
            precision=self.plan.config.precision or "fp32",
            threads=self.plan.config.threads or 1,
            loss_weights={name: how.weight for name, how in self.losses.items()},
            score_weights=self.score_weights,
        )

    def model(self, figures: dict[str, Any]) -> Model:
        """What is validated, saved and shipped, with where it is from."""
        position = self.position
        origin = {
            **self.origin,
            "epoch": position.epoch,
            "step": position.step,
            "exact": not position.departures,
            "departures": list(position.departures),
            "figures": {"validation, in training": figures} if figures else {},
        }
        if len(self.plan.heads) > 1:
            origin[WEIGHTS] = self.score_weights
        return Model(
            network=self.learner.shipped,
            heads=self.plan.heads,
            preprocess=self.plan.preprocess,
            origin=origin,
        )

    def where(self) -> dict[str, int]:
        """How far the run is."""
        position = self.position
        return {
            "step": position.step,
            "steps": self.course.steps,
            "epoch": position.epoch + 1,
            "epochs": self.epochs_planned(),
            "batch": position.batch,
            "batches": self.plan.steps_per_epoch,
        }

    def end_if_asked(self) -> None:
        """Save and raise Interrupted where a signal has come, to whichever process."""
        number = self.group.highest(self.stop.number or 0)
        if number:
            self.stop.number = number
            self.save()
            self.record("stopped", step=self.position.step, signal=number)
            raise self.stop.interrupted()

    def failed(self, error: WorkStopped) -> WorkStopped:
        """Write down why the run ends."""
        self.record("failed", step=self.position.step, reason=str(error))
        return error


def seed_generators(seed: int) -> None:
    """Seed every global generator for this step: dropout, drop path and foreign code replay exactly."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
