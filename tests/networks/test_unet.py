import json
from pathlib import Path

import numpy as np
import pytest
import torch

import resnets
from resnets.base.errors import ModelFileError, UsageError
from resnets.labels import LABEL, Head
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import ResNetSpec
from resnets.networks.unet import UNet, built, spec_from_json
from resnets.preprocess import Preprocess
from resnets.weights.modelfile import Model

SPEC = ResNetSpec(block="basic", depths=(1, 1, 1, 1), width=8, heads=())


@pytest.mark.parametrize("encoder", [SPEC, "resnet20", "resnet9_whitened", "resnet10t", "vanresnet"])
@pytest.mark.parametrize("size", [(64, 64), (45, 71), (1, 3)])
def test_a_unet_gives_a_class_for_every_pixel_of_any_size(
    encoder: str | ResNetSpec, size: tuple[int, int]
) -> None:
    with torch.no_grad():
        assert UNet(encoder, 5).eval()(torch.rand(2, 3, *size)).shape == (2, 5, *size)


def test_all_of_a_unet_learns() -> None:
    network = UNet(SPEC, 3)
    network(torch.rand(2, 3, 40, 40)).square().mean().backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


def test_padding_reaches_only_as_far_as_the_edge_it_repeats() -> None:
    network = UNet(SPEC, 3).eval()
    images = torch.rand(1, 3, 33, 64)
    padded = torch.cat([images, images[:, :, -1:].expand(-1, -1, 31, -1)], dim=2)  # to 64, a multiple of 32
    with torch.no_grad():
        torch.testing.assert_close(network(images), network(padded)[:, :, :33])


def test_a_pretrained_encoder_brings_its_weights() -> None:
    encoder = build(SPEC, num_classes=7)
    network = UNet(encoder, 3)
    assert network.encoder.conv1.weight is encoder.conv1.weight


def test_the_decoder_halves_its_channels_at_each_step() -> None:
    assert [step.conv2.out_channels for step in UNet(SPEC, 3).decoder] == [256, 128, 64, 32, 16]


def test_a_unets_spec_survives_json_and_builds_the_same_tensors() -> None:
    network = UNet(SPEC, 3, width=8)
    with torch.device("meta"):
        other = built(spec_from_json(json.loads(json.dumps(network.spec.to_json()))))
    assert isinstance(other, UNet)
    assert other.spec == network.spec
    other.load_state_dict(network.state_dict(), assign=True)


def test_a_classifiers_spec_builds_a_classifier() -> None:
    network = built(spec_from_json(SPEC.to_json()))
    assert isinstance(network, ResNet)
    assert network.spec == SPEC


@pytest.mark.parametrize(
    "fields",
    [
        {"encoder": 3},
        {"classes": 0},
        {"classes": None},
        {"width": 10**9},
        {"other": 1},
        {"kind": "gan"},
        {"encoder": {}},
    ],
)
def test_a_strangers_absurd_unet_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="the stored network cannot be used"):
        spec_from_json({"kind": "unet", "encoder": SPEC.to_json(), "classes": 3, "width": 16, **fields})


def test_a_unet_without_classes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"UNetSpec.classes must be a whole number from 1 to 65536, got 0"):
        UNet(SPEC, 0)


def test_a_model_file_rebuilds_a_u_net_with_its_tensors_and_classes(tmp_path: Path) -> None:
    network = UNet(SPEC, 3).eval()
    preprocess = Preprocess(size=(32, 32))
    head = Head(ids=("road", "sky", "tree"))
    resnets.save(tmp_path / "u.safetensors", Model(network=network, heads={LABEL: head}, preprocess=preprocess))
    again = resnets.load(tmp_path / "u.safetensors")
    images = torch.randn(1, 3, 20, 28)
    with torch.no_grad():
        assert torch.equal(again.network(images), network(images))
    assert again.heads == {LABEL: head}


def test_what_answers_for_whole_pictures_refuses_a_u_net(tmp_path: Path) -> None:
    model = Model(network=UNet(SPEC, 2), heads={LABEL: Head(ids=("0", "1"))}, preprocess=Preprocess(size=(32, 32)))
    resnets.save(tmp_path / "u.safetensors", model)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(UsageError, match="a U-Net names the class of each pixel, not of a picture"):
        resnets.evaluate(tmp_path / "u.safetensors", (pixels, np.arange(8) % 2))
    with pytest.raises(UsageError, match=r"holds a U-Net; take its encoder: resnets.load\(path\).network.encoder"):
        resnets.load(tmp_path / "u.safetensors", num_classes=5)
