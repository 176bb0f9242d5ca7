"""The whitened stem: its filters, that they stay as they are, and that they travel with the weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import ResNetSpec
from resnets.networks.stems import WhitenedStem, whiten
from resnets.networks.variants import VARIANTS

SPEC = ResNetSpec(block="basic", depths=(1, 1), width=8, stem="whitened", heads={"label": 3})


def smooth_pictures(channels: int = 3, count: int = 64) -> Tensor:
    """Noise whose neighbours are alike, as a photograph's are, and whose channels are too: (B, C, 16, 16)."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(count, channels, 18, 18, generator=draw)
    mixed = noise + noise.mean(1, keepdim=True)
    return nn.functional.avg_pool2d(mixed, 3, 1)


def stem_of(width: int, channels: int = 3) -> WhitenedStem:
    stem = build(replace(SPEC, stem_width=width, in_channels=channels)).conv1
    assert isinstance(stem, WhitenedStem)
    return stem


def outputs(stem: WhitenedStem, images: Tensor) -> Tensor:
    """What the filters give away from the edges: (channels, values)."""
    with torch.no_grad():
        return stem(images)[:, :, 1:-1, 1:-1].transpose(0, 1).flatten(1)


def test_what_whitened_filters_give_is_uncorrelated_with_variance_1() -> None:
    stem, images = stem_of(54), smooth_pictures()
    assert whiten(stem, images.split(20)) == 64
    values = outputs(stem, images)[:27]
    second_moments = values @ values.T / values.shape[1]
    deviations = second_moments.diagonal().sqrt()
    assert torch.allclose(second_moments / deviations.outer(deviations), torch.eye(27), atol=5e-3)
    assert torch.allclose(deviations[:3], torch.ones(3), atol=1e-2)
    assert deviations.min() > 0.5  # the weakest are held down by the floor


def test_every_filter_has_its_negative() -> None:
    stem = stem_of(32)
    whiten(stem, [smooth_pictures()])
    assert torch.equal(stem.weight[:16], -stem.weight[16:])


def test_fewer_filters_are_those_of_the_strongest_directions() -> None:
    few, all_of_them = stem_of(8), stem_of(54)
    for stem in (few, all_of_them):
        whiten(stem, [smooth_pictures()])
    assert torch.equal(few.weight[:4], all_of_them.weight[:4])
    gains = all_of_them.weight[:27].flatten(1).norm(dim=1)  # a weak direction is multiplied by more
    assert (gains.diff() > 0).all()


def test_the_filters_are_the_same_however_the_pictures_are_batched() -> None:
    one, other = stem_of(32), stem_of(32)
    whiten(one, [smooth_pictures()])
    whiten(other, smooth_pictures().split(10))
    assert torch.allclose(one.weight, other.weight, atol=1e-3, rtol=1e-3)


def test_pictures_of_one_colour_give_finite_filters() -> None:
    stem = stem_of(54)
    whiten(stem, [torch.ones(2, 3, 8, 8)])
    assert stem.weight.isfinite().all()


def test_no_pictures_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        whiten(stem_of(8), [])


def test_nothing_of_the_stem_is_learned_nor_asked_for_a_gradient() -> None:
    network = build("resnet9_whitened")
    assert not [name for name, _ in network.named_parameters() if name.startswith("conv1")]
    assert "conv1.weight" in network.state_dict()
    assert not network.stem(torch.rand(4, 3, 16, 16)).requires_grad


def test_weights_carry_the_filters_to_a_network_that_sees_no_pictures() -> None:
    network, other = build(SPEC).eval(), build(SPEC).eval()
    whiten(network.conv1, [smooth_pictures()])
    other.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(other(images), network(images))


@pytest.mark.parametrize(("channels", "stem_width", "leaving"), [(3, 32, 32), (3, 64, 54), (1, 32, 18), (4, 0, 8)])
def test_a_stem_has_two_channels_a_direction_of_a_patch_at_most(
    channels: int, stem_width: int, leaving: int
) -> None:
    spec = replace(SPEC, in_channels=channels, stem_width=stem_width)
    assert spec.stem_channels == leaving
    with torch.device("meta"):
        assert ResNet(spec).maps(torch.empty(1, channels, 32, 32))["stem"].shape == (1, leaving, 32, 32)


def test_an_odd_number_of_filters_is_refused() -> None:
    with pytest.raises(UsageError, match="stem_width must be even with stem='whitened', got 15"):
        replace(SPEC, stem_width=15)


def test_a_preactivation_network_takes_a_whitened_stem_as_it_is() -> None:
    spec = replace(VARIANTS["resnetv2_110"], depths=(1, 1, 1), stem="whitened")
    network = build(spec)
    images = torch.rand(2, 3, 32, 32)
    assert (network.stem(images) < 0).any()  # the first block's norm and ReLU come after
    assert (build(SPEC).stem(images) >= 0).all()


def test_resnet11_is_the_faster_kind_with_a_residual_block_in_every_stage() -> None:
    nine, eleven = VARIANTS["resnet9_whitened"], VARIANTS["resnet11_whitened"]
    assert replace(nine, depths=(2, 2, 2)) == eleven
    assert [len(stage) for stage in eleven.stages()] == [2, 2, 2]
