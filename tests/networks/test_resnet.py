from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnets.base.errors import UsageError
from resnets.networks.heads import head_name, module_name
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import VARIANTS

TINY = ResNetSpec(block="basic", depths=(1, 1), width=8, stem="small", heads={"label": 3})
TINY_BOTTLENECK = replace(TINY, block="bottleneck")
TINY_V2 = replace(TINY, block="preact_bottleneck")
BLOCKS = [TINY, TINY_BOTTLENECK, TINY_V2, replace(TINY, block="preact_basic")]

# logits of a ramp, arange(3*32*32) / (3*32*32 - 1) * 2 - 1, through the public CIFAR-10 weights (akamaster)
RAMP_LOGITS = {
    "resnet20-12fca82f.th": [4.0172, -3.0737, 2.8636, 0.8544, -0.0596, 0.4163, -2.4356, -1.9932, 2.7194, -3.3790],
    "resnet32-d509ac18.th": [5.5230, -4.5086, 3.1800, 3.6894, -2.6142, -0.0182, 4.2387, -4.2914, -1.1908, -3.9782],
    "resnet44-014dd654.th": [3.1689, -3.3884, 4.9235, 0.8576, 1.6047, -2.8653, 0.4289, -4.3333, 2.3711, -2.7908],
    "resnet56-4bfd9763.th": [4.1805, -3.1133, 3.4587, 2.0607, 0.0523, 0.2454, -0.2183, -2.6829, 0.3104, -4.3288],
}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("file", RAMP_LOGITS)
def test_public_cifar_weights_give_their_known_logits(shared_data: Path, file: str) -> None:
    stored = torch.load(shared_data / "weights" / "cifar" / file, map_location="cpu", weights_only=True)
    names = {name: name.removeprefix("module.").replace("linear", "fc") for name in stored["state_dict"]}
    network = build(file.partition("-")[0])
    missing, unexpected = network.load_state_dict(
        {names[name]: tensor for name, tensor in stored["state_dict"].items()}, strict=False
    )
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    count = 3 * 32 * 32
    ramp = torch.arange(count, dtype=torch.float32).div(count - 1).mul(2).sub(1).reshape(1, 3, 32, 32)
    with torch.no_grad():
        logits = network.eval()(ramp)[0]
    torch.testing.assert_close(logits, torch.tensor(RAMP_LOGITS[file]), atol=2e-4, rtol=0)


def test_one_head_is_fc_and_gives_a_tensor(images: torch.Tensor) -> None:
    network = build(TINY, num_classes=5)
    assert network.fc.out_features == 5
    assert network(images).shape == (2, 5)


def test_several_heads_give_a_dict_in_the_specs_order(images: torch.Tensor) -> None:
    network = build(TINY, heads={"vowel": 11, "root": 168, "consonant": 7})
    assert {name: tuple(logits.shape) for name, logits in network(images).items()} == {
        "vowel": (2, 11),
        "root": (2, 168),
        "consonant": (2, 7),
    }
    assert list(network(images)) == ["vowel", "root", "consonant"]
    assert "heads.root.weight" in network.state_dict()


def test_heads_may_have_any_name(images: torch.Tensor) -> None:
    names = ["type", "a.b", "a%2Eb", "forward", "ক", "training", "names", "weight", "label"]
    network = build(TINY, heads=dict.fromkeys(names, 2))
    assert list(network(images)) == names
    assert [head_name(module_name(name)) for name in names] == names
    other = build(network.spec)
    other.load_state_dict(network.state_dict())
    assert list(torch.func.functional_call(other, dict(network.named_parameters()), images)) == names
    assert other.type(torch.float64).heads(torch.rand(1, 16).double())["type"].dtype == torch.float64
    assert {"heads.label.weight", "heads.a%2Eb.weight", "heads.%74ype.weight"} <= set(network.state_dict())


def test_no_heads_give_pooled_features(images: torch.Tensor) -> None:
    network = build(TINY, heads=None)
    assert network(images).shape == (2, 16)
    assert torch.equal(network(images), network.maps(images)["pooled"])


def test_num_classes_and_heads_together_are_refused() -> None:
    with pytest.raises(UsageError, match="num_classes or heads, not both"):
        build(TINY, num_classes=3, heads={"label": 3})


@pytest.mark.parametrize("channels", [1, 3, 4, 12])
def test_any_number_of_input_channels(channels: int) -> None:
    assert build(TINY, in_channels=channels)(torch.rand(1, channels, 16, 16)).shape == (1, 3)


@pytest.mark.parametrize("spec", BLOCKS, ids=lambda spec: spec.block)
def test_a_block_whose_last_scale_is_zero_is_its_shortcut(spec: ResNetSpec, images: torch.Tensor) -> None:
    network = build(replace(spec, depths=(2,))).eval()
    x = torch.randn(2, network.spec.features, 4, 4)
    expected = x if network.spec.preact else x.relu()
    assert torch.equal(network.layer1[1](x), expected)
    other = build(replace(network.spec, zero_last=False)).eval()
    assert not torch.equal(other.layer1[1](x), expected)


def test_convolutions_start_as_he_et_al_by_fan_out() -> None:
    torch.manual_seed(0)
    network = build("resnet18")
    weight = network.layer4[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_pooled_features_are_the_average_of_the_last_stage(images: torch.Tensor) -> None:
    for spec in BLOCKS:
        maps = build(spec).maps(images)
        torch.testing.assert_close(maps["pooled"], maps["stage2"].mean((2, 3)))


@pytest.mark.parametrize("spec", BLOCKS, ids=lambda spec: spec.block)
def test_a_dilated_network_keeps_its_sides(spec: ResNetSpec) -> None:
    deeper = replace(spec, depths=(1, 1, 1), stem="imagenet", output_stride=8)
    images = torch.rand(1, 3, 65, 40)
    maps = build(deeper).maps(images)
    assert maps["stage3"].shape[2:] == maps["stage2"].shape[2:] == (9, 5)


def test_a_plain_network_is_convolutions_norms_and_relus_in_a_row(images: torch.Tensor) -> None:
    network = build(replace(TINY, shortcut="none", zero_last=False))
    x = F.relu(network.bn1(network.conv1(images)))
    for block in (network.layer1[0], network.layer2[0]):
        x = F.relu(block.bn1(block.conv1(x)))
        x = F.relu(block.bn2(block.conv2(x)))
    assert torch.equal(network(images), network.fc(x.mean((2, 3))))


def test_option_c_projects_on_every_shortcut() -> None:
    blocks = [block for stage in build("resnet20_option_c").stages() for block in stage.children()]
    assert len(blocks) == 9
    assert all(block.downsample is not None for block in blocks)


def test_resnet9_is_the_dawnbench_network(images: torch.Tensor) -> None:
    network = build("resnet9")

    def step(module: nn.Module, number: int, x: torch.Tensor) -> torch.Tensor:
        return F.relu(module.get_submodule(f"bn{number}")(module.get_submodule(f"conv{number}")(x)))

    x = step(network, 1, images)  # 64 channels
    x = F.max_pool2d(step(network.layer1[0], 1, x), 2)  # 128
    x = x + step(network.layer1[1], 2, step(network.layer1[1], 1, x))
    x = F.max_pool2d(step(network.layer2[0], 1, x), 2)  # 256
    x = F.max_pool2d(step(network.layer3[0], 1, x), 2)  # 512
    x = x + step(network.layer3[1], 2, step(network.layer3[1], 1, x))
    torch.testing.assert_close(network(images), x.amax((2, 3)) @ network.fc.weight.T / 8)
    assert network.fc.bias is None


def test_the_whitened_networks_pool_before_their_norms_and_have_hardswish_behind_them(
    images: torch.Tensor,
) -> None:
    network = build("resnet9_whitened")

    def step(module: nn.Module, number: int, x: torch.Tensor, *, pool: bool = False) -> torch.Tensor:
        x = module.get_submodule(f"conv{number}")(x)
        return F.hardswish(module.get_submodule(f"bn{number}")(F.max_pool2d(x, 2) if pool else x))

    x = F.relu(network.conv1(images))  # 32 channels, each filter beside its negative
    x = step(network.layer1[0], 1, x, pool=True)  # 64
    x = x + step(network.layer1[1], 2, step(network.layer1[1], 1, x))
    x = step(network.layer2[0], 1, x, pool=True)  # 128
    x = step(network.layer3[0], 1, x, pool=True)  # 256
    x = x + step(network.layer3[1], 2, step(network.layer3[1], 1, x))
    torch.testing.assert_close(network(images), x.amax((2, 3)) @ network.fc.weight.T / 8)


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnetv2_18", "resnet20"])
def test_every_activation_of_the_blocks_can_be_hardswish(name: str) -> None:
    with torch.device("meta"):
        relus, hardswishes = (build(f"{name}:act={act}").modules() for act in ("relu", "hardswish"))
    found = [type(module) for module in hardswishes]
    assert nn.ReLU not in found
    assert found.count(nn.Hardswish) == [type(module) for module in relus].count(nn.ReLU) > 0


def test_vanresnet_skips_around_its_third_convolution_which_keeps_the_width(images: torch.Tensor) -> None:
    network = build("vanresnet")
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == [32, 64, 64, 128]
    block, x = network.layer1[1], torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(block(x), F.relu(x + block.bn1(block.conv1(x))))


def test_the_grapheme_network_takes_kaggles_grey_pictures() -> None:
    with torch.device("meta"):
        network = ResNet(VARIANTS["grapheme_resnet34"])
        maps, logits = network.maps(torch.rand(1, 1, 137, 236)), network(torch.rand(1, 1, 137, 236))
    assert maps["stage4"].shape == (1, 512, 5, 8)
    assert {name: each.shape[1] for name, each in logits.items()} == {"vowel": 11, "root": 168, "consonant": 7}


def test_no_module_works_in_place() -> None:
    for name in ("resnet18", "seresnet50", "resnetv2_50d", "resnet9"):
        with torch.device("meta"):
            network = ResNet(VARIANTS[name])
        assert not any(getattr(module, "inplace", False) for module in network.modules())


@pytest.mark.parametrize("spec", BLOCKS, ids=lambda spec: spec.block)
def test_hooks_see_outputs_and_gradients_of_every_module(spec: ResNetSpec, images: torch.Tensor) -> None:
    network, kept, gradients = build(spec), [], []
    for module in network.modules():
        module.register_forward_hook(lambda _, given, output: kept.append((output, output.detach().clone())))
        module.register_full_backward_hook(lambda _, given, output: gradients.append(output))
    network(images.requires_grad_()).sum().backward()
    assert len(gradients) == len(kept)
    assert all(torch.equal(output, copy) for output, copy in kept)


def test_a_built_network_needs_no_memory_on_the_meta_device_and_takes_weights_without_a_copy() -> None:
    network = build(TINY)
    with torch.device("meta"):
        other = ResNet(TINY)
    assert all(tensor.is_meta for tensor in [*other.parameters(), *other.buffers()])
    other.load_state_dict(network.state_dict(), assign=True)
    assert other.fc.weight.data_ptr() == network.fc.weight.data_ptr()
    assert not any(tensor.is_meta for tensor in [*other.parameters(), *other.buffers()])


def test_channels_last_gives_the_same(images: torch.Tensor) -> None:
    network = build(replace(TINY, shortcut="A", antialias=True)).eval()
    expected = network(images)
    laid_out = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(laid_out, expected, atol=1e-5, rtol=1e-5)


def test_dropout_is_before_the_heads_and_off_in_evaluation(images: torch.Tensor) -> None:
    network = build(replace(TINY, dropout=0.5))
    assert torch.equal(network.eval()(images), network(images))
    torch.manual_seed(0)
    assert not torch.equal(network.train()(images), network(images))
