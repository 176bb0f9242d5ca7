"""State dicts that torchvision and timm load strictly: what was trained here goes there."""

import re

from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.networks.backbone import HasNetwork, resnet_of
from resnets.networks.spec import ResNetSpec

_DEEP_STEM = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2", "6": "conv3"}
_V2_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(?:bn(\d)|(conv\d)|downsample\.\d)\.(.*)")
_THEIR_STEM = {"conv": "conv1", **{theirs: f"conv1.{ours}" for ours, theirs in _DEEP_STEM.items()}}
_THEIR_V2_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(?:norm(\d)|(conv\d)|downsample\.conv)\.(.*)")


def to_torchvision(model: nn.Module | HasNetwork) -> dict[str, Tensor]:
    """The state dict of torchvision's ResNet with the same block, layers, groups and width_per_group.

    model: a network, or a loaded model. Raises UsageError, with the field that differs, where torchvision's class
    cannot build this network.
    """
    network = resnet_of(model, asks="to_torchvision")
    spec = network.spec
    wanted = {
        "block": spec.block in ("basic", "bottleneck"),
        "depths": len(spec.depths) == 4,
        "width": spec.width == 64,
        "stride_in": spec.stride_in == "3x3",
        "stem": spec.stem == "imagenet",
        "stem_width": spec.stem_channels == 64,
        "shortcut": spec.shortcut == "B",
        "attention": spec.attention == "none",
        "antialias": not spec.antialias,
        "norm": spec.norm == "batch",
        "act": spec.act == "relu",
        "pool": spec.pool == "average",
        "hidden": not spec.hidden,
        "output_stride": spec.block == "bottleneck" or spec.output_stride in (0, 32),
        "in_channels": spec.in_channels == 3,
        "heads": len(spec.heads) == 1,
    }
    _refuse(spec, wanted, "torchvision")
    return dict(network.state_dict())


def to_timm(model: nn.Module | HasNetwork) -> dict[str, Tensor]:
    """The state dict of timm's network of the same name, or of its ResNet or ResNetV2 with the same settings.

    model: a network, or a loaded model. Raises UsageError, with the field that differs, where timm's classes
    cannot build this network.
    """
    network = resnet_of(model, asks="to_timm")
    spec = network.spec
    wanted = {
        "block": not spec.pooled_stages,
        "depths": len(spec.depths) == 4,
        "width": spec.width == 64,
        "stride_in": spec.stride_in == "3x3",
        "stem": not spec.keeps_size and not (spec.preact and spec.stem == "strided"),
        "stem_width": spec.stem_channels == 64 or (spec.stem != "imagenet" and not spec.preact),
        "shortcut": spec.shortcut in ("B", "D"),
        "attention": spec.attention == "none" or not spec.preact,
        "antialias": not (spec.antialias and spec.preact),
        "act": spec.act == "relu",
        "pool": spec.pool == "average",
        "hidden": not spec.hidden,
        "heads": len(spec.heads) <= 1,
    }
    _refuse(spec, wanted, "timm")
    state = {timm_name(spec, name): tensor for name, tensor in network.state_dict().items()}
    if spec.preact and spec.heads:
        state["head.fc.weight"] = state["head.fc.weight"][:, :, None, None]  # a 1×1 convolution there
    return state


def timm_name(spec: ResNetSpec, name: str) -> str:
    """A tensor's name in timm: the same, but in pre-activation networks."""
    if not spec.preact:
        return name
    top, _, rest = name.partition(".")
    if top == "fc":
        return f"head.{name}"
    if top == "conv1":
        number, _, last = rest.rpartition(".")
        return f"stem.{_DEEP_STEM[number]}.{last}" if number else f"stem.conv.{last}"
    found = _V2_BLOCK.fullmatch(name)
    if not found:
        return name
    stage, block, number, convolution, last = found.groups()
    module = f"norm{number}" if number else convolution or "downsample.conv"
    return f"stages.{int(stage) - 1}.blocks.{block}.{module}.{last}"


def our_name(name: str, *, deep: bool) -> str:
    """The inverse of `timm_name` for the body of a pre-activation network. deep: its stem is not the 7×7.

    Their names do not say whether a projection averages first: timm's do where the stem is deep.
    """
    stem, _, rest = name.removeprefix("stem.").partition(".")
    if name.startswith("stem.") and stem in _THEIR_STEM:
        return f"{_THEIR_STEM[stem]}.{rest}"
    found = _THEIR_V2_BLOCK.fullmatch(name)
    if not found:
        return name
    stage, block, number, convolution, last = found.groups()
    module = f"bn{number}" if number else convolution or f"downsample.{int(deep)}"
    return f"layer{int(stage) + 1}.{block}.{module}.{last}"


def _refuse(spec: ResNetSpec, fits: dict[str, bool], library: str) -> None:
    for field, fit in fits.items():
        if not fit:
            raise UsageError(
                f"{library} has no network with {field}={getattr(spec, field)!r}; "
                "network.state_dict() gives the tensors under their own names"
            )
