"""Every row of VARIANTS: it builds, learns, has as many parameters as its source says, and survives JSON."""

import json
from dataclasses import replace

import pytest
import torch

from resnets.base.errors import UsageError
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import VARIANTS, variant

BLOCKS, NARROWER = 2, 4  # what is run has so many blocks a stage at most, and a quarter of the channels

# what torchvision and timm count in their networks of these names (tests/peers counts theirs beside ours)
PEERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet26": 15_995_176,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet200": 64_673_832,
    "resnetv2_18": 11_687_720,
    "resnetv2_34": 21_795_880,
    "resnetv2_50": 25_549_352,
    "resnetv2_101": 44_541_480,
    "resnetv2_152": 60_185_128,
    "resnetv2_18d": 11_706_952,
    "resnetv2_34d": 21_815_112,
    "resnetv2_50d": 25_568_584,
    "resnetv2_50t": 25_566_048,
    "resnetv2_101d": 44_560_712,
    "resnetv2_152d": 60_204_360,
    "resnetv2_50d_gn": 25_568_584,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnext50_32x4d": 25_028_904,
    "resnext50d_32x4d": 25_048_136,
    "resnext101_32x4d": 44_177_704,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "seresnet18": 11_779_624,
    "seresnet34": 21_960_416,
    "seresnet50": 28_088_024,
    "seresnet50t": 28_104_720,
    "seresnet101": 49_326_872,
    "seresnet152": 66_821_848,
    "seresnet152d": 66_841_080,
    "seresnet200d": 71_855_096,
    "seresnet269d": 113_672_760,
    "seresnext26d_32x4d": 16_809_512,
    "seresnext26t_32x4d": 16_806_976,
    "seresnext50_32x4d": 27_559_896,
    "seresnext101_32x4d": 48_955_416,
    "seresnext101_32x8d": 93_569_048,
    "seresnext101d_32x8d": 93_588_280,
    "seresnext101_64x4d": 88_232_984,
    "ecaresnet26t": 16_011_916,
    "ecaresnet50d": 25_576_350,
    "ecaresnet50t": 25_573_814,
    "ecaresnet101d": 44_568_563,
    "ecaresnet200d": 64_693_400,
    "ecaresnet269d": 102_093_077,
    "ecaresnetlight": 30_162_046,
    "ecaresnext26t_32x4d": 15_406_220,
    "ecaresnext50t_32x4d": 25_045_686,
    "resnet50c": 25_576_264,
    "resnet101c": 44_568_392,
    "resnet152c": 60_212_040,
    "resnet50s": 25_680_808,
    "resnet101s": 44_672_936,
    "resnet152s": 60_316_584,
    "resnet18d": 11_708_744,
    "resnet26d": 16_014_408,
    "resnet34d": 21_816_904,
    "resnet50d": 25_576_264,
    "resnet101d": 44_568_392,
    "resnet152d": 60_212_040,
    "resnet200d": 64_693_064,
    "resnet10t": 5_435_488,
    "resnet14t": 10_081_632,
    "resnet26t": 16_011_872,
    "resnet50t": 25_573_728,
    "resnetblur18": 11_689_512,
    "resnetblur50": 25_557_032,
    "resnetblur50d": 25_576_264,
    "resnetblur101d": 44_568_392,
    "resnetrs50": 35_691_912,
    "resnetrs101": 63_618_696,
    "resnetrs152": 86_621_576,
    "resnetrs200": 93_209_992,
    "resnetrs270": 129_861_448,
    "resnetrs350": 163_956_168,
    "resnetrs420": 191_891_656,
    "resnet50_gn": 25_557_032,
}

# by hand: what differs from a known network, or all layers
PROJECTIONS = 64 * 128 + 2 * 128 + 128 * 256 + 2 * 256 + 256 * 512 + 2 * 512  # option B's of ResNet-18 and -34
WHITENED_9 = (  # the fixed filters are no parameters
    9 * (32 * 64 + 2 * 64**2 + 64 * 128 + 128 * 256 + 2 * 256**2) + 2 * (3 * 64 + 128 + 3 * 256) + 256 * 10
)
BY_HAND = {
    "resnet18_v1": 11_689_512,
    "resnet34_v1": 21_797_672,
    "resnet50_v1": 25_557_032,
    "resnet101_v1": 44_549_160,
    "resnet152_v1": 60_192_808,
    "plain18": 11_689_512 - PROJECTIONS,
    "plain34": 21_797_672 - PROJECTIONS,
    "resnet18_option_a": 11_689_512 - PROJECTIONS,
    "resnet34_option_a": 21_797_672 - PROJECTIONS,
    "resnet34_option_c": 21_797_672
    + sum(count * (width**2 + 2 * width) for count, width in ((3, 64), (3, 128), (5, 256), (2, 512))),
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "plain20": 269_722,
    "plain32": 464_154,
    "plain44": 658_586,
    "plain56": 853_018,
    "resnet20_option_b": 269_722 + (16 * 32 + 64) + (32 * 64 + 128),
    "resnet20_option_c": 272_474 + 3 * (16**2 + 32) + 2 * (32**2 + 64) + 2 * (64**2 + 128),
    "resnetv2_110": 1_727_962,  # the norms stand elsewhere, and their channels have the same sum
    "resnetv2_164": 1_703_258,
    "resnetv2_1001": 10_327_706,
    "wide_resnet16_8": 10_961_370,
    "wide_resnet28_10": 36_479_194,
    "wide_resnet40_4": 8_949_210,
    "resnet9": 9 * (3 * 64 + 64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2)
    + 2 * (64 + 3 * 128 + 256 + 3 * 512)
    + 512 * 10,
    "resnet9_whitened": WHITENED_9,
    "resnet11_whitened": WHITENED_9 + 9 * 2 * 128**2 + 2 * 2 * 128,
    "grapheme_resnet34": 21_797_672 - 2 * 64 * 49 - 513_000 + 513 * (11 + 168 + 7),
    "vanresnet": 9 * (3 * 32 + 32 * 64 + 64**2 + 64 * 128) + 2 * (32 + 64 + 64 + 128) + 129 * 128 + 129 * 10,
    "imagenette_resnet34": 21_797_672 - 3 * 64 * (49 - 9) - 513_000 + 513 * 10,
}

# in the papers, to two or three digits, some without norms: He et al. 2015 (table 6) and 2016 (tables 1 and 4),
# Zagoruyko and Komodakis 2016 (table 5)
PUBLISHED_MILLIONS = {
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet44": 0.66,
    "resnet56": 0.85,
    "resnet110": 1.7,
    "resnet1202": 19.4,
    "resnetv2_110": 1.7,
    "resnetv2_164": 1.7,
    "resnetv2_1001": 10.2,
    "wide_resnet16_8": 11.0,
    "wide_resnet28_10": 36.5,
    "wide_resnet40_4": 8.9,
}


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_builds_learns_and_survives_json(name: str) -> None:
    spec = VARIANTS[name]
    assert ResNetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with torch.device("meta"):
        assert parameters(ResNet(spec)) == (PEERS | BY_HAND)[name]

    short = replace(
        spec,
        depths=tuple(min(depth, BLOCKS) for depth in spec.depths),
        width=spec.width // NARROWER,
        stem_width=spec.stem_width // NARROWER,
        group_width=spec.group_width // NARROWER,
    )
    network = ResNet(short)
    output = network(torch.rand(2, spec.in_channels, 64, 64))
    logits = output if isinstance(output, dict) else {"label": output}
    assert [(head, tuple(each.shape)) for head, each in logits.items()] == [
        (head, (2, classes)) for head, classes in spec.heads
    ]
    sum(each.square().sum() for each in logits.values()).backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_a_variant_has_the_papers_parameters(name: str) -> None:
    assert (PEERS | BY_HAND)[name] / 1e6 == pytest.approx(PUBLISHED_MILLIONS[name], rel=0.02)


@pytest.mark.parametrize("plain", [name for name in VARIANTS if name.startswith("plain")])
def test_a_plain_network_has_the_parameters_of_its_residual_twin(plain: str) -> None:
    twin = plain.replace("plain", "resnet") + ("_option_a" if plain in ("plain18", "plain34") else "")
    shapes = []
    for name in (plain, twin):
        with torch.device("meta"):
            state = ResNet(VARIANTS[name]).state_dict()
        shapes.append({key: tensor.shape for key, tensor in state.items()})
    assert shapes[0] == shapes[1]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no network named 'resnet51'; did you mean .*resnet50.*resnets models"):
        variant("resnet51")


def test_a_name_can_change_fields_behind_a_colon() -> None:
    changed = variant("resnet18:width=32,depths=1-1-1-1,stem=deep,antialias=true,dropout=0.25")
    expected = replace(
        VARIANTS["resnet18"], width=32, depths=(1, 1, 1, 1), stem="deep", antialias=True, dropout=0.25
    )
    assert changed == expected


def test_a_narrower_resnet18_has_the_parameters_counted_by_hand() -> None:
    with torch.device("meta"):
        network = build("resnet18:width=32", num_classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters_of_resnet18(
        width=32, classes=10
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18:width=many", "width=many cannot be read; give it as in width=64"),
        ("resnet18:antialias=yes", "antialias=yes cannot be read; give it as in antialias=false"),
        ("resnet18:witdh=32", "no field of a network named 'witdh'; did you mean width"),
        ("resnet18:heads=2", "no field of a network named 'heads'"),
        ("resnet18:stem=tall", "ResNetSpec.stem must be one of imagenet"),
        ("resnt18:width=32", "no network named 'resnt18'; did you mean resnet18"),
    ],
)
def test_a_change_that_cannot_be_is_told_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        variant(name)


def parameters_of_resnet18(*, width: int, classes: int) -> int:
    """He et al. 2015, table 1, by hand: convolutions without bias, two numbers a channel of a batch norm."""
    total, channels = 7 * 7 * 3 * width + 2 * width, width
    for stage in range(4):
        out = width * 2**stage
        first = 9 * channels * out + 9 * out * out + 4 * out + (channels * out + 2 * out if stage else 0)
        total += first + 2 * 9 * out * out + 4 * out
        channels = out
    return total + channels * classes + classes
