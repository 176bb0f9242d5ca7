import json
import subprocess
import sys
from dataclasses import replace

import pytest

from resnets.base.errors import ModelFileError, UsageError
from resnets.networks import limits
from resnets.networks.spec import ResNetSpec, stem_for
from resnets.networks.variants import VARIANTS

RESNET50 = VARIANTS["resnet50"]


def test_reading_specs_and_variants_imports_no_torch() -> None:
    code = "import sys, resnets.networks, resnets.networks.variants; print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert output.stdout.strip() == "False"


def test_resnet50_has_the_maps_of_he_et_al_table_1() -> None:
    assert RESNET50.maps() == {
        "stem": (64, 2),
        "stage1": (256, 4),
        "stage2": (512, 8),
        "stage3": (1024, 16),
        "stage4": (2048, 32),
        "pooled": (2048, 0),
    }


def test_cifar_networks_end_at_a_quarter_of_the_sides() -> None:
    assert VARIANTS["resnet20"].maps()["stage3"] == (64, 4)


@pytest.mark.parametrize(("output_stride", "dilations"), [(32, [1, 1]), (16, [1, 2]), (8, [2, 4])])
def test_stages_past_the_output_stride_dilate_instead(output_stride: int, dilations: list[int]) -> None:
    spec = replace(RESNET50, output_stride=output_stride)
    assert spec.maps()["stage4"][1] == output_stride
    assert [places[-1].dilation for places in spec.stages()[2:]] == dilations


def test_drop_path_rises_linearly_from_zero_at_the_first_block_to_its_value_at_the_last() -> None:
    spec = replace(VARIANTS["resnet18"], drop_path=0.7)
    rates = [place.drop_path for places in spec.stages() for place in places]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_the_groups_of_resnext_have_4_channels_in_the_first_stage_and_32_in_the_last() -> None:
    stages = VARIANTS["resnext50_32x4d"].stages()
    assert [places[0].inner for places in stages] == [32 * 4, 32 * 8, 32 * 16, 32 * 32]


@pytest.mark.parametrize(
    ("size", "name", "stem"),
    [
        ((32, 32), "resnet50", "small"),
        ((28, 100), "resnet50", "small"),
        ((33, 33), "resnet50", "imagenet"),
        ((224, 224), "resnet50d", "deep"),
        ((8, 8), "resnet50d", "small"),
        ((224, 224), "resnet20", "small"),
        ((32, 32), "resnet9_whitened", "whitened"),
        ((64, 64), "resnet9_whitened", "whitened"),
    ],
)
def test_small_pictures_get_the_small_stem_and_others_the_networks_own(
    size: tuple[int, int], name: str, stem: str
) -> None:
    assert stem_for(size, VARIANTS[name]) == stem


def test_heads_given_as_a_dict_keep_their_order() -> None:
    heads = {"vowel": 11, "root": 168, "consonant": 7}
    assert replace(RESNET50, heads=heads).heads == (("vowel", 11), ("root", 168), ("consonant", 7))


def test_json_with_sorted_keys_keeps_the_order_of_heads() -> None:
    spec = replace(RESNET50, heads={"vowel": 11, "root": 168})
    text = json.dumps(spec.to_json(), sort_keys=True)
    assert ResNetSpec.from_json(json.loads(text)).heads == spec.heads


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (3, 0, 6, 3)}, r"depths\[1\] must be a whole number from 1 to 512, got 0"),
        ({"depths": (1,) * 6}, r"depths must be a list of 1 to 5 whole numbers"),
        ({"depths": 4}, r"got 4; ResNet-50 has \(3, 4, 6, 3\)"),
        ({"block": "basicblock"}, "block must be one of basic, bottleneck, .* got 'basicblock'"),
        ({"stem": ["small"]}, "stem must be one of imagenet, small, "),
        ({"width": True}, "width must be a whole number from 1 to 4096, got True"),
        ({"width": 64.0}, "width must be a whole number from 1 to 4096, got 64.0"),
        ({"antialias": 1}, "antialias must be true or false, got 1"),
        ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\), got 1.0"),
        ({"drop_path": float("nan")}, "drop_path must be a probability"),
        ({"output_stride": 4}, "output_stride must be 0, 8, 16 or 32, got 4"),
        ({"in_channels": 0}, "in_channels must be a whole number from 1 to 1024, got 0"),
        ({"heads": (("label", 0),)}, r"heads\['label'\] must be a whole number from 1 to 1000000, got 0"),
        ({"heads": (("a", 1), ("a", 2))}, "heads must have names that differ"),
        ({"heads": (("", 1),)}, "heads must have names of 1 to 200 characters"),
        (
            {"heads": 10},
            r'heads must be pairs of a name and a number of classes, got 10; such as \(\("label", 10\)',
        ),
        ({"block": "basic", "groups": 32}, "belong to bottlenecks, not to block='basic'; leave them out"),
        ({"block": "basic", "stride_in": "1x1"}, "belong to bottlenecks"),
        ({"antialias": True, "stride_in": "1x1"}, "antialias goes with stride_in='3x3'"),
        ({"shortcut": "none"}, "zero_last must be False with shortcut='none'"),
        ({"shortcut": "none", "zero_last": False, "drop_path": 0.1}, "drop_path must be 0 with shortcut='none'"),
        ({"shortcut": "A", "stem_width": 512}, "adds channels and cannot take away any of the stem's 512"),
        ({"block": "dawn"}, "zero_last must be False with .* block='dawn'"),
        ({"block": "vanilla", "attention": "se"}, "attention, .* have no place in block='vanilla'"),
        ({"pool_first": True}, "pool_first has no place in block='bottleneck', whose stages open without a pool"),
        ({"act": "gelu"}, "act must be one of relu, hardswish, got 'gelu'"),
        ({"block": "vanilla", "shortcut": "A"}, "shortcut must be B .* with block='vanilla', got 'A'"),
        ({"stem": "deep", "stem_width": 4}, "stem_width must be 8 at least with stem='deep', got 4"),
    ],
)
def test_a_spec_that_is_no_network_is_refused_with_what_to_do(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(RESNET50, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"depths": [512] * 5, "width": 4096},
        {"group_width": 4096, "groups": 4096},
        {"hidden": 65_536, "heads": [["label", 1_000_000]]},
        {"depths": [10**30]},
        {"heads": [["x" * 10**6, 10]]},
        {"heads": [[str(name), 1] for name in range(1000)]},
        {"depths": [[3, 4]]},
        {"depths": "3463"},
        {"heads": {"label": "many"}},
        {"width": None},
        {"block": None},
        {"unheard_of": 1},
        {"kind": "unet"},
    ],
)
def test_a_strangers_absurd_spec_is_refused_in_one_short_line(fields: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="the stored network cannot be used") as caught:
        ResNetSpec.from_json({**RESNET50.to_json(), **fields})
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "published"), [("resnet50", 25.6e6), ("resnet1202", 19.4e6), ("resnet34", 21.8e6)]
)
def test_the_parameters_that_the_bound_goes_by_are_about_right(name: str, published: float) -> None:
    assert limits.parameters_about(VARIANTS[name]) == pytest.approx(published, rel=0.15)
