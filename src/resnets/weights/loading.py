"""From a path to a model: our own model files, and weights of other programs with an account of every tensor."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from resnets.base.errors import UsageError, unknown_name
from resnets.base.text import printable
from resnets.labels import LABEL, Head
from resnets.networks import VARIANTS, ResNet, ResNetSpec, build, variant
from resnets.preprocess import Preprocess
from resnets.weights import modelfile
from resnets.weights.assumptions import classes_of, preprocess_of, spec_of, told_otherwise
from resnets.weights.blank import blank
from resnets.weights.catalogue import Progress, catalogue, fetch, published
from resnets.weights.layouts import channels_of
from resnets.weights.modelfile import LICENCE, RECEIPT, UNNAMED, Model
from resnets.weights.receipt import Receipt
from resnets.weights.source import Source, from_model, read_source
from resnets.weights.transfer import Allowed, folded_batch_norm, transfer

log = logging.getLogger("resnets.weights")  # a name of its own: the command line shows receipts, not all remarks

RUN_MODEL = "model.safetensors"  # in a run folder
FOLDED_NOTE = (
    "its batch norms hold folded statistics (mean 0, variance 1): right in evaluation; "
    "in training they must be recalibrated or frozen"
)


def load(
    path_or_name: Path | str,
    *,
    network: nn.Module | None = None,
    model: str | ResNetSpec | None = None,
    num_classes: int | None = None,
    heads: Mapping[str, int] | None = None,
    in_channels: int | None = None,
    preprocess: Preprocess | None = None,
    partial: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Load a model file, a run folder's model, weights of torchvision, timm or akamaster, or weights by name.

    network: the module for a model file that holds a network of another library.
    progress: called while a named file is downloaded, with what is done, the bytes so far and in all.
    The other options are those of `load_weights`; the receipt is in the model's origin, its line is logged (INFO),
    and assumptions are warned of.
    Raises UsageError for a path or name that is not there, ModelFileError for a file that cannot be used.
    """
    path = find(path_or_name, progress=progress)
    changes = (model, num_classes, heads, in_channels, preprocess) != (None,) * 5
    if network is not None or (not changes and modelfile.is_model_file(path)):
        return modelfile.load(path, network=network)
    loaded, receipt = load_weights(
        path,
        model=model,
        num_classes=num_classes,
        heads=heads,
        in_channels=in_channels,
        preprocess=preprocess,
        partial=partial,
        strict=strict,
    )
    log.info("%s", receipt.line())
    for text in receipt.assumptions:
        log.warning("%s: assumed: %s", printable(path.name), text)
    for text in receipt.notes:
        log.info("%s: %s", printable(path.name), text)
    return loaded


def load_weights(
    file: Path | str,
    *,
    model: str | ResNetSpec | None = None,
    num_classes: int | None = None,
    heads: Mapping[str, int] | None = None,
    in_channels: int | None = None,
    preprocess: Preprocess | None = None,
    partial: bool = False,
    strict: bool = False,
    prefix: str | None = None,
) -> tuple[Model, Receipt]:
    """Put the weights of a local file into the network they are of, and account for every tensor.

    model: the network, where the shapes alone do not say it or say it wrongly.
    num_classes, heads: other heads than the file's; they are new. heads={}: none, for features.
    in_channels: the first layer is folded to it.
    preprocess: where the file states none. partial: allow a body that is not wholly covered. strict: refuse
    anything but copying and renaming. prefix: how the network's names begin, where the file holds several.
    Raises ModelFileError where a tensor does not fit, by name and with both shapes.
    """
    path = Path(file)
    source = read_source(path, prefix=prefix)
    spec, name, said = _network_of(source, model)
    if num_classes is not None and heads is not None:
        raise UsageError("give num_classes or heads, not both; several heads: heads={'root': 168, ...}")
    outputs = {LABEL: num_classes} if num_classes is not None else source.outputs if heads is None else dict(heads)
    channels = in_channels or channels_of(source.named.tensors) or spec.in_channels
    spec = replace(spec, heads=tuple(outputs.items()), in_channels=channels)
    allowed = Allowed(partial=partial, strict=strict)
    network = blank(spec).eval()
    receipt = _transferred(network, source, allowed)
    fresh = {entry.tensor for entry in receipt.entries if entry.action == "reinitialised"}
    if fresh:  # what the file does not fill needs values to start from
        network = build(spec).eval()
        receipt = _transferred(network, source, allowed)
    classes, unnamed, about_classes = classes_of(source, spec, fresh)
    preprocess, about_pictures = preprocess_of(source, spec, preprocess)
    other = told_otherwise(source, spec)
    receipt = replace(receipt, assumptions=(*said, *([other] if other else ()), *about_classes, *about_pictures))
    loaded = Model(
        network=network,
        heads=classes,
        preprocess=preprocess,
        calibration=source.base.calibration if source.base and not fresh else {},
        origin={
            "network": name,
            LICENCE: receipt.licence,
            UNNAMED: unnamed,
            RECEIPT: receipt.to_json(),
            **({"base": source.base.origin} if source.base else {}),
        },
    )
    return loaded, receipt


def initialise(
    network: nn.Module,
    source: Path | str | Model,
    *,
    heads: Mapping[str, Head] | None = None,
    partial: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> Receipt:
    """Start a network from other weights, before it is trained.

    heads: the network's classes; a head is copied only where the source's has the same classes in the same order.
    Raises ModelFileError, before the network is touched, where the weights do not cover its body.
    """
    start = from_model(source) if isinstance(source, Model) else read_source(find(source, progress=progress))
    allowed = Allowed(partial=partial, strict=strict)
    receipt = _transferred(network, start, allowed, other_classes=_other_classes(start, heads or {}))
    other = told_otherwise(start, network.spec) if isinstance(network, ResNet) else None
    if other is None:
        return receipt
    log.warning("%s: %s", printable(start.path.name), other)
    return replace(receipt, notes=(*receipt.notes, other))


def network_of(
    path_or_name: Path | str, *, progress: Progress | None = None
) -> tuple[str | None, ResNetSpec, Preprocess | None]:
    """The network that weights are of: its name and how pictures are prepared, as far as known, and its spec."""
    source = read_source(find(path_or_name, progress=progress))
    spec, name, _ = _network_of(source, None)
    stated = source.base.preprocess if source.base else None
    return name, spec, source.published.preprocess if source.published else stated


def find(path_or_name: Path | str, *, progress: Progress | None = None) -> Path:
    """The file that is meant: a path, a run folder's model, or weights by name, which are downloaded once.

    Raises UsageError where there is none.
    """
    path, name = Path(path_or_name), str(path_or_name)
    if path.is_dir():
        if (path / RUN_MODEL).exists():
            return path / RUN_MODEL
        raise UsageError(f"the folder {printable(name)} has no {RUN_MODEL}; give a model file or a run folder")
    if path.exists():
        return path
    if name in VARIANTS:
        raise UsageError(
            f"{name} is a network, not weights: resnets.build({name!r}) gives it with random weights; "
            f"give the path of a model or weights file, or published weights such as {_example(name)}"
        )
    if name in catalogue() or name.partition(".")[0] in VARIANTS:
        return fetch(published(name), progress=progress)
    if path.suffix or path.parent != Path("."):
        raise UsageError(f"there is no file {printable(name)}; check the path")
    raise unknown_name(
        "model file or weights",
        name,
        [*VARIANTS, *catalogue()],
        list_all="give the path of a model or weights file, or a name of resnets models --weights",
    )


def _example(network: str) -> str:
    """Published weights, of this network where there are any."""
    known = list(catalogue())
    return next((name for name in known if name.partition(".")[0] == network), known[0])


def _network_of(source: Source, model: str | ResNetSpec | None) -> tuple[ResNetSpec, str | None, list[str]]:
    """The spec, its name where it has one, and what was assumed to find it."""
    if isinstance(model, ResNetSpec):
        return model, None, []
    if model is not None:
        return variant(model), model, []
    if source.spec is not None and source.base is not None:
        origin = source.base.origin
        return source.spec, origin.get("network") or origin.get("model"), []
    name, spec, assumed = spec_of(source)
    return spec, name, assumed


def _transferred(
    network: nn.Module, source: Source, allowed: Allowed, *, other_classes: Mapping[str, str] | None = None
) -> Receipt:
    entries, notes = transfer(network, source.named, source.path, allowed=allowed, other_classes=other_classes)
    folded = folded_batch_norm(network)
    return Receipt(
        source=source.path.name,
        sha256=source.sha256,
        layout=source.named.layout,
        entries=tuple(entries),
        licence=source.licence,
        folded=folded,
        notes=(*_published(source), *_opened(source), *notes, *([FOLDED_NOTE] if folded else [])),
    )


def _published(source: Source) -> list[str]:
    """What the publisher states of the file."""
    known = source.published
    if known is None:
        return []
    height, top1 = known.preprocess.size[0], known.top1
    figure = f"; top-1 {top1:.2f}% of ImageNet's validation pictures at {height} px" if top1 else ""
    return [f"published as {known.name}{figure}"]


def _opened(source: Source) -> list[str]:
    """Which of a checkpoint's tables the tensors are from."""
    if source.file is None or not source.file.container:
        return []
    others = [name for name in source.file.beside if name in ("state_dict", "model")]
    instead = f", not those under {others[0]}" if others else ""
    return [f"the tensors are those under {printable('.'.join(source.file.container))}{instead}"]


def _other_classes(source: Source, heads: Mapping[str, Head]) -> dict[str, str]:
    """Head, as its tensors name it -> why the source's must not be copied."""
    refused = {}
    single = len(heads) == 1
    for name, head in heads.items():
        theirs = next(iter(source.outputs)) if single and len(source.outputs) == 1 else name
        known = source.head(theirs)
        if known is None or known[0].ids != head.ids:
            why = "the source does not name its classes" if known is None else f"{len(head):,} other classes"
            refused[LABEL if single else name] = why
    return refused
