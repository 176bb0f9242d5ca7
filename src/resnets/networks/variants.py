"""The named networks: a row of fields each, with its source. Names are torchvision's or timm's where they have it."""

from dataclasses import replace

from resnets.base.errors import unknown_name
from resnets.labels import LABEL
from resnets.networks.spec import ResNetSpec

_18 = ResNetSpec(block="basic", depths=(2, 2, 2, 2))
_34 = ResNetSpec(block="basic", depths=(3, 4, 6, 3))
_26 = ResNetSpec(block="bottleneck", depths=(2, 2, 2, 2))
_50 = ResNetSpec(block="bottleneck", depths=(3, 4, 6, 3))
_101 = ResNetSpec(block="bottleneck", depths=(3, 4, 23, 3))
_152 = ResNetSpec(block="bottleneck", depths=(3, 8, 36, 3))
_200 = ResNetSpec(block="bottleneck", depths=(3, 24, 36, 3))


def _cifar(blocks: int) -> ResNetSpec:
    """6n + 2 layers for pictures of 32×32 (He et al. 2015, section 4.2)."""
    return ResNetSpec(
        block="basic", depths=(blocks,) * 3, width=16, stem="small", shortcut="A", heads=((LABEL, 10),)
    )


def variant(name: str) -> ResNetSpec:
    """The spec of a named network. Raises UsageError with the nearest names."""
    if name not in VARIANTS:
        raise unknown_name("network", name, VARIANTS, list_all="resnets models lists all of them")
    return VARIANTS[name]


VARIANTS: dict[str, ResNetSpec] = {
    # He et al. 2015, table 1, with the stride in the 3×3 (v1.5), as torchvision and timm build them
    "resnet18": _18,
    "resnet34": _34,
    "resnet50": _50,
    "resnet101": _101,
    "resnet152": _152,
    # the same with the stride in the first 1×1, as the paper has it; basic blocks have no 1×1
    "resnet18_v1": _18,
    "resnet34_v1": _34,
    "resnet50_v1": replace(_50, stride_in="1x1"),
    "resnet101_v1": replace(_101, stride_in="1x1"),
    "resnet152_v1": replace(_152, stride_in="1x1"),
    # He et al. 2015, table 6: CIFAR, shortcuts without parameters
    "resnet20": _cifar(3),
    "resnet32": _cifar(5),
    "resnet44": _cifar(7),
    "resnet56": _cifar(9),
    "resnet110": _cifar(18),
    "resnet1202": _cifar(200),
}
