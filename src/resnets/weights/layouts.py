"""Whose names a weights file uses, how they become ours (torchvision's), and which network its shapes are of."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from resnets.base.errors import ModelFileError
from resnets.base.text import printable, some
from resnets.labels import LABEL
from resnets.networks import VARIANTS, ResNetSpec
from resnets.networks.convert import our_name
from resnets.networks.heads import head_name
from resnets.weights.blank import outline
from resnets.weights.header import shown

Shapes = dict[str, tuple[int, ...]]

STEMS = ("conv1.weight", "conv1.0.weight")  # the first layer, by which a prefix is found
COUNTER = "num_batches_tracked"  # of no use in evaluation, and old files lack it
HEADS = ("fc.", "heads.", "hidden.")
LAST_LAYERS = ("linear", "last_linear", "classifier", "head")  # what other programs call `fc`
BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
V2_STEMS = ("stem.conv.weight", "stem.conv1.weight")  # timm's of pre-activation networks, 7×7 and deep
V2_BLOCK = re.compile(r"stages\.\d+\.blocks\.\d+\.")


@dataclass(frozen=True, kw_only=True)
class Named:
    """Tensors of a file under our names.

    tensors: our name -> tensor. sources: our name -> the file's. layout: in words. others: names of the file that
    are outside the network. akamaster: the names are those of akamaster's CIFAR networks.
    """

    tensors: dict[str, torch.Tensor]
    sources: dict[str, str]
    layout: str
    others: tuple[str, ...] = ()
    akamaster: bool = False


def by_our_names(tensors: Mapping[str, torch.Tensor], path: Path, *, prefix: str | None = None) -> Named:
    """Take wrappers off the names and translate them.

    prefix: what the names of the network begin with, where a file holds several networks.
    Raises ModelFileError where no residual network's names, or those of several networks, are found.
    """
    prefix = _prefix(tensors, path) if prefix is None else prefix
    inside = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    sources = {_our_name(name, inside): prefix + name for name in inside}
    if not sources:
        raise ModelFileError(f"{shown(path)} has no tensor whose name begins with {printable(prefix)!r}")
    akamaster = "linear.weight" in inside and not any(".downsample." in name for name in sources)
    if akamaster:
        words = "akamaster's CIFAR names"
    elif any(V2_BLOCK.match(name) for name in inside):
        words = "timm's names of pre-activation networks"
    else:
        words = "torchvision's names" if set(sources) == set(inside) else "translated names"
    return Named(
        tensors={ours: _as_linear(ours, tensors[theirs]) for ours, theirs in sources.items()},
        sources=sources,
        layout=f"{words} behind {printable(prefix)}" if prefix else words,
        others=tuple(name for name in tensors if not name.startswith(prefix)),
        akamaster=akamaster,
    )


def is_head(name: str) -> bool:
    """Whether a tensor belongs to a head; all the others are the body."""
    return name.startswith(HEADS)


def channels_of(tensors: Mapping[str, torch.Tensor]) -> int | None:
    """The channels of the pictures the first layer takes, where there is one that is known."""
    stem = next((tensors[name] for name in STEMS if name in tensors), None)
    return None if stem is None or stem.ndim != 4 else stem.shape[1]


def outputs_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Head name -> number of classes, from the shapes of the last layers."""
    outputs = {}
    for name, value in tensors.items():
        head = head_of(name)
        if head is not None and name.endswith(".weight"):
            outputs[head] = value.shape[0]
    return outputs


def head_of(name: str) -> str | None:
    """The head a tensor is the last layer of: `label` for `fc`, NAME for `heads.NAME`, else None."""
    if name in ("fc.weight", "fc.bias"):
        return LABEL
    if name.startswith("heads."):
        return head_name(name.removeprefix("heads.").rpartition(".")[0])
    return None


def recognise(
    tensors: Mapping[str, torch.Tensor], path: Path, *, first: str | None = None
) -> tuple[str, ResNetSpec]:
    """Which of VARIANTS the tensors are of, whatever their heads, input channels and stem: its name and spec.

    first: the name to try before the others: some networks have the very same shapes.
    Raises ModelFileError where none fits, with the nearest and what differs.
    """
    found: Shapes = {name: tuple(value.shape) for name, value in tensors.items() if _counts(name)}
    depths = _depths(found)
    nearest: tuple[int, str, str] | None = None
    for name, spec in _candidates(depths, channels_of(tensors), first):
        expected = body_shapes(spec)
        differing = [
            tensor for tensor in expected.keys() | found.keys() if expected.get(tensor) != found.get(tensor)
        ]
        if not differing:
            return name, spec
        if nearest is None or len(differing) < nearest[0]:
            worst = min(differing)
            misfit = f"{worst} is {_shape(found.get(worst))}, expected {_shape(expected.get(worst))}"
            nearest = (len(differing), name, misfit)
    described = f"{'-'.join(map(str, depths)) or 'no'} blocks a stage"
    hint = f"; nearest is {nearest[1]}: {printable(nearest[2])}" if nearest else ""
    raise ModelFileError(
        f"{shown(path)} has {described} and fits no network known here{hint}; "
        "if you know the network, name it or give its ResNetSpec (model=)"
    )


def body_shapes(spec: ResNetSpec) -> Shapes:
    """Name -> shape of everything but heads and counters, without taking memory."""
    state = outline(replace(spec, heads=())).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if _counts(name)}


def _candidates(
    depths: tuple[int, ...], channels: int | None, first: str | None
) -> Iterator[tuple[str, ResNetSpec]]:
    """Networks of these depths: `first`, then as they are listed, then with the other common stem."""
    names = sorted(
        (name for name, spec in VARIANTS.items() if spec.depths == depths), key=lambda name: name != first
    )
    specs = {name: replace(VARIANTS[name], heads=(), in_channels=channels or 3) for name in names}
    yield from specs.items()
    for name, spec in specs.items():
        if spec.stem in ("imagenet", "small"):
            yield name, replace(spec, stem="small" if spec.stem == "imagenet" else "imagenet")


def _counts(name: str) -> bool:
    return not is_head(name) and not name.endswith(COUNTER)


def _depths(shapes: Shapes) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        match = BLOCK.match(name)
        if match:
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    return tuple(len(blocks[stage]) for stage in sorted(blocks))


def _prefix(tensors: Mapping[str, torch.Tensor], path: Path) -> str:
    """What stands before the network's first layer; it must be one, and the shortest must be alone."""
    stems = (*STEMS, *V2_STEMS)
    found = {name[: -len(stem)] for stem in stems for name in tensors if name == stem or name.endswith("." + stem)}
    outer = sorted(prefix for prefix in found if any(_is_block(name, prefix) for name in tensors))
    if not outer:
        names = some(sorted(tensors))
        raise ModelFileError(
            f"{shown(path)} has no residual network's names (no {STEMS[0]}) among its {len(tensors)} tensors: "
            f"{names}; networks of torchvision, timm and akamaster are known here"
        )
    if len(outer) > 1:
        raise ModelFileError(
            f"{shown(path)} holds {len(outer)} networks, named {some(outer)}; say which with prefix="
        )
    return outer[0]


def _is_block(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and any(block.match(name, len(prefix)) for block in (BLOCK, V2_BLOCK))


def _our_name(name: str, names: Collection[str]) -> str:
    first, _, rest = name.partition(".")
    if first in LAST_LAYERS and rest in ("weight", "bias"):
        return f"fc.{rest}"
    inner = re.fullmatch(r"(?:fc|classifier|head)\.(?:\d+|fc|linear)\.(weight|bias)", name)
    if inner and sum(bool(re.match(r"(?:fc|classifier|head)\..*\.weight$", other)) for other in names) == 1:
        return f"fc.{inner[1]}"  # the only linear layer of an nn.Sequential
    if V2_BLOCK.match(name) or name.startswith("stem."):
        return our_name(name, deep=V2_STEMS[1] in names)
    return re.sub(r"^(layer\d+\.\d+\.)shortcut\.", r"\1downsample.", name)


def _as_linear(name: str, value: torch.Tensor) -> torch.Tensor:
    """The last layer where it is a 1×1 convolution, as timm's pre-activation networks have it; else as it is."""
    return value.flatten(1) if name == "fc.weight" and value.shape[2:] == (1, 1) else value


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))
