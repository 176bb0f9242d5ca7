"""Weights that were trained on colours start networks for grey pictures and for pictures with alpha."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

import resnets
from resnets.networks import build
from resnets.preprocess import CHANNELS
from tests.integration.pictures import class_folders
from tests.integration.shell import resnets as command

STILL = "1e-30"  # a rate that changes no weight


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_first_layer_of_weights_is_folded_to_the_channels_that_are_asked_for(
    channels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = class_folders(tmp_path / "pictures", {"dark": 12, "light": 12})
    torch.manual_seed(0)
    tensors = dict(build("resnet20").state_dict())
    safetensors.torch.save_file(tensors, tmp_path / "colours.safetensors")
    said = command(
        *("train", pictures, "--weights", "colours.safetensors", "--channels", channels, "--size", "16"),
        *("--epochs", "1", "--lr", STILL, "--threads", "1", "--name", "run"),
    )
    assert said.status == 0, said.err
    model = resnets.load("runs/run")
    stem, given = model.network.conv1.weight, tensors["conv1.weight"]  # (16, C, 3, 3), (16, 3, 3, 3)
    red, green, blue = (given[:, colour] for colour in range(3))
    expected = {
        "grey": torch.stack([red + green + blue], dim=1),
        "rgb": given,
        "rgba": torch.stack([red, green, blue, red], dim=1) * 3 / 4,
    }
    torch.testing.assert_close(stem, expected[channels], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(model.network.layer3[2].conv2.weight, tensors["layer3.2.conv2.weight"])
    assert (model.preprocess.channels, model.network.spec.in_channels) == (channels, CHANNELS[channels])
    how = {
        "grey": "1 adapted (144 parameters): 3 channels summed to grey",
        "rgb": "114 as they are",
        "rgba": "cycled",
    }
    assert how[channels] in said.err + said.out
