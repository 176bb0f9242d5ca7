"""Max pooling by the kernel against PyTorch's: the same values, and gradients that are rounded less often."""

import pytest
import torch
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.networks import kernels
from resnets.networks.layers import MaxPool2d

pytestmark = pytest.mark.usefixtures("fused")

POOLS = (
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 2, "stride": 3, "ceil_mode": True},  # places that are in no window
    {"kernel_size": 5, "stride": 2, "padding": 2},
)
SHAPES = ((2, 64, 8, 8), (3, 3, 7, 9), (1, 130, 5, 6), (2, 16, 3, 2), (1, 64, 33, 31))


def step(pool: nn.MaxPool2d, x: Tensor, *, on: bool) -> tuple[Tensor, Tensor]:
    """y and the gradient of x."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with kernels.using(on):
        y = pool(x)
    assert ("_MaxPoolBackward" in str(y.grad_fn)) == on
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    y.backward(grad.bfloat16().to(y.dtype))
    assert x.grad is not None
    return y, x.grad


def channels_last(shape: tuple[int, ...], dtype: torch.dtype, *, levels: int = 0) -> Tensor:
    """Normal values; with `levels`, only so many different ones."""
    generator = torch.Generator().manual_seed(0)
    values = (
        torch.randint(levels, shape, generator=generator).float()
        if levels
        else torch.randn(shape, generator=generator)
    )
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", POOLS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_float64_torch(options: dict[str, int], dtype: torch.dtype) -> None:
    pool = MaxPool2d(**options)
    for shape in SHAPES:
        x = channels_last(shape, dtype)
        (ours, to_x), (exact, its) = step(pool, x, on=True), step(pool, x.double(), on=False)
        assert torch.equal(ours.double(), exact)
        once = 2.0**-8 if dtype == torch.bfloat16 else 1e-6  # rounded once, where torch rounds every sum
        torch.testing.assert_close(to_x.double(), its, rtol=once, atol=1e-6)


def test_where_values_are_equal_the_first_has_the_gradient_as_in_torch() -> None:
    pool, x = MaxPool2d(2), channels_last((4, 32, 8, 8), torch.float32, levels=3)
    assert torch.equal(step(pool, x, on=True)[1], step(pool, x, on=False)[1])


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf")])
def test_numbers_that_are_none_go_where_torch_lets_them_go(value: float) -> None:
    pool, x = MaxPool2d(2), channels_last((2, 32, 6, 6), torch.float32)
    x[0, :, 2, 3], x[1, :, 2:4, 2:4] = value, value
    (ours, to_x), (torchs, its) = step(pool, x, on=True), step(pool, x, on=False)
    assert torch.equal(ours.nan_to_num(99), torchs.nan_to_num(99))
    assert torch.equal(to_x, its)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_bits_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    pool, x = MaxPool2d(3, 2, padding=1), channels_last((5, 64, 17, 19), torch.bfloat16)
    before = step(pool, x, on=True)
    kept = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        after = step(pool, x, on=True)
    finally:
        torch.set_num_threads(kept)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


@pytest.mark.parametrize(
    "pool",
    [MaxPool2d(3, dilation=2), MaxPool2d((2, 3)), MaxPool2d(2, stride=(1, 2)), MaxPool2d(17), MaxPool2d(40)],
    ids=str,
)
def test_what_the_kernel_is_not_for_is_left_to_torch(pool: MaxPool2d) -> None:
    x = channels_last((1, 8, 32, 32), torch.float32).requires_grad_()
    if pool.kernel_size == 40:
        with pytest.raises(RuntimeError, match="too small"):
            pool(x)
    else:
        assert "_MaxPoolBackward" not in str(pool(x).grad_fn)


def test_without_a_gradient_nothing_is_kept_and_the_values_are_the_same() -> None:
    pool, x = MaxPool2d(3, 2, padding=1), channels_last((2, 64, 9, 9), torch.bfloat16)
    with torch.no_grad():
        ours = pool(x)
    assert ours.grad_fn is None
    assert torch.equal(ours, nn.MaxPool2d(3, 2, padding=1)(x))


def test_second_derivatives_are_refused() -> None:
    x = channels_last((2, 8, 4, 4), torch.float32).requires_grad_()
    with pytest.raises(UsageError, match="no second derivatives"):
        torch.autograd.grad(MaxPool2d(2)(x).sum(), x, create_graph=True)
