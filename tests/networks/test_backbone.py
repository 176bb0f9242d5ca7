from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from resnets.base.errors import UsageError
from resnets.networks.backbone import Backbone, features
from resnets.networks.convert import to_timm, to_torchvision
from resnets.networks.resnet import build
from resnets.networks.spec import ResNetSpec
from resnets.networks.unet import UNet
from resnets.training.recalibrate import recalibrate

SPEC = ResNetSpec(block="basic", depths=(1, 1, 1, 1), width=8, heads={"label": 3})


@pytest.mark.parametrize("name_or_spec", [SPEC, "resnet20", "resnet9", "resnet9_whitened", "resnet10t"])
def test_the_maps_have_the_channels_and_strides_that_are_said(name_or_spec: str | ResNetSpec) -> None:
    backbone = Backbone(name_or_spec)
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert list(maps) == list(backbone.channels)
    assert list(maps) == ["stem", *(f"stage{n}" for n in range(1, len(backbone.spec.depths) + 1)), "pooled"]
    for name, each in maps.items():
        assert each.shape[1] == backbone.channels[name]
        if backbone.strides[name]:
            assert each.shape[2:] == (64 // backbone.strides[name], 96 // backbone.strides[name])


def test_a_backbone_shares_the_networks_tensors_and_drops_its_heads() -> None:
    network = build(SPEC)
    backbone = Backbone(network)
    assert backbone.network.layer1[0].conv1.weight is network.layer1[0].conv1.weight
    assert not any("fc" in name for name in backbone.state_dict())
    assert network.fc.out_features == 3


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_backbone_has_the_same_tensors_and_finer_maps(output_stride: int) -> None:
    network = build(SPEC).eval()
    images = torch.rand(1, 3, 64, 64)
    backbone = Backbone(network, output_stride=output_stride)
    assert backbone.strides["stage4"] == output_stride
    maps = backbone(images)
    assert maps["stage4"].shape[2:] == (64 // output_stride,) * 2
    assert torch.equal(maps["stage2"], network.maps(images)["stage2"])


def test_features_come_from_a_network_or_from_what_holds_one() -> None:
    network, images = build(SPEC).eval(), torch.rand(1, 3, 64, 64)
    for model in (network, Backbone(network)):
        assert torch.equal(features(model, images)["stage4"], network.maps(images)["stage4"])


def test_what_holds_a_network_is_taken_for_it_everywhere() -> None:
    network = build(replace(SPEC, width=64, heads=(("label", 3),)))
    loaded = SimpleNamespace(network=network)  # as a loaded model does
    assert Backbone(loaded).network.conv1.weight is network.conv1.weight
    assert UNet(loaded, 2).encoder.conv1.weight is network.conv1.weight
    assert to_torchvision(loaded).keys() == to_timm(loaded).keys() == network.state_dict().keys()
    assert recalibrate(loaded, [torch.rand(2, 3, 32, 32)]) == 12


def test_features_of_a_foreign_module_are_refused() -> None:
    with pytest.raises(UsageError, match="features needs a residual network made by resnets, got Linear"):
        features(nn.Linear(2, 2), torch.rand(1, 2))
    with pytest.raises(UsageError, match="Backbone or UNet needs a residual network made by resnets, got Linear"):
        Backbone(nn.Linear(2, 2))
