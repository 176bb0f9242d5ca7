import pytest
import torch
from torch import nn

from resnets.base.errors import UsageError
from resnets.networks.resnet import build
from resnets.networks.spec import ResNetSpec
from resnets.networks.summary import summary
from resnets.networks.unet import UNet
from resnets.networks.variants import VARIANTS

TINY = ResNetSpec(block="basic", depths=(1, 1), width=8, stem="small", heads={"label": 3})


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("resnet18_v1", 1.8),
        ("resnet34_v1", 3.6),
        ("resnet50_v1", 3.8),
        ("resnet101_v1", 7.6),
        ("resnet152_v1", 11.3),
    ],
)
def test_v1_costs_what_table_1_of_the_paper_says(name: str, paper: float) -> None:
    assert summary(name).multiply_adds / 1e9 == pytest.approx(paper, rel=0.02)


@pytest.mark.parametrize(("name", "billions"), [("resnet50", 4.09), ("resnet101", 7.80), ("resnet152", 11.51)])
def test_v15_costs_what_torchvision_says(name: str, billions: float) -> None:
    assert summary(name).multiply_adds / 1e9 == pytest.approx(billions, abs=0.005)


def test_the_table_of_resnet18_has_the_sizes_of_the_papers_table_1() -> None:
    table = summary("resnet18")
    assert {layer.name: layer.output for layer in table.layers} == {
        "conv1": (64, 112, 112),
        "bn1": (64, 112, 112),
        "maxpool": (64, 56, 56),
        **{f"layer1.{block}": (64, 56, 56) for block in (0, 1)},
        **{f"layer2.{block}": (128, 28, 28) for block in (0, 1)},
        **{f"layer3.{block}": (256, 14, 14) for block in (0, 1)},
        **{f"layer4.{block}": (512, 7, 7) for block in (0, 1)},
        "avgpool": (512, 1, 1),
        "fc": (1000,),
    }
    assert table.layers[0].multiply_adds == 112 * 112 * 64 * 3 * 49
    assert table.layers[0].parameters == 64 * 3 * 49
    assert table.parameters == sum(layer.parameters for layer in table.layers) == 11_689_512
    assert table.multiply_adds == sum(layer.multiply_adds for layer in table.layers)


def test_a_size_can_be_chosen_and_small_stems_have_32() -> None:
    assert summary("resnet20").size == (32, 32)
    assert summary("resnet18", (448, 448)).multiply_adds == pytest.approx(4 * 1.814e9, rel=0.01)
    assert summary("resnet18", (100, 300)).layers[-2].name == "avgpool"


def test_grouped_convolutions_cost_less_by_their_groups() -> None:
    assert summary("resnext50_32x4d").multiply_adds / 1e9 == pytest.approx(4.23, abs=0.01)  # torchvision's figure


def test_a_network_is_left_as_it_was() -> None:
    network = build(TINY).train()
    network.layer1.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    table = summary(network)
    assert table.parameters == sum(each.numel() for each in network.parameters())
    assert (network.training, network.layer1.training, network.layer2.training) == (True, False, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_every_head_has_its_row() -> None:
    table = summary(build(TINY, heads={"root": 168, "vowel": 11}))
    assert [(layer.name, layer.output) for layer in table.layers[-2:]] == [
        ("heads.root", (168,)),
        ("heads.vowel", (11,)),
    ]


def test_a_foreign_module_and_a_unet_can_be_summed_up() -> None:
    foreign = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 2))
    assert summary(foreign, (8, 8), channels=1).multiply_adds == 64 * 4 * 9 + 2 * 256
    table = summary(UNet(TINY, 5), (32, 32))
    assert table.layers[-1].output == (5, 32, 32)
    assert table.parameters == sum(layer.parameters for layer in table.layers)


def test_a_size_that_cannot_go_through_is_an_error_with_what_to_try() -> None:
    with pytest.raises(UsageError, match=r"3 × 1 × 1 does not go through the network .* try another size"):
        summary("resnetblur18", (1, 1))


def test_the_most_costly_row_of_variants_is_summed_without_memory() -> None:
    assert summary(VARIANTS["resnetrs420"], (320, 320)).parameters == 191_891_656
