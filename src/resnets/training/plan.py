"""From what was asked to what will be done: every open option is chosen here, with its reason."""

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError, UsageError
from resnets.base.machine import TINY, has_bf16_units, numeric_environment, pick_device
from resnets.base.text import counted, printable
from resnets.base.world import world
from resnets.data.augment.settings import Augment, default_augment
from resnets.data.batches import batches_in_epoch
from resnets.data.dataset import Data
from resnets.evaluation.score import head_weights, written
from resnets.labels import Head
from resnets.networks import kernels
from resnets.networks.spec import SMALL_PICTURE, ResNetSpec
from resnets.networks.variants import variant
from resnets.preprocess import CHANNELS, IMAGENET_MEAN, IMAGENET_STD, Preprocess
from resnets.training.compiling import KERNELS, check_compiler
from resnets.training.config import TrainConfig, parse_size
from resnets.training.imbalance import balanced_head
from resnets.training.recipes import Facts, default_momentum, default_rate, default_weight_decay, recipe
from resnets.training.thaw import Thaw

log = logging.getLogger("resnets")

FEW_PICTURES = 100  # below this a warning is given
Measure = Callable[[Preprocess], tuple[tuple[float, ...], tuple[float, ...]]]
SHORT_RUN_STEPS = 500  # below this batch norm is recalibrated at the end


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a run will do; written before the first step, and all that a resume needs to do the same.

    config: every option resolved. reasons: one line each, to be shown. environment: what the bits depend on.
    seconds: that the run may take from its first step on; None: as many as it needs.
    """

    config: TrainConfig
    heads: dict[str, Head]
    preprocess: Preprocess
    augment: Augment
    pictures: dict[str, int]  # part -> kept pictures
    steps_per_epoch: int
    steps: int
    warmup_steps: int
    environment: dict[str, Any]
    reasons: tuple[str, ...]
    seconds: float | None = None

    @property
    def thaw(self) -> Thaw:
        """What is trained, from which step on and how fast."""
        config = self.config
        return Thaw(
            freeze=config.freeze,
            layer_decay=config.layer_decay,
            frozen_norms=config.norms == "frozen",
            steps=self.steps,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Plan":
        config: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values["config"].items()
        }
        return cls(
            **values
            | {
                "config": TrainConfig(**config),
                "heads": {name: Head.from_json(head) for name, head in values["heads"].items()},
                "preprocess": Preprocess.from_json(values["preprocess"]),
                "augment": Augment.from_json(values["augment"]),
                "reasons": tuple(values["reasons"]),
            }
        )


def make_plan(config: TrainConfig, data: Data, *, measure: Measure, foreign: bool = False) -> Plan:
    """Resolve every option for this data and this machine.

    measure: gives mean and deviation of the training pictures in [0, 1], a number a channel. foreign: the network
    is the user's own module.
    Raises DataError where the data cannot be trained on, UsageError where options do not go together.
    """
    rows = data.rows("train")
    pictures = {part: len(data.rows(part)) for part in ("train", "val", "test")}
    _refuse_unusable(data, len(rows))
    reasons: list[str] = []
    size, same_size = _size(config, data, rows, reasons)
    from_scratch = config.weights in (None, "auto", "none")  # with_default_weights has decided what `auto` is
    facts = Facts(pictures=len(rows), size=size, pretrained=not from_scratch)
    whitened = not foreign and (config.model is None or variant(config.model).stem == "whitened")
    values, why = recipe(facts, config.preset, whitened=whitened)
    reasons.append(f"recipe for {why}")
    model = config.model or ("the network given" if foreign else values["model"])
    stem = config.stem or ("own" if foreign else _stem(model, size))
    if not foreign:
        reasons.append(_stem_reason(config, variant(model).stem if stem == "own" else stem, size))
    channels = config.channels or ("grey" if set(data.channels) == {"grey"} else "rgb")
    preprocess = _preprocess(config, facts, same_size=same_size, channels=channels, measure=measure)
    augment = _augment(config, data, facts, pad=values.get("pad"), same_size=same_size, reasons=reasons)
    batch = _batch(config, values, len(rows), reasons)
    optimizer = config.optimizer or values["optimizer"]
    spec = None if foreign else variant(model)
    fixed_norm = _fixed_norm(config, optimizer, spec, from_scratch=from_scratch, wanted=values["fixed_norm"])
    device = pick_device(config.device)
    precision = config.precision or ("fp32" if config.reproducible else _precision(device, size, reasons))
    if config.compile:
        check_compiler(device)
    epochs = config.epochs or values["epochs"]
    steps_per_epoch = batches_in_epoch(len(rows), batch)
    steps = epochs * steps_per_epoch
    warmup = config.warmup if config.warmup is not None else values["warmup"] * epochs / values["epochs"]
    no_validation = config.all_train or not pictures["val"]
    if config.reproducible:
        reasons.append("reproducible: fp32, torch's own kernels, a fixed number of threads")
    if config.sampling == "balanced":
        reasons.append(f"classes of {printable(balanced_head(data))} equally often")
    resolved = replace(
        config,
        minutes=None,
        model=model,
        weights="none" if from_scratch else config.weights,
        stem=stem,
        size=f"{size[0]}x{size[1]}",
        channels=channels,
        resize=preprocess.resize,
        normalize=config.normalize or _normalisation(channels, facts),
        interpolation=preprocess.interpolation,
        epochs=epochs,
        batch=batch,
        grow=config.grow if config.grow is not None else values["grow"],
        optimizer=optimizer,
        fixed_norm=fixed_norm,
        lr=config.lr
        if config.lr is not None
        else default_rate(optimizer, batch, pretrained=facts.pretrained, fixed_norm=fixed_norm),
        momentum=config.momentum if config.momentum is not None else default_momentum(fixed_norm=fixed_norm),
        weight_decay=config.weight_decay
        if config.weight_decay is not None
        else default_weight_decay(optimizer, facts, fixed_norm=fixed_norm),
        schedule=config.schedule or values["schedule"],
        warmup=warmup,
        label_smoothing=config.label_smoothing
        if config.label_smoothing is not None
        else values["label_smoothing"],
        ema=config.ema if config.ema is not None else values["ema"],
        augment=augment.geometry,
        pad=augment.pad if augment.geometry == "pad-crop" else None,
        scale=augment.scale if augment.geometry == "rrc" else None,
        affine=augment.affine,
        elastic=augment.elastic,
        stroke=augment.stroke,
        flip=augment.flip > 0,
        colour=augment.colour,
        policy=augment.policy,
        erasing=augment.erasing,
        mixup=augment.mixup,
        cutmix=augment.cutmix,
        loss_weight=written(head_weights(config.loss_weight, data.heads, flag="--loss-weight")),
        score_weight=written(head_weights(config.score_weight, data.heads, flag="--score-weight")),
        device=device,
        precision=precision,
        threads=config.used_threads,
        accumulate=config.accumulate or (1 if config.reproducible else None),
        recalibrate=config.recalibrate
        if config.recalibrate is not None
        else steps < SHORT_RUN_STEPS and config.freeze != "body" and config.norms == "trained",
    )
    if config.early_stop is not None and no_validation:
        raise UsageError("--early-stop needs validation pictures, and this data has none")
    if foreign and (config.freeze != "none" or config.layer_decay != 1):
        raise UsageError("--freeze and --layer-decay need a network of resnets: the parts of yours are not known")
    plan = Plan(
        config=resolved,
        heads=data.heads,
        preprocess=preprocess,
        augment=augment,
        pictures=pictures,
        steps_per_epoch=steps_per_epoch,
        steps=steps,
        warmup_steps=round(warmup * steps_per_epoch),
        environment=environment_of(resolved),
        reasons=tuple(reasons),
    )
    if foreign or (plan.thaw.everything and not facts.pretrained):
        return plan
    return replace(plan, reasons=(*reasons, plan.thaw.said(resolved.lr or 0.0, len(variant(model).depths))))


def environment_of(config: TrainConfig) -> dict[str, Any]:
    """What the bits of a run with these resolved options depend on, here and now."""
    return numeric_environment(
        device=config.device or "cpu",
        threads=config.threads or 1,
        precision=config.precision or "fp32",
        kernels=KERNELS if config.compile else kernels.state() if config.device == "cpu" else "torch",
    )


def warn_of_few(plan: Plan) -> None:
    """Log a warning where there are few training pictures."""
    count = plan.pictures["train"]
    if count < FEW_PICTURES:
        log.warning(
            "%d training pictures are few: under %d, figures say little and the network may learn them by heart",
            count,
            FEW_PICTURES,
        )


def extend(plan: Plan, *, epochs: int) -> Plan:
    """The plan for more epochs: the schedule is that of the longer run, taken up from where the run stands."""
    config = plan.config
    if epochs <= (config.epochs or 0):
        raise UsageError(f"--epochs {epochs} extends a run, and this one already has {config.epochs}; give more")
    return replace(plan, config=replace(config, epochs=epochs), steps=epochs * plan.steps_per_epoch, seconds=None)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two numeric environments, in words; empty: a resume is exact."""
    keys = dict.fromkeys([*before, *now])
    return [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def plan_line(plan: Plan) -> str:
    """The one line that says what was chosen for this machine and data."""
    config = plan.config
    epochs, steps = counted(config.epochs or 0, "epoch"), counted(plan.steps_per_epoch, "step")
    processes = plan.environment["processes"]
    batch = f"batch {config.batch}" + (f" among {processes} processes" if processes > 1 else "")
    return (
        f"{config.model} ({config.stem} stem), {config.size} px {config.channels}, {epochs} of {steps}, "
        f"{batch}, {config.optimizer} lr {config.lr:g}, {config.precision} on {config.device}, "
        f"{counted(config.threads or 1, 'thread')}, norms by {plan.environment['kernels']}: "
        f"{'; '.join(plan.reasons)}"
    )


def _refuse_unusable(data: Data, pictures: int) -> None:
    for name, head in data.heads.items():
        if len(head) < (2 if head.kind == "single" else 1):
            only = f" ({head.ids[0]!r})" if head.ids else ""
            raise DataError(
                f"{data.name}: {name} has {len(head)} class{only}, a classifier needs two or more; "
                "give a folder with a folder a class"
            )
    if pictures < 2:
        raise DataError(f"{data.name}: {pictures} picture to train on is not enough; batch norm alone needs two")


def _fixed_norm(
    config: TrainConfig, optimizer: str, spec: ResNetSpec | None, *, from_scratch: bool, wanted: bool
) -> bool:
    """Whether filters keep their norm. spec: None for a network of the user's own. wanted: by the recipe."""
    why_not = None
    if optimizer != "muon":
        why_not = f"it is a way of muon's, and the optimizer is {optimizer}; add --optimizer muon"
    elif not from_scratch:
        why_not = "it would scale the weights that are loaded; leave one of them out"
    elif spec is None or not spec.normed:
        why_not = "it needs a network with a norm behind each convolution; choose another --model, or leave it out"
    elif config.weight_decay:
        why_not = "filters of one norm have no decay; leave --weight-decay out"
    if config.fixed_norm and why_not:
        raise UsageError(f"--fixed-norm cannot be: {why_not}")
    return why_not is None and (wanted if config.fixed_norm is None else config.fixed_norm)


def _size(
    config: TrainConfig, data: Data, rows: npt.NDArray[np.int64], reasons: list[str]
) -> tuple[tuple[int, int], bool]:
    widths, heights = data.sizes
    widths, heights = widths[rows], heights[rows]
    same = bool((widths == widths[0]).all() and (heights == heights[0]).all())
    own = int(heights[0]), int(widths[0])
    if config.size is not None:
        size = parse_size(config.size)
        return size, same and own == size
    if same and max(own) <= 96:
        reasons.append(f"all pictures are {own[0]}x{own[1]} pixels")
        return own, True
    shorter = int(np.median(np.minimum(widths, heights)))
    side = 224 if shorter >= 192 else max(32, shorter // 32 * 32)
    reasons.append(f"{side} px for pictures of {shorter} px (the median shorter side)")
    return (side, side), False


def _stem(model: str, size: tuple[int, int]) -> Any:
    """The stem of a network for these pictures, unless its name says another."""
    if variant(model).stem == "whitened":
        return "whitened"
    return "small" if min(size) <= SMALL_PICTURE and "stem=" not in model else "own"


def _stem_reason(config: TrainConfig, stem: str, size: tuple[int, int]) -> str:
    if config.stem:
        return f"{stem} stem as asked"
    if stem == "whitened":
        return "whitened stem, as the network has it"
    return f"{stem} stem for pictures {'up to' if min(size) <= SMALL_PICTURE else 'above'} {SMALL_PICTURE} px"


def _normalisation(channels: str, facts: Facts) -> Any:
    return "imagenet" if channels == "rgb" and (facts.pretrained or not facts.small) else "measured"


def _preprocess(
    config: TrainConfig, facts: Facts, *, same_size: bool, channels: Any, measure: Measure
) -> Preprocess:
    plain = Preprocess(
        size=facts.size,
        resize=config.resize or "crop",
        crop=_crop(config.resize, same_size=same_size, size=facts.size),
        interpolation=config.interpolation or "bilinear",
        channels=channels,
        mean=(0.5,) * CHANNELS[channels],
        std=(0.5,) * CHANNELS[channels],
    )
    how = config.normalize or _normalisation(channels, facts)
    if how == "half":
        return plain
    if how == "imagenet" and channels == "rgb":
        return replace(plain, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if how == "imagenet":
        raise UsageError(
            f"--normalize imagenet is for rgb pictures, these are {channels}; choose half or measured"
        )
    mean, std = measure(plain)
    return replace(plain, mean=mean, std=std)


def _crop(resize: str | None, *, same_size: bool, size: tuple[int, int]) -> float:
    if resize == "ink":
        return 0.9  # a margin for shifts and distortions
    return 1.0 if same_size or max(size) <= 96 else 0.875


def _augment(
    config: TrainConfig, data: Data, facts: Facts, *, pad: int | None, same_size: bool, reasons: list[str]
) -> Augment:
    """pad: what the recipe says."""
    default, why = default_augment(
        size=facts.size,
        pictures=facts.pictures,
        traits=data.traits,
        same_size=same_size,
        resize=config.resize or "crop",
        pad=pad,
    )
    asked = {
        field.name: getattr(config, "augment" if field.name == "geometry" else field.name, None)
        for field in dataclasses.fields(Augment)
    }
    if isinstance(asked["flip"], bool):
        asked["flip"] = 0.5 if asked["flip"] else 0.0
    given = {name: value for name, value in asked.items() if value is not None}
    but = ", ".join(f"{name} {value}" for name, value in given.items())
    reasons.append(f"{why}; but as asked: {but}" if but else why)
    return replace(default, **given)


def _batch(config: TrainConfig, values: dict[str, Any], pictures: int, reasons: list[str]) -> int:
    batch = config.batch or int(values["batch"])
    if batch > pictures:
        reasons.append(f"batch {pictures}, all the pictures there are")
        return pictures
    processes, accumulate = world().size, config.accumulate or 1
    if processes > 1 and batch < 2 * processes * accumulate:
        parts = counted(accumulate, "part")
        raise UsageError(
            f"a batch of {batch} pictures is too small for {processes} processes, each with {parts} of two "
            f"pictures or more: give --batch {2 * processes * accumulate}"
        )
    if accumulate > 1 and math.ceil(batch / accumulate) < 2:
        raise UsageError(f"--accumulate {accumulate} leaves parts of one picture from a batch of {batch}")
    return batch


def _precision(device: str, size: tuple[int, int], reasons: list[str]) -> Any:
    if max(size) <= TINY:
        reasons.append("fp32: pictures this small gain nothing from bf16")
        return "fp32"
    if has_bf16_units(device):
        reasons.append("bf16: the hardware multiplies it")
        return "bf16"
    reasons.append("fp32: no bf16 units here")
    return "fp32"
