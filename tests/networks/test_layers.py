"""The parts of blocks against their formulas, written out another way."""

import pytest
import torch
from torch import nn

from resnets.networks.layers import (
    Blur,
    ChannelAttention,
    DropPath,
    GlobalMaxPool,
    SqueezeExcite,
    join,
    norm,
    norm_act,
    reflected,
)
from resnets.networks.shortcuts import ZeroChannels
from resnets.networks.stems import fold_channels
from resnets.networks.variants import VARIANTS


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 8, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_norm_act_is_norm_then_gates_then_sum_then_relu(x: torch.Tensor) -> None:
    batch_norm, gate = nn.BatchNorm2d(8).double(), nn.Sigmoid()
    expected = (gate(batch_norm(x)) + x).relu()
    assert torch.equal(norm_act(batch_norm, x, gates=(gate, None), residual=x, act=nn.ReLU()), expected)
    assert torch.equal(join(x, (None, gate), None), gate(x))


def test_a_hook_may_keep_what_it_sees_for_nothing_is_changed_in_place(x: torch.Tensor) -> None:
    batch_norm, kept = nn.BatchNorm2d(8).double(), []
    batch_norm.register_forward_hook(lambda module, given, output: kept.append((output, output.clone())))
    norm_act(batch_norm, x, residual=x, act=nn.ReLU())
    assert torch.equal(*kept[0])


@pytest.mark.parametrize("stride", [1, 2])
def test_the_blur_is_the_binomial_filter(x: torch.Tensor, stride: int) -> None:
    line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    kernel = torch.outer(line, line).expand(8, 1, 3, 3)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    expected = nn.functional.conv2d(padded, kernel, stride=stride, groups=8)
    torch.testing.assert_close(Blur(stride)(x), expected)


def test_option_a_takes_every_second_pixel_between_channels_of_zeros(x: torch.Tensor) -> None:
    output = ZeroChannels(8, 16, 2)(x)
    assert output.shape == (2, 16, 4, 3)
    assert torch.equal(output[:, 4:12], x[:, :, ::2, ::2])
    assert not output[:, :4].any()
    assert not output[:, 12:].any()


@pytest.mark.parametrize(
    ("channels", "reduction", "squeezed"), [(64, 16, 8), (256, 16, 16), (2048, 16, 128), (64, 4, 16)]
)
def test_squeeze_and_excitation_narrows_by_its_reduction_and_to_8_at_least(
    channels: int, reduction: int, squeezed: int
) -> None:
    assert SqueezeExcite(channels, reduction).fc1.out_channels == squeezed


@pytest.mark.parametrize(("channels", "size"), [(64, 3), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_channel_attention_reaches_as_far_as_the_eca_paper_says(channels: int, size: int) -> None:
    assert ChannelAttention(channels).conv.kernel_size == (size,)


def test_drop_path_leaves_out_whole_pictures_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = DropPath(0.25)(torch.ones(4000, 1, 2, 2))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped.amin((1, 2, 3)), dropped.amax((1, 2, 3)))
    assert dropped.mean().item() == pytest.approx(1, abs=0.04)


def test_drop_path_does_nothing_in_evaluation(x: torch.Tensor) -> None:
    assert torch.equal(DropPath(0.9).eval()(x), x)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (16, 16), (24, 8)])
def test_a_group_norm_has_32_groups_or_as_many_as_divide_the_channels(channels: int, groups: int) -> None:
    made = norm(VARIANTS["resnet50_gn"], channels)
    assert isinstance(made, nn.GroupNorm)
    assert made.num_groups == groups


def test_a_stem_folded_to_grey_sees_a_grey_picture_as_the_stem_saw_it_in_colour() -> None:
    weight, grey = torch.randn(8, 3, 7, 7), torch.rand(1, 1, 16, 16)
    expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weight)
    torch.testing.assert_close(
        nn.functional.conv2d(grey, fold_channels(weight, 1)), expected, atol=1e-4, rtol=1e-4
    )


def test_a_stem_folded_to_more_channels_takes_them_in_turn_and_keeps_its_outputs_size() -> None:
    weight = torch.randn(8, 3, 3, 3)
    folded = fold_channels(weight, 12)
    assert torch.equal(folded[:, 4], weight[:, 1] / 4)
    torch.testing.assert_close(folded.sum(1), weight.sum(1))
    assert torch.equal(fold_channels(weight, 4)[:, 3], weight[:, 0] * 0.75)
    assert fold_channels(weight, 3) is weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_global_max_pool_is_torchs_adaptive_one_also_among_equals(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (3, 16, 5, 4)).to(dtype).contiguous(memory_format=torch.channels_last)
    values, gradients = [], []
    for pool in (GlobalMaxPool(), nn.AdaptiveMaxPool2d(1)):
        own = x.clone().requires_grad_()
        y = pool(own)
        (y * torch.arange(16).view(1, 16, 1, 1)).sum().backward()
        values.append(y)
        gradients.append(own.grad)
    assert torch.equal(*values)
    assert torch.equal(*gradients)


def test_a_reflected_border_is_torchs_with_its_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    expected = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    assert torch.equal(reflected(x), expected)
    (ours,) = torch.autograd.grad((reflected(x) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)
