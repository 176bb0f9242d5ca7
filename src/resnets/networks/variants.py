"""The networks by name: a row of fields each, under its source. Names are torchvision's or timm's where known."""

from dataclasses import replace
from typing import Any

from resnets.base.errors import UsageError, unknown_name
from resnets.labels import LABEL
from resnets.networks.spec import Block, ResNetSpec

_10 = ResNetSpec(block="basic", depths=(1, 1, 1, 1))
_18 = ResNetSpec(block="basic", depths=(2, 2, 2, 2))
_34 = ResNetSpec(block="basic", depths=(3, 4, 6, 3))
_14 = ResNetSpec(block="bottleneck", depths=(1, 1, 1, 1))
_26 = ResNetSpec(block="bottleneck", depths=(2, 2, 2, 2))
_50 = ResNetSpec(block="bottleneck", depths=(3, 4, 6, 3))
_101 = ResNetSpec(block="bottleneck", depths=(3, 4, 23, 3))
_152 = ResNetSpec(block="bottleneck", depths=(3, 8, 36, 3))
_200 = ResNetSpec(block="bottleneck", depths=(3, 24, 36, 3))
_269 = ResNetSpec(block="bottleneck", depths=(3, 30, 48, 8))

_C: dict[str, Any] = {"stem": "deep"}
_S: dict[str, Any] = {"stem": "deep", "stem_width": 128}
_D: dict[str, Any] = {"stem": "deep", "shortcut": "D"}
_T: dict[str, Any] = {"stem": "tiered", "shortcut": "D"}
_RS: dict[str, Any] = {"stem": "strided", "shortcut": "D", "attention": "se", "se_reduction": 4}
_SE: dict[str, Any] = {"attention": "se"}
_ECA: dict[str, Any] = {"attention": "eca"}
_PLAIN: dict[str, Any] = {"shortcut": "none", "zero_last": False}
_32X4D: dict[str, Any] = {"groups": 32, "group_width": 4}
_32X8D: dict[str, Any] = {"groups": 32, "group_width": 8}
_64X4D: dict[str, Any] = {"groups": 64, "group_width": 4}
_WHITENED: dict[str, Any] = {
    "block": "dawn",
    "stem": "whitened",
    "stem_width": 32,
    "act": "hardswish",
    "pool_first": True,
    "pool": "max",
    "zero_last": False,
}
_10_CLASSES = ((LABEL, 10),)


def _cifar(depth: int, **fields: Any) -> ResNetSpec:
    """For pictures of 32×32, three stages of `depth` blocks (He et al. 2015, section 4.2)."""
    small = ResNetSpec(block="basic", depths=(depth,) * 3, width=16, stem="small", heads=_10_CLASSES)
    return replace(small, **fields)


def _v2(spec: ResNetSpec, **fields: Any) -> ResNetSpec:
    """Norm and ReLU before each convolution (He et al. 2016)."""
    block: Block = "preact_basic" if spec.block == "basic" else "preact_bottleneck"
    return replace(spec, block=block, **fields)


def variant(name: str) -> ResNetSpec:
    """The spec of a named network, with fields changed behind a colon: `resnet18`, `resnet18:width=32,stem=deep`.

    Raises UsageError with the nearest names, or for a field or a value that cannot be.
    """
    base, _, changes = name.partition(":")
    if base not in VARIANTS:
        raise unknown_name("network", base, VARIANTS, list_all="resnets models lists all of them")
    spec = VARIANTS[base]
    return replace(spec, **dict(_change(text, spec) for text in changes.split(","))) if changes else spec


def _change(text: str, spec: ResNetSpec) -> tuple[str, Any]:
    """A field and its new value, from `width=32`, `depths=2-2-2` or `antialias=true`."""
    field, _, value = (part.strip() for part in text.partition("="))
    changeable = [
        name for name in vars(spec) if name not in ("in_channels", "heads", "zero_last")
    ]  # train's to say
    if field not in changeable:
        every = f"these can change: {', '.join(changeable)}"
        raise unknown_name("field of a network", field, changeable, list_all=every)
    before = getattr(spec, field)
    try:
        if isinstance(before, tuple):
            return field, tuple(int(part) for part in value.split("-"))
        if isinstance(before, bool):
            return field, {"true": True, "false": False}[value.lower()]
        return field, type(before)(value)
    except (ValueError, KeyError):
        example = "-".join(map(str, before)) if isinstance(before, tuple) else str(before).lower()
        raise UsageError(f"{field}={value} cannot be read; give it as in {field}={example}") from None


VARIANTS: dict[str, ResNetSpec] = {
    # He et al. 2015, table 1, with the stride in the 3×3 (v1.5), as torchvision and timm build them
    "resnet18": _18,
    "resnet34": _34,
    "resnet26": _26,
    "resnet50": _50,
    "resnet101": _101,
    "resnet152": _152,
    "resnet200": _200,
    # the same with the stride in the first 1×1, as the paper has it; basic blocks have no 1×1
    "resnet18_v1": _18,
    "resnet34_v1": _34,
    "resnet50_v1": replace(_50, stride_in="1x1"),
    "resnet101_v1": replace(_101, stride_in="1x1"),
    "resnet152_v1": replace(_152, stride_in="1x1"),
    # He et al. 2015, tables 2 and 3: plain networks, and the shortcuts that are compared (`resnet34` has option B)
    "plain18": replace(_18, **_PLAIN),
    "plain34": replace(_34, **_PLAIN),
    "resnet18_option_a": replace(_18, shortcut="A"),
    "resnet34_option_a": replace(_34, shortcut="A"),
    "resnet34_option_c": replace(_34, shortcut="C"),
    # He et al. 2015, table 6: CIFAR, with shortcuts that have no parameters
    "resnet20": _cifar(3, shortcut="A"),
    "resnet32": _cifar(5, shortcut="A"),
    "resnet44": _cifar(7, shortcut="A"),
    "resnet56": _cifar(9, shortcut="A"),
    "resnet110": _cifar(18, shortcut="A"),
    "resnet1202": _cifar(200, shortcut="A"),
    "resnet20_option_b": _cifar(3),
    "resnet20_option_c": _cifar(3, shortcut="C"),
    "plain20": _cifar(3, **_PLAIN),
    "plain32": _cifar(5, **_PLAIN),
    "plain44": _cifar(7, **_PLAIN),
    "plain56": _cifar(9, **_PLAIN),
    # He et al. 2016: pre-activation; on ImageNet as timm builds it, on CIFAR as tables 1 and 4 have it
    "resnetv2_18": _v2(_18),
    "resnetv2_34": _v2(_34),
    "resnetv2_50": _v2(_50),
    "resnetv2_101": _v2(_101),
    "resnetv2_152": _v2(_152),
    "resnetv2_18d": _v2(_18, **_D),
    "resnetv2_34d": _v2(_34, **_D),
    "resnetv2_50d": _v2(_50, **_D),
    "resnetv2_50t": _v2(_50, **_T),
    "resnetv2_101d": _v2(_101, **_D),
    "resnetv2_152d": _v2(_152, **_D),
    "resnetv2_50d_gn": _v2(_50, **_D, norm="group"),
    "resnetv2_110": _cifar(18, block="preact_basic", shortcut="A"),
    "resnetv2_164": _cifar(18, block="preact_bottleneck", stride_in="1x1"),
    "resnetv2_1001": _cifar(111, block="preact_bottleneck", stride_in="1x1"),
    # Zagoruyko and Komodakis 2016: wide networks, tables 4 and 8
    "wide_resnet16_8": _cifar(2, block="preact_basic", width=128, stem_width=16),
    "wide_resnet28_10": _cifar(4, block="preact_basic", width=160, stem_width=16),
    "wide_resnet40_4": _cifar(6, block="preact_basic", width=64, stem_width=16),
    "wide_resnet50_2": replace(_50, group_width=128),
    "wide_resnet101_2": replace(_101, group_width=128),
    # Xie et al. 2017: ResNeXt
    "resnext50_32x4d": replace(_50, **_32X4D),
    "resnext50d_32x4d": replace(_50, **_32X4D, **_D),
    "resnext101_32x4d": replace(_101, **_32X4D),
    "resnext101_32x8d": replace(_101, **_32X8D),
    "resnext101_64x4d": replace(_101, **_64X4D),
    # Hu et al. 2018: squeeze and excitation
    "seresnet18": replace(_18, **_SE),
    "seresnet34": replace(_34, **_SE),
    "seresnet50": replace(_50, **_SE),
    "seresnet50t": replace(_50, **_SE, **_T),
    "seresnet101": replace(_101, **_SE),
    "seresnet152": replace(_152, **_SE),
    "seresnet152d": replace(_152, **_SE, **_D),
    "seresnet200d": replace(_200, **_SE, **_D),
    "seresnet269d": replace(_269, **_SE, **_D),
    "seresnext26d_32x4d": replace(_26, **_SE, **_32X4D, **_D),
    "seresnext26t_32x4d": replace(_26, **_SE, **_32X4D, **_T),
    "seresnext50_32x4d": replace(_50, **_SE, **_32X4D),
    "seresnext101_32x4d": replace(_101, **_SE, **_32X4D),
    "seresnext101_32x8d": replace(_101, **_SE, **_32X8D),
    "seresnext101d_32x8d": replace(_101, **_SE, **_32X8D, **_D),
    "seresnext101_64x4d": replace(_101, **_SE, **_64X4D),
    # Wang et al. 2020: efficient channel attention
    "ecaresnet26t": replace(_26, **_ECA, **_T),
    "ecaresnet50d": replace(_50, **_ECA, **_D),
    "ecaresnet50t": replace(_50, **_ECA, **_T),
    "ecaresnet101d": replace(_101, **_ECA, **_D),
    "ecaresnet200d": replace(_200, **_ECA, **_D),
    "ecaresnet269d": replace(_269, **_ECA, **_D),
    "ecaresnetlight": ResNetSpec(block="bottleneck", depths=(1, 1, 11, 3), shortcut="D", **_ECA),
    "ecaresnext26t_32x4d": replace(_26, **_ECA, **_32X4D, **_T),
    "ecaresnext50t_32x4d": replace(_50, **_ECA, **_32X4D, **_T),
    # He et al. 2019, figure 2: C has the deep stem, D the average pool too; S (wider stem), T (tiered) are timm's
    "resnet50c": replace(_50, **_C),
    "resnet101c": replace(_101, **_C),
    "resnet152c": replace(_152, **_C),
    "resnet50s": replace(_50, **_S),
    "resnet101s": replace(_101, **_S),
    "resnet152s": replace(_152, **_S),
    "resnet18d": replace(_18, **_D),
    "resnet26d": replace(_26, **_D),
    "resnet34d": replace(_34, **_D),
    "resnet50d": replace(_50, **_D),
    "resnet101d": replace(_101, **_D),
    "resnet152d": replace(_152, **_D),
    "resnet200d": replace(_200, **_D),
    "resnet10t": replace(_10, **_T),
    "resnet14t": replace(_14, **_T),
    "resnet26t": replace(_26, **_T),
    "resnet50t": replace(_50, **_T),
    # Zhang 2019: blur where the network strides
    "resnetblur18": replace(_18, antialias=True),
    "resnetblur50": replace(_50, antialias=True),
    "resnetblur50d": replace(_50, antialias=True, **_D),
    "resnetblur101d": replace(_101, antialias=True, **_D),
    # Bello et al. 2021: ResNet-RS
    "resnetrs50": replace(_50, **_RS),
    "resnetrs101": replace(_101, **_RS),
    "resnetrs152": replace(_152, **_RS),
    "resnetrs200": replace(_200, **_RS),
    "resnetrs270": replace(_50, depths=(4, 29, 53, 4), **_RS),
    "resnetrs350": replace(_50, depths=(4, 36, 72, 4), **_RS),
    "resnetrs420": replace(_50, depths=(4, 44, 87, 4), **_RS),
    # Wu and He 2018: group norm
    "resnet50_gn": replace(_50, norm="group"),
    # Page 2018: the ResNet-9 of his DAWNBench entry
    "resnet9": _cifar(1, block="dawn", depths=(2, 1, 2), width=128, stem_width=64, pool="max", zero_last=False),
    # the same, narrower and behind a whitened stem (Page 2019; Jordan 2024), for an accuracy in few epochs; 11 has
    # a residual block in the second stage too
    "resnet9_whitened": _cifar(1, depths=(2, 1, 2), width=64, **_WHITENED),
    "resnet11_whitened": _cifar(1, depths=(2, 2, 2), width=64, **_WHITENED),
    # tutorial networks, as their texts mean them: Bengali graphemes in grey, with a head a component; a first
    # network with a skip around its third convolution and a fully connected end; Imagenette behind a 3×3 stem
    "grapheme_resnet34": replace(_34, in_channels=1, heads=(("vowel", 11), ("root", 168), ("consonant", 7))),
    "vanresnet": _cifar(1, block="vanilla", depths=(2, 1), width=64, stem_width=32, hidden=128),
    "imagenette_resnet34": replace(_34, stem="small", heads=_10_CLASSES),
}
