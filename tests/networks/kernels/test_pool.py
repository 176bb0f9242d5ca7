"""The fused max pool against PyTorch's own."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from resnets.networks import kernels


@pytest.fixture(autouse=True)
def fused() -> Iterator[None]:
    can, reason = kernels.available("cpu", torch.float32)
    if not can:
        pytest.skip(f"no fused kernels here: {reason}")
    with kernels.using(True):
        yield


def channels_last(shape: tuple[int, ...], *, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(seed))  # with many ties
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


POOLS = (
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(2),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.MaxPool2d((3, 2), (1, 3), (1, 0)),
    nn.MaxPool2d(3, 4),  # pixels that no window has
    nn.MaxPool2d(5, 1, 2),
)


@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (3, 19, 7, 11), (1, 3, 6, 5), (2, 64, 31, 33)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_torchs(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = channels_last(shape, dtype=dtype).requires_grad_()
    for pool in POOLS:
        y, expected = kernels.max_pool(pool, x), pool(x)
        assert "_MaxPool" in str(y.grad_fn)
        assert torch.equal(y, expected)
        assert y.is_contiguous(memory_format=torch.channels_last)
        grad = channels_last(tuple(y.shape), seed=2, dtype=dtype)  # whole numbers: sums are exact
        assert torch.equal(torch.autograd.grad(y, x, grad)[0], torch.autograd.grad(expected, x, grad)[0]), pool


def test_not_a_number_and_minus_infinity_are_kept() -> None:
    x = channels_last((1, 16, 6, 6))
    x[0, 3, 2, 2], x[0, 4] = float("nan"), float("-inf")
    x.requires_grad_()
    pool = nn.MaxPool2d(3, 2, 1)
    y, expected = kernels.max_pool(pool, x), pool(x)
    torch.testing.assert_close(y, expected, equal_nan=True, rtol=0, atol=0)
    ours, torchs = (torch.autograd.grad(value.sum(), x)[0] for value in (y, expected))
    assert torch.equal(ours, torchs)


@pytest.mark.parametrize(
    ("pool", "x"),
    [
        (nn.MaxPool2d(3, dilation=2), channels_last((1, 8, 9, 9))),
        (nn.MaxPool2d(2), channels_last((1, 8, 4, 4)).contiguous()),
        (nn.MaxPool2d(2), channels_last((1, 8, 4, 4)).double()),
        (nn.AvgPool2d(2), channels_last((1, 8, 4, 4))),
        (nn.Identity(), channels_last((1, 8, 4, 4))),
        (nn.MaxPool2d(17), channels_last((1, 8, 17, 17))),  # more places than a byte tells apart
    ],
    ids=["dilated", "rows first", "double", "average", "identity", "large"],
)
def test_it_stands_back_where_it_cannot_run(pool: nn.Module, x: Tensor) -> None:
    x.requires_grad_()
    y = kernels.max_pool(pool, x)
    assert "_MaxPool" not in str(y.grad_fn)
    assert torch.equal(y, pool(x))


def test_a_hooked_pool_is_called() -> None:
    pool, seen = nn.MaxPool2d(2), []
    pool.register_forward_hook(lambda module, args, output: seen.append(output))
    kernels.max_pool(pool, channels_last((1, 8, 4, 4)))
    assert len(seen) == 1


def test_impossible_windows_are_refused_as_torch_refuses_them() -> None:
    for pool in (nn.MaxPool2d(3, padding=2), nn.MaxPool2d(5)):
        with pytest.raises(RuntimeError):
            kernels.max_pool(pool, channels_last((1, 8, 4, 4)))
