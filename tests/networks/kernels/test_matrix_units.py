"""Convolutions on matrix units and their gradients against float64, and when they are left to PyTorch."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.networks import build, kernels
from resnets.networks.kernels.build import load
from resnets.networks.layers import Conv2d, conv, parted
from resnets.networks.variants import variant

SHAPES = (  # pictures, channels, height, width; out, side of a filter, stride
    ((4, 32, 8, 8), (32, 3, 1)),
    ((3, 16, 9, 8), (48, 3, 2)),  # an odd number of pictures; odd and even sides
    ((1, 48, 5, 7), (16, 5, 1)),  # one picture; one block and three
    ((2, 64, 7, 6), (64, 1, 2)),
    ((4, 3, 17, 20), (16, 7, 2)),  # few channels: a stem
    ((5, 1, 12, 8), (32, 3, 1)),
    ((2, 12, 9, 9), (16, 3, 2)),
    ((3, 48, 5, 7), (32, 1, 1)),  # places that fill no tiles
    ((8, 32, 6, 8), (96, 1, 1)),  # places that do
    ((2, 16, 1, 1), (16, 3, 1)),  # more padding than picture
    ((2, 16, 64, 70), (16, 3, 1)),  # more tiles than are summed at once
    ((40, 16, 3, 3), (16, 3, 1)),  # more pairs of pictures than are summed at once
    ((2, 64, 56, 56), (64, 3, 1)),  # as photographs have them
    ((3, 3, 130, 112), (64, 7, 2)),
    ((2, 128, 57, 50), (256, 3, 2)),
    ((3, 512, 7, 7), (512, 3, 1)),  # more filters than a thread sums alone
    ((70, 256, 28, 28), (1024, 1, 2)),  # more than is packed at once
    ((80, 32, 5, 5), (32, 3, 1)),  # small maps of 16 pictures and their multiples
    ((160, 64, 4, 3), (48, 3, 2)),
    ((32, 32, 9, 8), (32, 4, 1)),  # even sides of filters
    ((6, 32, 9, 10), (32, 2, 2)),
    ((1, 80, 9, 9), (16, 2, 2)),  # the last column is read by no tap
)


@pytest.fixture(autouse=True)
def on_matrix_units() -> Iterator[None]:
    loaded = load()
    if isinstance(loaded, str) or not loaded.matrix_units:
        pytest.skip("this processor has no bf16 matrix units, or nothing could be compiled for them")
    threads = torch.get_num_threads()
    with kernels.using(True):
        yield
    torch.set_num_threads(threads)


def rounded(shape: tuple[int, ...], seed: int) -> Tensor:
    """Values that bfloat16 holds."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().float()
    return values.contiguous(memory_format=torch.channels_last)


def module_for(shape: tuple[int, ...], filters: tuple[int, int, int]) -> nn.Conv2d:
    made = conv(shape[1], filters[0], filters[1], stride=filters[2])
    made.weight = nn.Parameter(rounded(tuple(made.weight.shape), 1))
    return made


def step(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y, and the gradients of the filters and of x."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    module.zero_grad()
    y.backward(rounded(tuple(y.shape), 2).to(y.dtype))
    weight = module.get_parameter("weight").grad
    assert weight is not None
    assert x.grad is not None
    return y, weight, x.grad


def is_ours(y: Tensor) -> bool:
    return "Convolve" in str(y.grad_fn)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("shape", "filters"), SHAPES, ids=str)
def test_values_and_both_gradients_are_those_of_float64(
    shape: tuple[int, ...], filters: tuple[int, int, int], threads: int
) -> None:
    torch.set_num_threads(threads)
    module, x = module_for(shape, filters), rounded(shape, 0)
    y, to_weight, to_x = step(module, x)
    assert is_ours(y)
    about = {"stride": filters[2], "padding": module.padding}
    weight, grad = module.weight.detach().double(), rounded(tuple(y.shape), 2).double()
    close_to_bf16(y, torch.conv2d(x.double(), weight, **about))
    close_to_bf16(to_x, torch.nn.grad.conv2d_input(x.shape, weight, grad, **about))
    exact = torch.nn.grad.conv2d_weight(x.double(), weight.shape, grad, **about)
    assert to_weight.dtype == torch.float32
    torch.testing.assert_close(to_weight.double(), exact, rtol=1e-5, atol=1e-6 * float(exact.abs().max()))


def close_to_bf16(ours: Tensor, exact: Tensor) -> None:
    """Within half a unit in the last place of bfloat16, and what float32 sums lose."""
    torch.testing.assert_close(ours.double(), exact, rtol=2**-8, atol=1e-6 * float(exact.abs().max()))


@pytest.mark.parametrize("shape", [(32, 32, 7, 7), (80, 64, 4, 4), (10, 16, 9, 9)], ids=str)
def test_values_and_gradients_have_the_same_bits_at_any_number_of_threads_and_pictures(
    shape: tuple[int, ...],
) -> None:
    module, x = module_for(shape, (32, 3, 1)), rounded(shape, 0)
    whole = None
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        y, _, to_x = step(module, x)
        whole = whole or (y, to_x)
        assert torch.equal(y, whole[0])
        assert torch.equal(to_x, whole[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x[:3]), whole[0][:3])


@pytest.mark.parametrize(("shape", "filters"), SHAPES, ids=str)
def test_where_two_ways_part_their_gradients_are_added_before_they_are_rounded(
    shape: tuple[int, ...], filters: tuple[int, int, int]
) -> None:
    module, x = module_for(shape, filters), rounded(shape, 0).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, passed = parted(module, x)
    assert is_ours(y)
    assert torch.equal(passed, x)
    along, around = rounded(tuple(y.shape), 2), rounded(shape, 3)
    torch.autograd.backward([y, passed], [along.bfloat16(), around.bfloat16()])
    about = {"stride": filters[2], "padding": module.padding}
    exact = around.double() + torch.nn.grad.conv2d_input(
        shape, module.weight.detach().double(), along.double(), **about
    )
    assert x.grad is not None
    if shape[1] % 16 == 0:
        close_to_bf16(x.grad, exact)
    else:  # PyTorch's gradient, which is rounded before the sum
        torch.testing.assert_close(x.grad.double(), exact, rtol=2**-6, atol=0.01 * float(exact.abs().max()))


def test_a_way_that_leads_nowhere_has_no_gradient() -> None:
    module, x = module_for((4, 32, 8, 8), (32, 3, 1)), rounded((4, 32, 8, 8), 0).bfloat16().requires_grad_()
    for used in (0, 1):
        x.grad = module.weight.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ways = parted(module, x)
        ways[used].sum().backward()
        assert x.grad is not None
        assert (module.weight.grad is None) == (used == 1)
        if used == 1:
            assert torch.equal(x.grad, torch.ones_like(x))
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                alone = module(x)
            (expected,) = torch.autograd.grad(alone.sum(), x)
            assert torch.equal(x.grad, expected)


def test_ways_part_as_ever_where_a_hook_looks_on_or_nothing_is_rounded() -> None:
    module, x = module_for((4, 32, 8, 8), (32, 3, 1)), rounded((4, 32, 8, 8), 0).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, passed = parted(module, x)  # float32 goes on as it is
        assert is_ours(y)
        assert passed is x
        seen = []
        module.register_forward_hook(lambda *given: seen.append(given))
        _, passed = parted(module, half := x.detach().bfloat16().requires_grad_())
        assert passed is half
    assert len(seen) == 1


def test_the_filters_gradient_is_nearer_to_the_truth_than_torchs() -> None:
    module, x = module_for((4, 32, 9, 9), (48, 3, 1)), rounded((4, 32, 9, 9), 0)
    y, ours, _ = step(module, x)
    with kernels.using(False):
        _, torchs, _ = step(module, x)
    exact = torch.nn.grad.conv2d_weight(
        x.double(), tuple(module.weight.shape), rounded(tuple(y.shape), 2).double(), 1, 1
    )
    assert 100 * float((ours - exact).norm()) < float((torchs - exact).norm())  # which are rounded to bf16


def test_the_same_step_gives_the_same_bits() -> None:
    module, x = module_for((6, 64, 14, 14), (64, 3, 1)), rounded((6, 64, 14, 14), 0)
    first, second = step(module, x)[1].clone(), step(module, x)[1]
    assert torch.equal(first, second)


@pytest.mark.parametrize("channels", [16, 32])
def test_a_value_that_is_no_number_is_not_hidden_and_stays_in_its_picture(channels: int) -> None:
    module, x = module_for((2, channels, 7, 7), (16, 3, 1)), rounded((2, channels, 7, 7), 0)
    x[0, 3, 2, 2] = float("nan")
    y, to_weight, to_x = step(module, x)
    there = torch.zeros(7, 7, dtype=torch.bool)
    there[1:4, 1:4] = True
    assert torch.equal(y[0].isnan(), there.expand(16, 7, 7))
    assert not y[1].isnan().any()
    assert to_weight[:, 3].isnan().all()
    assert not to_weight[:, 4].isnan().any()
    assert not to_x.isnan().any()


def changed(change: Callable[[nn.Conv2d], object]) -> nn.Conv2d:
    module = module_for((2, 32, 8, 8), (32, 3, 1))
    change(module)
    return module


@pytest.mark.parametrize(
    "module",
    [
        Conv2d(32, 32, 3, padding=1),  # a bias
        Conv2d(32, 32, 3, padding=1, groups=2, bias=False),
        Conv2d(32, 32, 3, padding=2, dilation=2, bias=False),
        Conv2d(32, 32, 3, padding=1, stride=(1, 2), bias=False),
        Conv2d(32, 32, 3, padding="same", bias=False),
        Conv2d(32, 32, 3, padding=1, padding_mode="reflect", bias=False),
        Conv2d(32, 24, 3, padding=1, bias=False),
        Conv2d(32, 32, 3, padding=3, bias=False),
        changed(lambda module: module.weight.requires_grad_(False)),
        changed(lambda module: module.to(torch.bfloat16)),
    ],
    ids=(
        "bias",
        "groups",
        "dilation",
        "strides",
        "same",
        "reflected",
        "24 channels",
        "much padding",
        "frozen",
        "in bf16",
    ),
)
def test_what_the_kernel_is_not_for_is_left_to_torch(module: nn.Conv2d) -> None:
    module, x = module.to(memory_format=torch.channels_last), rounded((2, 32, 8, 8), 0).requires_grad_()  # type: ignore[call-overload]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_ours(module(x))


def test_without_autocast_or_a_gradient_torch_computes_it() -> None:
    module, x = module_for((2, 32, 8, 8), (32, 3, 1)), rounded((2, 32, 8, 8), 0).requires_grad_()
    assert not is_ours(module(x))
    with torch.autocast("cpu", dtype=torch.float16):
        assert not is_ours(module(x))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert module(x).grad_fn is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert is_ours(module(x))


def test_a_wrong_number_of_channels_is_told_by_torch() -> None:
    module = module_for((2, 32, 8, 8), (32, 3, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(RuntimeError, match="expected input"):
        module(rounded((2, 16, 8, 8), 0))
    module.weight = nn.Parameter(rounded((32, 16, 3, 3), 1))  # which the module does not know of
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(RuntimeError, match="expected input"):
        module(rounded((2, 32, 8, 8), 0))
    module.padding = (-1, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(RuntimeError, match="negative padding"):
        module(rounded((2, 32, 8, 8), 0))


def test_second_derivatives_are_refused() -> None:
    module, x = module_for((2, 32, 8, 8), (32, 3, 1)), rounded((2, 32, 8, 8), 0).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    with pytest.raises(UsageError, match="no second derivatives"):
        torch.autograd.grad(y.float().sum(), x, create_graph=True)


def test_hooks_see_what_they_saw() -> None:
    module, x = module_for((2, 32, 8, 8), (32, 3, 1)), rounded((2, 32, 8, 8), 0)
    seen: list[tuple[int, ...]] = []
    module.register_forward_hook(lambda _, given, y: seen.append(tuple(y.shape)))
    module.register_full_backward_hook(lambda _, to_x, to_y: seen.append(tuple(to_y[0].shape)))
    module.weight.register_hook(lambda grad: seen.append(tuple(grad.shape)))
    step(module, x)
    assert sorted(seen) == [(2, 32, 8, 8), (2, 32, 8, 8), (32, 32, 3, 3)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "resnet11_whitened"])
def test_networks_have_gradients_that_lie_as_their_parameters_do(name: str) -> None:
    torch.manual_seed(0)
    network = build(variant(name)).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    x = rounded((2, 3, 64, 64), 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(x).sum().backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.stride() == parameter.stride(), key
