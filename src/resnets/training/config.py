"""What can be asked of a training run: one frozen dataclass, from which flags, TOML keys and the record come.

None stands for "chosen from the facts of the data and the machine": `plan.py` chooses, prints the reason and
writes what it chose into the run's `config.toml`, so that the run repeats even where the defaults move on.
This module imports no torch, so that the command line can show its help at once.
"""

import dataclasses
import json
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resnets.base.errors import UsageError
from resnets.base.files import write_text
from resnets.base.machine import default_threads
from resnets.base.options import flag_of, from_mapping, option, option_of
from resnets.data.names import displayed
from resnets.data.options import DataOptions, data_options

BYTES = "bytes"  # the table of config.toml for names that are not UTF-8
RESUMABLE = ("epochs", "threads", "track", "exact")  # what may be given together with --resume


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All options of `resnets.train`; every one has a default that is chosen and printed."""

    model: str | None = option(None, "the network's name; `resnets models` lists them", group="The network")
    weights: str | None = option(
        None,
        "start from a file, from a name that `resnets models --weights` lists, or from none; auto, the default, "
        "takes ImageNet's for a few photographs where the cache has them",
        group="The network",
    )
    stem: Literal["own", "imagenet", "small", "whitened"] | None = option(
        None,
        "first layers: the network's own, imagenet (7x7 stride 2, pooling), small (3x3 stride 1) or whitened (the "
        "same with fixed filters, made from the training pictures)",
        group="The network",
    )
    zero_last: bool = option(True, "start every block as the identity: last norm scale 0", group="The network")

    freeze: Literal["none", "body", "gradual"] = option(
        "none",
        "of loaded weights: body trains the head alone, gradual the head first and then a stage more at a time",
        group="What is trained",
    )
    layer_decay: float = option(
        1.0, "layer-wise rates: each stage's is this share of the next one's", group="What is trained"
    )
    norms: Literal["trained", "frozen"] = option(
        "trained", "batch norms of loaded weights: trained, or left as they were loaded", group="What is trained"
    )
    teacher: str | None = option(
        None, "a model file whose answers are followed beside the labels (distillation)", group="What is trained"
    )
    teacher_weight: float = option(0.5, "the share of the loss that the teacher has", group="What is trained")
    probe: bool = option(
        False, "first say what untrained features are worth: the floor to beat", group="What is trained"
    )

    size: str | None = option(None, "the network's input in pixels: N or HxW", group="The picture")
    channels: Literal["grey", "rgb", "rgba"] | None = option(
        None, "the channels pictures are converted to", group="The picture"
    )
    resize: Literal["crop", "squash", "ink"] | None = option(
        None, "keep the aspect ratio and crop, squash to the size, or cut to what is drawn", group="The picture"
    )
    normalize: Literal["imagenet", "half", "measured"] | None = option(
        None, "mean and deviation: ImageNet's, 0.5, or measured on the training pictures", group="The picture"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = option(
        None, "how pictures are resized (antialiased)", group="The picture"
    )

    preset: Literal["fast", "standard", "best"] = option(
        "standard",
        "fast is 0.4 of the epochs with growing pictures, best is 2.5 times the epochs",
        group="How long",
    )
    epochs: int | None = option(None, "passes over the training pictures", group="How long")
    minutes: float | None = option(
        None, "end within so many minutes: the epochs are planned from a measured rate", group="How long"
    )
    batch: int | None = option(None, "pictures a step, of all processes together", group="How long")
    grow: float | None = option(
        None, "progressive resizing: pictures begin at this share of their size, 1 is off", group="How long"
    )
    accumulate: int | None = option(
        None, "parts a batch is computed in, to save memory (batch norm sees a part)", group="How long"
    )
    early_stop: int | None = option(
        None, "stop after this many epochs without a better validation figure", group="How long"
    )

    optimizer: Literal["sgd", "adam", "adamw", "muon"] | None = option(
        None, "sgd has Nesterov momentum; muon makes the updates of filters orthogonal", group="The update"
    )
    lr: float | None = option(None, "peak learning rate", group="The update")
    momentum: float | None = option(
        None, "momentum of sgd and muon, first beta of adam and adamw", group="The update"
    )
    weight_decay: float | None = option(None, "weight decay; norms and biases have none", group="The update")
    fixed_norm: bool | None = option(
        None, "muon: filters keep one norm, and the rate says how far they turn", group="The update"
    )
    schedule: Literal["cosine", "linear", "step", "one-cycle", "constant"] | None = option(
        None, "the course of the rate", group="The update"
    )
    warmup: float | None = option(None, "epochs over which the rate rises to its peak", group="The update")
    decay_at: tuple[float, ...] = option(
        (0.5, 0.75), "step schedule: shares of the run after which the rate drops", group="The update"
    )
    decay_factor: float = option(0.1, "step schedule: what the rate is multiplied by", group="The update")
    label_smoothing: float | None = option(None, "share of the target spread over all classes", group="The update")
    clip: float | None = option(None, "largest gradient norm; larger ones are scaled down", group="The update")
    ema: float | None = option(
        None, "decay of the averaged weights that are validated and saved; 0 is off", group="The update"
    )

    loss_weight: tuple[str, ...] = option(
        (), "several label columns: how much one counts in the loss, as NAME=X (1)", group="The labels"
    )
    score_weight: tuple[str, ...] = option(
        (), "several label columns: how much one counts in the score, as NAME=X (1)", group="The labels"
    )
    class_weights: Literal["none", "balanced"] = option(
        "none", "classes in the loss: balanced weighs each by its inverse frequency", group="The labels"
    )
    sampling: Literal["shuffled", "balanced"] = option(
        "shuffled", "an epoch's order: each picture once, or each class equally often", group="The labels"
    )

    augment: Literal["none", "pad-crop", "rrc"] | None = option(
        None, "geometry: pad and crop, random resized crop, or none", group="Augmentation"
    )
    pad: int | None = option(None, "pad and crop: pixels a side", group="Augmentation")
    scale: float | None = option(
        None, "random resized crop: smallest share of the picture's area", group="Augmentation"
    )
    affine: float | None = option(
        None, "turn, zoom and shear: how far each entry of the matrix leaves the identity's", group="Augmentation"
    )
    elastic: float | None = option(
        None, "a smooth random field moves pixels by up to this share of a side", group="Augmentation"
    )
    stroke: float | None = option(
        None, "lines become thicker or thinner by up to this many pixels", group="Augmentation"
    )
    flip: bool | None = option(None, "mirror half of the pictures", group="Augmentation")
    colour: float | None = option(
        None, "strength of brightness, contrast and saturation changes; 0 is off", group="Augmentation"
    )
    policy: Literal["none", "randaugment", "trivialaugment"] | None = option(
        None, "a published augmentation policy", group="Augmentation"
    )
    erasing: float | None = option(None, "share of pictures with a random rectangle erased", group="Augmentation")
    mixup: float | None = option(None, "alpha of mixup; 0 is off", group="Augmentation")
    cutmix: float | None = option(None, "alpha of cutmix; 0 is off", group="Augmentation")

    device: str | None = option(None, "cpu, cuda, cuda:N or mps", group="The machine")
    precision: Literal["fp32", "bf16"] | None = option(None, "precision of the step", group="The machine")
    threads: int | None = option(None, "processor threads", group="The machine")
    compile: bool = option(
        False, "torch.compile for the network, in place of the kernels of this package", group="The machine"
    )
    reproducible: bool = option(
        False,
        "nothing depends on this machine: fp32, torch's own kernels, one thread but by --threads, exact resumes",
        group="The machine",
    )
    sync_norm: bool = option(
        False, "several GPUs: batch norm over the whole batch, not over each process's part", group="The machine"
    )
    recalibrate: bool | None = option(None, "measure batch norm's statistics anew at the end", group="The machine")

    classes: str | None = option(None, "a CSV or JSON file that maps class ids to shown names", group="The data")
    all_train: bool = option(
        False, "keep no pictures back for validation; train to the last epoch, nothing chosen", group="The data"
    )
    strict_data: bool = option(False, "a file that must be left out is an error", group="The data")
    image_column: str | None = option_of(DataOptions, "image_column")
    label_column: tuple[str, ...] = option_of(DataOptions, "label_column")
    multi_label: tuple[str, ...] = option_of(DataOptions, "multi_label")
    split_column: str | None = option_of(DataOptions, "split_column")
    group_column: str | None = option_of(DataOptions, "group_column")
    root: str | None = option_of(DataOptions, "root")
    allow_outside: bool = option_of(DataOptions, "allow_outside")
    holdout_combinations: str | None = option_of(DataOptions, "holdout_combinations")

    seed: int = option(0, "seed of order, augmentation and initial weights", group="The run")
    name: str | None = option(None, "the run's folder under --runs", group="The run")
    runs: str = option("runs", "the folder that run folders are made in", group="The run")
    save_minutes: float = option(5.0, "minutes between checkpoints inside an epoch", group="The run")
    track: tuple[str, ...] = option((), "also log to: tensorboard, wandb", group="The run")
    project: str | None = option(None, "the project's name at the tracker", group="The run")
    exact: bool = option(False, "refuse a resume that cannot be exact", group="The run")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "early_stop", "threads"):
            self._at_least(name, 1)
        for name in ("lr", "clip", "save_minutes", "minutes"):
            self._at_least(name, 0, above=True)
        for name in ("weight_decay", "warmup", "erasing", "mixup", "cutmix", "colour", "pad", "seed", "stroke"):
            self._at_least(name, 0)
        for name in ("momentum", "ema", "label_smoothing", "affine", "elastic"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"{flag_of(name)} must be from 0 to below 1, got {value}")
        for name in ("layer_decay", "teacher_weight"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{flag_of(name)} must be above 0 and at most 1, got {getattr(self, name)}")
        if self.scale is not None and not 0 < self.scale <= 1:
            raise UsageError(f"--scale must be above 0 and at most 1, got {self.scale}")
        if self.grow is not None and not 0.1 <= self.grow <= 1:
            raise UsageError(f"--grow is a share of the picture's side, from 0.1 to 1, got {self.grow}")
        if self.erasing is not None and self.erasing > 1:
            raise UsageError(f"--erasing is a share of the pictures, at most 1, got {self.erasing}")
        if self.size is not None:
            parse_size(self.size)
        if self.name is not None and (self.name in ("", ".", "..") or "/" in self.name or "\0" in self.name):
            raise UsageError(f"--name is one folder name, got {self.name!r}; --runs says where it is made")
        if list(self.decay_at) != sorted(set(self.decay_at)) or not all(0 < at < 1 for at in self.decay_at):
            raise UsageError(f"--decay-at must be rising shares between 0 and 1, got {self.decay_at}")
        data_options(self)  # refuses what does not go together
        self._refuse_combinations()

    @property
    def used_threads(self) -> int:
        """Of the processor: as asked, else all of them, or one where no machine may be told from the bits."""
        return self.threads or (1 if self.reproducible else default_threads())

    def _refuse_combinations(self) -> None:
        only_with = (
            ("pad", "augment", "pad-crop"),
            ("scale", "augment", "rrc"),
        )
        for name, other, wanted in only_with:
            chosen = getattr(self, other)
            if getattr(self, name) is not None and chosen not in (None, wanted):
                raise UsageError(f"{flag_of(name)} belongs to {flag_of(other)} {wanted}, not to {chosen}")
        if self.weights in (None, "none"):
            for name, plain in (("freeze", "none"), ("norms", "trained")):
                if getattr(self, name) != plain:
                    raise UsageError(
                        f"{flag_of(name)} {getattr(self, name)} leaves loaded weights as they are, and there are "
                        "none; give --weights NAME or FILE"
                    )
        if self.resize == "ink" and self.augment == "rrc":
            raise UsageError("--resize ink shows all that is drawn; --augment rrc would cut it: choose pad-crop")
        if self.minutes is not None and self.epochs is not None:
            raise UsageError("--minutes plans the epochs; give it without --epochs")
        self._refuse_pairs("reproducible", ("minutes", "compile"), "it does without all that depends on a machine")
        self._refuse_pairs("compile", ("minutes",), "how long compiling takes is not known before")
        if self.all_train and self.holdout_combinations is not None:
            raise UsageError("--holdout-combinations is for validation, which --all-train does without; give one")
        if self.all_train and self.early_stop is not None:
            raise UsageError(
                "--early-stop needs validation pictures, which --all-train trains on; give one of them"
            )
        if self.sync_norm and (self.accumulate or 1) > 1:
            raise UsageError(
                "--sync-norm is for a whole batch and --accumulate cuts it into parts; give one of them"
            )
        if self.batch is not None and (self.accumulate or 1) > self.batch:
            raise UsageError(f"--accumulate {self.accumulate} cannot divide a batch of {self.batch} pictures")

    def _refuse_pairs(self, name: str, others: tuple[str, ...], why: str) -> None:
        for other in others:
            if getattr(self, name) and getattr(self, other):
                raise UsageError(f"{flag_of(name)} does not go with {flag_of(other)}: {why}; give one of them")

    def _at_least(self, name: str, least: float, *, above: bool = False) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not value < float("inf") or value < least or (above and value == least):
            raise UsageError(f"{flag_of(name)} must be {'above' if above else 'at least'} {least}, got {value}")


def parse_size(text: str) -> tuple[int, int]:
    """'224' or '137x236' (height x width) to (height, width), each from 1 to 8192 pixels."""
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text.strip().lower())
    if not match:
        raise UsageError(f"--size must be N or HxW in pixels, such as 224 or 137x236, got {text!r}")
    height = int(match[1])
    width = int(match[2] or height)
    if not (1 <= height <= 8192 and 1 <= width <= 8192):
        raise UsageError(f"--size must be from 1 to 8192 pixels a side, got {text!r}")
    return height, width


def changed(config: TrainConfig) -> dict[str, Any]:
    """The options that differ from their defaults, by name."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }


def write_config(path: Path, *, data: str | None, asked: TrainConfig, resolved: TrainConfig) -> None:
    """Write `config.toml`: the resolved options, which repeat the run, then what was asked for.

    data: where the pictures are, None where they were in memory. TOML holds no name that is not UTF-8: the bytes
    of such stand in a table of their own, in hexadecimal.
    """
    names = [field.name for field in dataclasses.fields(resolved) if field.name != "name"]  # it gets a new one
    values = {"data": data, **{name: getattr(resolved, name) for name in names}}
    raw = {name: os.fsencode(value).hex() for name, value in values.items() if _is_not_utf8(value)}
    lines = ["# resnets train --config THIS FILE repeats the run"]
    lines += ["# the data was in memory"] if data is None else []
    for name, value in values.items():
        if value is not None and name not in raw:
            lines.append(f"{name} = {_toml(value)}")
        if name == "data":
            lines.append("")
    if raw:
        lines += ["", f"[{BYTES}]  # names that are not UTF-8, in hexadecimal"]
        lines += [f"{name} = {_toml(value)}" for name, value in raw.items()]
    lines += ["", "[asked]  # what was given by hand; all else above was chosen. This table is not read again."]
    lines += [f"{name} = {_toml(value)}" for name, value in changed(asked).items()]
    write_text(path, "\n".join(lines) + "\n")


def read_config(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Read a TOML file of options: (data or None, option name -> value).

    Raises UsageError where the file cannot be read, is no TOML, or names an unknown option.
    """
    try:
        with path.open("rb") as handle:
            values = tomllib.load(handle)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give --config a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    values.pop("asked", None)
    try:
        values |= {name: os.fsdecode(bytes.fromhex(text)) for name, text in values.pop(BYTES, {}).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: the table {BYTES} must give names in hexadecimal; {error}") from error
    data = values.pop("data", None)
    if data is not None and not isinstance(data, str):
        raise UsageError(f"{path}: data must be text, got {data!r}")
    if isinstance(values.get("size"), int) and not isinstance(values["size"], bool):
        values["size"] = str(values["size"])
    checked = from_mapping(TrainConfig, values, where=str(path))
    names = (key.replace("-", "_") for key in values)
    return data, {name: getattr(checked, name) for name in names}


def _is_not_utf8(value: Any) -> bool:
    return isinstance(value, str) and displayed(value) != value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(displayed(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
