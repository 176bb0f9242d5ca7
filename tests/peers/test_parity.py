"""Our networks against torchvision's and timm's: the same tensors, the same outputs, the same gradients.

At full depth names, shapes and counts are compared. Numbers are compared when short: two blocks in the first
stage and one in the others, groups of 4, ten classes; once for each distinct network that is left then.
`table.py` compares the numbers at full depth.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from resnets.base.errors import UsageError
from resnets.networks.convert import to_timm, to_torchvision
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import ResNetSpec
from resnets.networks.stems import fold_channels
from resnets.networks.variants import VARIANTS
from tests.peers.references import (
    assembled,
    compare,
    counterpart,
    names_assembled,
    names_in_timm,
    names_in_torchvision,
    their_state,
    timm,
)

FLOAT64, FLOAT32 = 1e-8, 5e-4  # largest relative differences
SHORT = (2, 1, 1, 1)
NAMES = [
    *(("torchvision", name) for name in names_in_torchvision()),
    *(("timm", name) for name in names_in_timm()),
]


def short(name: str, **fields: Any) -> ResNetSpec:
    spec = VARIANTS[name]
    groups = {"groups": 4, "group_width": 16} if spec.groups > 1 else {}
    return replace(spec, depths=SHORT[: len(spec.depths)], heads=(("label", 10),), **groups, **fields)


def short_timm(name: str, **settings: Any) -> torch.nn.Module:
    groups = {"cardinality": 4, "base_width": 16} if VARIANTS[name].groups > 1 else {}
    return counterpart("timm", name, layers=SHORT, num_classes=10, **groups, **settings)


def distinct_when_short() -> list[tuple[str, str]]:
    seen: dict[ResNetSpec, tuple[str, str]] = {}
    for library, name in NAMES:
        seen.setdefault(short(name), (library, name))
    return list(seen.values())


@pytest.fixture(autouse=True)
def same_random_weights_each_time() -> None:
    torch.manual_seed(0)


def assert_equal(ours: ResNet, theirs: torch.nn.Module, library: str) -> None:
    difference = compare(ours, theirs, library)
    assert difference.largest() <= FLOAT64
    assert difference.float32_output <= FLOAT32


def test_both_libraries_are_compared_by_many_names() -> None:
    assert len(names_in_torchvision()) == 10
    assert len(names_in_timm()) >= 70
    assert len(names_assembled()) == 10


@pytest.mark.parametrize(("library", "name"), NAMES)
def test_the_tensors_have_their_names_and_shapes(library: str, name: str) -> None:
    with torch.device("meta"):
        ours, theirs = ResNet(VARIANTS[name]), counterpart(library, name)
    assert {key: tensor.shape for key, tensor in their_state(ours, library).items()} == {
        key: tensor.shape for key, tensor in theirs.state_dict().items()
    }
    assert sum(each.numel() for each in ours.parameters()) == sum(each.numel() for each in theirs.parameters())


@pytest.mark.parametrize(("library", "name"), distinct_when_short())
def test_outputs_and_gradients_are_theirs(library: str, name: str) -> None:
    theirs = assembled(short(name)) if library == "torchvision" else short_timm(name)
    assert_equal(ResNet(short(name)), theirs, library)


def test_resnet18_is_torchvisions_at_full_depth() -> None:
    assert_equal(build("resnet18"), counterpart("torchvision", "resnet18"), "torchvision")


@pytest.mark.parametrize(("name", "width"), [("resnet50_v1", 64), ("wide_resnet16_8", 32), ("resnetv2_164", 16)])
def test_what_they_lack_equals_a_reference_from_their_parts(name: str, width: int) -> None:
    spec = short(name, width=width)
    assert_equal(ResNet(spec), assembled(spec), "assembled")


def test_v1_and_v15_have_the_same_tensors_and_other_outputs() -> None:
    theirs = assembled(short("resnet50_v1", stride_in="3x3"))
    assert compare(ResNet(short("resnet50_v1")), theirs, "assembled").eval_output > 0.01


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_resnet_is_torchvisions(output_stride: int) -> None:
    spec = short("resnet50", output_stride=output_stride)
    assert_equal(ResNet(spec), assembled(spec), "torchvision")


@pytest.mark.parametrize("name", ["resnet18d", "resnetblur18", "resnetv2_18d"])
def test_a_dilated_resnet_is_timms(name: str) -> None:
    assert_equal(ResNet(short(name, output_stride=8)), short_timm(name, output_stride=8), "timm")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("resnet50_v1", "stride_in='1x1'"),
        ("resnet20", "depths="),
        ("resnet50d", "stem='deep'"),
        ("resnet18:act=hardswish", "act='hardswish'"),
    ],
)
def test_what_torchvision_cannot_build_is_refused_with_the_field(name: str, field: str) -> None:
    with pytest.raises(UsageError, match=f"torchvision has no network with {field}"):
        to_torchvision(build(name))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("resnet50_v1", "stride_in='1x1'"),
        ("resnet9", "block='dawn'"),
        ("plain18", "shortcut='none'"),
        ("resnet18:act=hardswish", "act='hardswish'"),
    ],
)
def test_what_timm_cannot_build_is_refused_with_the_field(name: str, field: str) -> None:
    with pytest.raises(UsageError, match=f"timm has no network with {field}"):
        to_timm(build(name))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12])
def test_a_stem_is_folded_to_other_channels_as_timm_folds_it(channels: int) -> None:
    weight = torch.randn(4, 3, 7, 7)
    theirs = timm().models.adapt_input_conv(channels, weight)
    torch.testing.assert_close(fold_channels(weight, channels), theirs)
