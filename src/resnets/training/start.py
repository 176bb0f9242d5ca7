"""What a run starts from: lasting paths, the network, its first weights, its teacher, and where they are from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnets._version import VERSION
from resnets.base.errors import UsageError
from resnets.base.world import world
from resnets.data.dataset import Data, open_data
from resnets.data.options import ASKED, PLACE, data_options
from resnets.networks.resnet import build
from resnets.networks.stems import WhitenedStem, whiten
from resnets.networks.variants import VARIANTS, variant
from resnets.preprocess import CHANNELS, HALF
from resnets.training.config import TrainConfig
from resnets.training.gallery import Gallery
from resnets.training.plan import Plan
from resnets.training.recalibrate import unfold
from resnets.weights.loading import initialise, load, network_of
from resnets.weights.modelfile import LICENCE, RECEIPT, Model, tensors_sha256

TEACHER = "teacher"  # of a model's origin: whose answers it was trained by
WHITENING_PICTURES, WHITENING_BATCH = 4096, 128
OnProgress = Callable[[str, int, int | None], None]  # what is being done, how many are done, of how many


def as_weights_ask(config: TrainConfig, progress: OnProgress) -> TrainConfig:
    """The network, stem and normalisation that the first weights are for, where no others are asked for."""
    if config.weights in (None, "none", "auto"):
        return config
    name, spec, preprocess = network_of(str(config.weights), progress=progress)
    stem: Any = spec.stem if spec.keeps_size else "own"
    if config.model is None and str(name).partition(":")[0] not in VARIANTS:
        raise UsageError(f"the network of {config.weights} has no name: give --model, or network= in Python")
    halves = preprocess is not None and preprocess.mean == HALF
    return replace(
        config,
        model=config.model or name,
        stem=config.stem or stem,
        normalize=config.normalize or ("half" if halves else None),
    )


def open_for_training(data: Any, config: TrainConfig, progress: OnProgress) -> Data:
    return open_data(
        data,
        classes=None if config.classes is None else Path(config.classes),
        strict=config.strict_data,
        all_train=config.all_train,
        options=data_options(config),
        progress=lambda done, total: progress("looking at the pictures", done, total),
        download_progress=progress,
    )


def planned_network(plan: Plan) -> nn.Module:
    """The planned network with random weights, drawn by the run's seed."""
    config = plan.config
    spec = variant(config.model or "")
    if config.stem is not None and config.stem != "own":
        spec = replace(spec, stem=config.stem)
    spec = replace(
        spec,
        zero_last=spec.zero_last and config.zero_last,
        in_channels=CHANNELS[plan.preprocess.channels],
        heads=tuple((name, len(head)) for name, head in plan.heads.items()),
    )
    torch.manual_seed(config.seed)
    return build(spec)


def first_weights(
    network: nn.Module, plan: Plan, gallery: Gallery, progress: OnProgress
) -> tuple[dict[str, Any], str | None]:
    """Put in the weights that the run starts from: what the origin says of them, and a line to show.

    Without any, a whitened stem gets its filters from these pictures. Batch norms with folded statistics get the
    statistics of these pictures; the network's answers stay the same.
    """
    origin = {"resnets": VERSION, "torch": torch.__version__, "model": plan.config.model}
    if plan.config.weights in (None, "none"):
        return origin, _whitened(network, plan, gallery)
    receipt = initialise(network, str(plan.config.weights), heads=plan.heads, progress=progress)
    line = receipt.line()
    if receipt.folded:
        config = plan.config
        part = max(2, (config.batch or 1) // (world().size * (config.accumulate or 1)))  # what fits into memory
        device = config.device or "cpu"
        device = device if device.startswith("cuda") else "cpu"  # it takes double precision, which MPS has not
        pictures = gallery.normalised("train", plan.preprocess, batch=part)
        unfold(network.to(device), (images.to(device) for images in pictures))
        network.cpu()
        line += "; folded batch norms were given the statistics of these pictures"
    return {**origin, RECEIPT: receipt.to_json(), LICENCE: receipt.licence}, line


def _whitened(network: nn.Module, plan: Plan, gallery: Gallery) -> str | None:
    """Make the filters of a whitened stem, and say so; from the same pictures whatever the seed."""
    stem = getattr(network, "conv1", None)
    if not isinstance(stem, WhitenedStem):
        return None
    pictures = gallery.normalised("train", plan.preprocess, batch=WHITENING_BATCH, most=WHITENING_PICTURES)
    count = whiten(stem, pictures)
    side, directions = stem.kernel_size[0], len(stem.weight) // 2
    return f"whitened stem: {directions} filters of {side}x{side} and their negatives, from {count:,} pictures"


def first_teacher(plan: Plan, origin: dict[str, Any]) -> Model | None:
    """The model that teaches; its hash goes into the origin, and its licence beside that of the first weights.

    An origin that has the hash already is that of a run that goes on: raises UsageError where the teacher is
    another by now.
    """
    path = plan.config.teacher
    if path is None:
        return None
    teacher = load(path)
    mark = {"path": path, "sha256": tensors_sha256(teacher.network.state_dict())}
    if TEACHER not in origin:
        licences = dict.fromkeys((origin.get(LICENCE), teacher.origin.get(LICENCE)))
        origin[TEACHER] = mark
        origin[LICENCE] = " and ".join(filter(None, licences)) or None
    elif origin[TEACHER]["sha256"] != mark["sha256"]:
        raise UsageError(f"{path} is not the teacher that this run began with; put that one back and resume again")
    return teacher


def data_origin(data: Data, run: Path, config: TrainConfig) -> dict[str, Any]:
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


def with_lasting_paths(config: TrainConfig) -> TrainConfig:
    """The files that a resume may need again, as they can be found from any folder."""
    names = ("classes", "weights", "teacher", "root", "holdout_combinations")
    given = {name: getattr(config, name) for name in names}
    lasting: dict[str, Any] = {name: lasting_address(path) for name, path in given.items() if path is not None}
    return replace(config, **lasting)


def lasting_address(address: str | Path) -> str:
    """A path as it can be found from anywhere; a name such as `digits` as it is."""
    path = Path(address)
    return str(path.absolute()) if path.exists() else str(address)
