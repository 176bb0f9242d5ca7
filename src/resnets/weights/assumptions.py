"""What weights of other programs do not say and is taken for granted: one line each, said and kept."""

import re
from dataclasses import replace

from resnets.base.errors import UsageError
from resnets.labels import Head
from resnets.networks import VARIANTS, ResNetSpec
from resnets.networks.heads import module_name
from resnets.preprocess import CHANNELS, IMAGENET_MEAN, IMAGENET_STD, Channels, Preprocess
from resnets.weights.layouts import recognise
from resnets.weights.presets import CIFAR, IMAGENET, numbered_head
from resnets.weights.source import Source

KINDS: dict[int, Channels] = {1: "grey", 3: "rgb", 4: "rgba"}
TRACELESS = ("stride_in", "antialias", "shortcut")  # of a spec: may differ where names and shapes do not


def spec_of(source: Source) -> tuple[str, ResNetSpec, list[str]]:
    """The network's name and spec, from the shapes and from what the file says, and what was assumed.

    Some networks have the very same shapes: where nothing says which it is, the one first listed is assumed (v1.5,
    not v1). A bare file name settles all but the stride, since both v1 and v1.5 go by the same names.
    """
    stated, surely = _stated(source)
    name, spec = recognise(source.named.tensors, source.path, first=stated)
    spec = replace(VARIANTS[name], stem=spec.stem)
    twins = [twin for twin, other in VARIANTS.items() if is_twin(VARIANTS[name], other)]
    v1 = [twin for twin in twins if VARIANTS[twin].stride_in != spec.stride_in]
    if name == stated:
        twins = [] if surely or spec.stride_in == "1x1" else v1
    if not twins:
        return name, spec, []
    kind = " (v1.5, as torchvision and timm build it)" if v1 else ""
    assumed = (
        f"the network is {name}{kind}; {' and '.join(twins)} {'has' if len(twins) == 1 else 'have'} the same "
        f"shapes and nothing in the file says which it is: if the figures are poor, give model={twins[0]!r}"
    )
    return name, spec, [assumed]


def is_twin(spec: ResNetSpec, other: ResNetSpec) -> bool:
    """Whether tensors of one load into the other and mean something else there."""
    return _shaped(spec) == _shaped(other) and any(
        getattr(spec, field) != getattr(other, field) for field in TRACELESS
    )


def _shaped(spec: ResNetSpec) -> ResNetSpec:
    """The same for all specs whose bodies have the same names and shapes."""
    shortcut = "A" if spec.shortcut == "none" else spec.shortcut
    return replace(
        spec, stride_in="3x3", antialias=False, shortcut=shortcut, zero_last=False, drop_path=0.0, dropout=0.0,
        output_stride=0, heads=(),
    )  # fmt: skip


def told_otherwise(source: Source, spec: ResNetSpec) -> str | None:
    """What to warn of where the source says that its weights are of a twin of the network they are put into."""
    stated, surely = (None, False) if source.base else _stated(source)
    theirs = source.spec if source.base else VARIANTS[stated] if stated and surely else None
    if theirs is None or not is_twin(replace(theirs, in_channels=spec.in_channels), spec):
        return None
    differing = [
        f"{name}={getattr(theirs, name)!r}, not {getattr(spec, name)!r}"
        for name in TRACELESS
        if getattr(theirs, name) != getattr(spec, name)
    ]
    return (
        f"these weights are of a network with {'; '.join(differing)}: the tensors fit, but mean something "
        "else here; choose the network that they are of"
    )


def _stated(source: Source) -> tuple[str | None, bool]:
    """The name that the file gives its network, inside or by its own name, and whether that is to be relied on.

    torchvision's and timm's file names end in the first digits of the file's SHA-256.
    """
    if source.published is not None:
        return source.published.network, True
    arch = (source.file.arch or "").partition(".")[0] if source.file else ""
    if arch in VARIANTS:
        return arch, True
    words = re.match(r"[a-z0-9_]*", source.path.name)
    name = words[0] if words else ""
    while name and name not in VARIANTS:  # resnetblur50_84f4748f is resnetblur50
        name = name.rpartition("_")[0]
    digits = re.search(r"[-_]([0-9a-f]{8})\.(?:pth|th|pt)$", source.path.name)
    return name or None, digits is not None and source.sha256.startswith(digits[1])


def classes_of(source: Source, spec: ResNetSpec, fresh: set[str]) -> tuple[dict[str, Head], list[str], list[str]]:
    """The heads of a network, the names of those whose classes are not known, and what was assumed.

    fresh: tensors that were initialised anew.
    """
    heads: dict[str, Head] = {}
    unnamed: list[str] = []
    assumed: list[str] = []
    for name, classes in spec.heads:
        module = "fc" if len(spec.heads) == 1 else f"heads.{module_name(name)}"
        known = None if f"{module}.weight" in fresh else source.head(name)
        if known is None:
            unnamed.append(name)
        elif known[1]:
            assumed.append(known[1])
        heads[name] = known[0] if known else numbered_head(classes)
    return heads, unnamed, assumed


def preprocess_of(source: Source, spec: ResNetSpec, given: Preprocess | None) -> tuple[Preprocess, list[str]]:
    """How pictures are prepared, and what was assumed for that."""
    if given is not None:
        if CHANNELS[given.channels] != spec.in_channels:
            raise UsageError(
                f"preprocess is for {given.channels} pictures, but the network takes {spec.in_channels} channels"
            )
        return given, []
    if spec.in_channels not in KINDS:
        raise UsageError(
            f"pictures of files have 1 (grey), 3 (rgb) or 4 (rgba) channels, not {spec.in_channels}: give "
            f"in_channels; for tensors of your own, resnets.build(NAME, in_channels={spec.in_channels}) and "
            "resnets.weights.loading.initialise(network, FILE)"
        )
    stored = source.base.preprocess if source.base else None
    if source.published is not None:
        stored = source.published.preprocess
    chosen = _with_channels(stored or (CIFAR if spec.keeps_size else IMAGENET), spec.in_channels)
    if stored:
        return chosen, []
    height, width = chosen.size
    share = f"centre crop of {chosen.crop:g}" if chosen.crop < 1 else "whole"
    return chosen, [
        f"pictures are prepared at {height}x{width} ({share}, {chosen.interpolation}) with ImageNet's mean and "
        "deviation"
    ]


def _with_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """The same for other channels: the mean of three for grey, one half for alpha."""
    if CHANNELS[preprocess.channels] == channels:
        return preprocess
    colour = len(preprocess.mean) >= 3
    mean, std = (preprocess.mean[:3], preprocess.std[:3]) if colour else (IMAGENET_MEAN, IMAGENET_STD)
    if channels == 1:
        mean, std = (round(sum(mean) / 3, 6),), (round(sum(std) / 3, 6),)
    elif channels == 4:
        mean, std = (*mean, 0.5), (*std, 0.5)
    return replace(preprocess, channels=KINDS[channels], mean=mean, std=std)
