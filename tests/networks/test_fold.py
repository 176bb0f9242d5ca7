"""Folding batch norms into convolutions: every network gives the same, and the original stays as it is."""

from dataclasses import replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from resnets.networks import fold
from resnets.networks.fold import folded
from resnets.networks.kernels import convolution
from resnets.networks.kernels.convolution import FoldedConv, fuses
from resnets.networks.resnet import ResNet
from resnets.networks.spec import ResNetSpec
from resnets.networks.unet import UNet
from resnets.networks.variants import VARIANTS

BLOCKS, NARROWER, SIDE = 2, 4, 32  # blocks a stage at most, a quarter of the channels, pixels

Outputs = Tensor | dict[str, Tensor]
N = TypeVar("N", bound=nn.Module)


def trained(network: N) -> N:
    """The network as training may leave it: no scale, shift or statistic at its first value."""
    draw = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 1.5),
            ):
                assert values is not None
                values.data.uniform_(low, high, generator=draw)
    return network.eval()


def short(name: str) -> ResNet:
    spec = VARIANTS[name]
    return ResNet(
        replace(
            spec,
            depths=tuple(min(depth, BLOCKS) for depth in spec.depths),
            width=spec.width // NARROWER,
            stem_width=spec.stem_width // NARROWER,
            group_width=spec.group_width // NARROWER,
        )
    )


def pictures(network: ResNet) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(2, network.spec.in_channels, SIDE, SIDE, generator=draw)


def apart(one: Outputs, other: Outputs) -> float:
    """The largest difference, relative to the largest value."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        return max(apart(one[name], other[name]) for name in one)
    assert isinstance(one, Tensor)
    assert isinstance(other, Tensor)
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_folded_network_gives_what_the_network_gives(name: str) -> None:
    torch.manual_seed(0)
    network = trained(short(name))
    images = pictures(network)
    with torch.inference_mode():
        assert apart(folded(network)(images), network(images)) < 5e-4
        network.double()
        assert apart(folded(network)(images.double()), network(images.double())) < 1e-8


EACH_KIND = (
    "resnet18",
    "resnet50d",
    "resnetrs50",
    "resnetblur18",
    "resnetv2_18",
    "resnetv2_50t",
    "resnet9",
    "resnet9_whitened",
)


@pytest.mark.parametrize("name", [*EACH_KIND, "vanresnet"])
def test_only_norms_that_follow_a_sum_are_left(name: str) -> None:
    spec = VARIANTS[name]
    with torch.device("meta"):
        network = short(name)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    left = [
        module for module in folded(network.to_empty(device="cpu")).modules() if isinstance(module, nn.BatchNorm2d)
    ]
    # a pre-activation network has one in front of each block, and one behind the last; or a pool stands between
    blocks = sum(min(depth, BLOCKS) for depth in spec.depths)
    assert len(left) == (blocks + 1 if spec.preact else len(spec.depths) if spec.pool_first else 0)
    assert len(norms) > len(left)


def test_a_unet_is_folded_with_its_encoder() -> None:
    torch.manual_seed(0)
    network = trained(UNet(ResNetSpec(block="basic", depths=(1, 1, 1, 1), width=8, heads=()), 3)).double()
    copied = folded(network)
    assert not [module for module in copied.modules() if isinstance(module, nn.BatchNorm2d)]
    images = torch.randn(1, 3, 45, 71, dtype=torch.float64)
    with torch.inference_mode():
        expected = network(images)
        assert apart(copied(images), expected) < 1e-8
        rough = folded(network.float(), dtype=torch.bfloat16)(images.bfloat16())
    assert 0 < apart(rough.double(), expected) < 0.05


def test_the_network_itself_stays_as_it_is() -> None:
    network = short("resnet18").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modules = [(name, type(module), module.training) for name, module in network.named_modules()]
    with torch.inference_mode():
        folded(network)(pictures(network))
    assert [(name, type(module), module.training) for name, module in network.named_modules()] == modules
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_folding_draws_no_random_number() -> None:
    network = short("resnet18")
    fuses.cache_clear()
    before = torch.get_rng_state()
    with torch.inference_mode():
        folded(network)(pictures(network))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_norm_that_takes_the_batchs_own_statistics_is_not_folded() -> None:
    network = short("resnet18").eval()
    network.bn1 = nn.BatchNorm2d(network.spec.width, track_running_stats=False).eval()
    copied = folded(network)
    assert isinstance(copied.get_submodule("bn1"), nn.BatchNorm2d)
    images = pictures(network)
    with torch.inference_mode():
        assert apart(copied(images), network(images)) < 5e-4


def test_a_convolutions_own_bias_is_kept() -> None:
    conv, norm = nn.Conv2d(3, 4, 1).double(), trained(nn.BatchNorm2d(4)).double()
    assert isinstance(norm, nn.BatchNorm2d)
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = norm(conv(images))
        torch.testing.assert_close(fold.with_norm(conv, norm)(images), expected)


BF16 = ("resnet18_option_a", "seresnet50", "ecaresnet26t", "resnetblur50d", "resnetrs50", "resnetv2_18")


@pytest.mark.parametrize("name", [*BF16, "resnetv2_50d_gn", "resnet9", "resnet9_whitened", "vanresnet"])
def test_bf16_is_as_near_to_float32_as_autocast_is(name: str) -> None:
    torch.manual_seed(0)
    network = trained(short(name))
    images = pictures(network)
    with torch.inference_mode():
        exact = network(images)
        rough = folded(network, dtype=torch.bfloat16)(images.bfloat16())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = network(images)
    assert rough.dtype == torch.float32  # pooling and head compute in it
    assert 0 < apart(rough, exact) < max(0.02, 2 * apart(cast.float(), exact))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("act", [None, nn.ReLU(), nn.Hardswish()], ids=str)
@pytest.mark.parametrize("adds", [True, False])
def test_one_pass_gives_what_the_steps_give(
    dtype: torch.dtype, groups: int, size: int, stride: int, act: nn.Module | None, adds: bool
) -> None:
    if not fuses(dtype):
        pytest.skip("no fused convolutions here")
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, size, stride=stride, padding=size // 2, groups=groups).to(dtype).requires_grad_(False)
    x = torch.randn(2, 16, 7, 9).to(dtype).contiguous(memory_format=torch.channels_last)
    expected = conv(x).float()
    residual = torch.randn(expected.shape).to(dtype) if adds else None
    expected = expected if residual is None else expected + residual.float()
    expected = expected if act is None else act(expected)
    with torch.inference_mode():
        found = FoldedConv(conv)(x, residual=residual, act=act)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0.01)


def test_an_act_other_than_relu_is_done_by_itself() -> None:
    conv = nn.Conv2d(3, 4, 1).requires_grad_(False)
    x, residual = torch.randn(1, 3, 5, 5), torch.randn(1, 4, 5, 5)
    with torch.inference_mode():
        found = FoldedConv(conv)(x, residual=residual, act=nn.SiLU())
        torch.testing.assert_close(found, nn.functional.silu(conv(x) + residual))


def test_where_the_operators_are_missing_the_steps_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> Tensor:
        raise AttributeError("_convolution_pointwise")

    monkeypatch.setattr(convolution, "fused", missing)
    fuses.cache_clear()
    try:
        assert not fuses(torch.float32)
        torch.manual_seed(0)
        network = trained(short("resnet18"))
        images = pictures(network)
        with torch.inference_mode():
            assert apart(folded(network)(images), network(images)) < 5e-4
    finally:
        fuses.cache_clear()


def test_operators_that_give_something_else_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "fused", lambda x, conv, residual, relu: conv(x) + 1)
    fuses.cache_clear()
    try:
        assert not fuses(torch.float32)
    finally:
        fuses.cache_clear()


def test_a_network_with_hooks_and_one_of_another_library_are_not_foldable() -> None:
    network = short("resnet18")
    assert fold.foldable(network)
    handle = network.layer1.register_forward_hook(lambda *_: None)
    assert not fold.foldable(network)
    handle.remove()
    assert fold.foldable(network)
    assert not fold.foldable(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
