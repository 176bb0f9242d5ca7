"""The fused norm against PyTorch's own steps: values, gradients, running statistics, and when it stands back."""

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.networks import build, kernels

pytestmark = pytest.mark.usefixtures("fused")

SHAPES = (
    (2, 16, 8, 8),
    (4, 32, 5, 7),
    (2, 64, 33, 31),  # several chunks
    (3, 3, 5, 7),
    (2, 17, 9, 9),  # a ragged end
    (1, 130, 6, 5),
    (2, 2048, 3, 3),
    (5, 7, 1, 1),
    (2, 1, 3, 3),
)
KINDS = (*product((False, True), (None, nn.ReLU())), (False, nn.Hardswish()))  # whether a residual is added; act


def channels_last(
    shape: tuple[int, ...], *, seed: int, dtype: torch.dtype = torch.float32, mean: float = 0
) -> Tensor:
    """Values that bfloat16 holds, so that every precision starts from the same."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + mean
    return values.bfloat16().to(dtype).contiguous(memory_format=torch.channels_last)


def trained_norm(channels: int, **options: float | bool | None) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(9)
    nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
    nn.init.normal_(norm.bias, generator=generator)
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
    return norm


def is_fused(y: Tensor) -> bool:
    return "NormAct" in str(y.grad_fn)


def step(
    norm: nn.BatchNorm2d,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    *,
    adds: bool,
    act: nn.Module | None,
    on: bool,
) -> dict[str, Tensor]:
    """What one forward and backward pass makes, in float64, by name."""
    norm = copy.deepcopy(norm).to(torch.float64 if dtype == torch.float64 else torch.float32)
    x = channels_last(shape, seed=1, dtype=dtype, mean=3).requires_grad_()
    residual = channels_last(shape, seed=2, dtype=dtype).requires_grad_()
    with kernels.using(on):
        y = kernels.norm_act(norm, x, residual=residual if adds else None, act=act)
    assert is_fused(y) == on
    y.backward(channels_last(shape, seed=3, dtype=dtype))
    made = {"y": y, "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    made |= {"residual": residual.grad} if adds else {}
    made |= dict(norm.named_buffers())
    return {name: value.detach().double() for name, value in made.items() if value is not None}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_values_gradients_and_statistics_are_those_of_float64_torch(shape: tuple[int, ...]) -> None:
    for training, (adds, act) in product((True, False), KINDS):
        norm = trained_norm(shape[1]).train(training)
        ours = step(norm, shape, torch.float32, adds=adds, act=act, on=True)
        exact = step(norm, shape, torch.float64, adds=adds, act=act, on=False)
        assert ours.keys() == exact.keys()
        for name, value in exact.items():
            torch.testing.assert_close(
                ours[name], value, rtol=1e-5, atol=2e-6 * float(value.abs().max()), msg=name
            )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_errs_no_more_than_torch_does(shape: tuple[int, ...]) -> None:
    for training, (adds, act) in product((True, False), KINDS):
        norm = trained_norm(shape[1]).train(training)
        ours = step(norm, shape, torch.bfloat16, adds=adds, act=act, on=True)
        torchs = step(norm, shape, torch.bfloat16, adds=adds, act=act, on=False)
        exact = step(norm, shape, torch.float64, adds=adds, act=act, on=False)
        for name, value in exact.items():
            ours_off, torchs_off = float((ours[name] - value).norm()), float((torchs[name] - value).norm())
            assert ours_off <= 1.1 * torchs_off + 1e-6 * float(value.norm()), (name, ours_off, torchs_off)


def test_a_tensor_larger_than_the_caches_is_right_too() -> None:
    norm, shape = trained_norm(256), (5, 256, 64, 64)  # 21 MB: gone through in another order
    ours = step(norm, shape, torch.float32, adds=True, act=nn.ReLU(), on=True)
    torchs = step(norm, shape, torch.float32, adds=True, act=nn.ReLU(), on=False)
    for name, value in torchs.items():  # of 5 million, some few fall on either side of the ReLU's corner
        assert float((ours[name] - value).norm()) < 2e-3 * float(value.norm()), name


def test_a_large_mean_does_not_spoil_the_variance() -> None:
    x = channels_last((4, 16, 16, 16), seed=1).add_(1000)  # one pass over plain squares would lose three digits
    norm = nn.BatchNorm2d(16, momentum=1)
    kernels.norm_act(norm, x)
    torch.testing.assert_close(norm.running_var, x.double().var((0, 2, 3)).float(), rtol=1e-5, atol=0)


def test_a_constant_channel_gives_its_bias() -> None:
    norm = trained_norm(8)
    y = kernels.norm_act(norm, torch.full((2, 8, 3, 3), 5.0).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, norm.bias.view(1, 8, 1, 1).expand_as(y), rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{"momentum": None}, {"momentum": 0.3}, {"track_running_stats": False}, {"eps": 0.1}], ids=str
)
def test_every_kind_of_running_statistics_is_kept_as_torch_keeps_it(options: dict[str, float | None]) -> None:
    ours, torchs = trained_norm(16, **options), trained_norm(16, **options)
    for training in (True, True, True, False):
        for seed in (1, 2):
            x = channels_last((2, 16, 5, 5), seed=seed).requires_grad_()
            y = kernels.norm_act(ours.train(training), x)
            assert is_fused(y)
            torch.testing.assert_close(y, torchs.train(training)(x), rtol=1e-5, atol=1e-5)
    for name, value in torchs.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_bits_are_the_same_at_any_number_of_threads_and_every_time() -> None:
    def bits() -> list[Tensor]:
        return list(
            step(trained_norm(48), (8, 48, 20, 20), torch.bfloat16, adds=True, act=nn.ReLU(), on=True).values()
        )

    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            made.append(bits())
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(made[0], other, strict=True))


def test_relu_passes_on_not_a_number_and_stops_the_gradient_at_zero() -> None:
    norm = nn.BatchNorm2d(4).eval()
    x = channels_last((2, 4, 2, 2), seed=1)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = float("nan"), 0.0
    x.requires_grad_()
    y = kernels.norm_act(norm, x, act=nn.ReLU())
    y.sum().backward()
    assert y[0, 0, 0, 0].isnan()
    assert x.grad is not None
    assert x.grad[0, 1, 0, 0] == 0


def test_without_gradients_nothing_is_saved_and_values_are_the_same() -> None:
    norm, x = trained_norm(16), channels_last((2, 16, 5, 5), seed=1)
    with torch.no_grad():
        y = kernels.norm_act(copy.deepcopy(norm), x, act=nn.ReLU())
    assert y.grad_fn is None
    torch.testing.assert_close(y, norm(x).relu(), rtol=1e-5, atol=1e-6)


def test_frozen_parameters_get_no_gradient_and_the_input_does() -> None:
    norm = trained_norm(16).requires_grad_(False)
    x = channels_last((2, 16, 5, 5), seed=1).requires_grad_()
    kernels.norm_act(norm, x).sum().backward()
    assert norm.weight.grad is None
    assert x.grad is not None


def test_a_gradient_that_is_spread_from_one_value_is_understood() -> None:
    x, norm = channels_last((2, 16, 5, 5), seed=1).requires_grad_(), trained_norm(16).eval()
    kernels.norm_act(norm, x, act=nn.ReLU()).mean().backward()
    ours, x.grad = x.grad, None
    norm(x).relu().mean().backward()
    torch.testing.assert_close(ours, x.grad, rtol=1e-5, atol=1e-8)


def stand_back_cases() -> dict[str, tuple[nn.Module, Tensor]]:
    plain, x = nn.BatchNorm2d(8), channels_last((2, 8, 4, 4), seed=1)
    hooked = nn.BatchNorm2d(8)
    hooked.register_forward_hook(lambda module, args, output: None)
    return {
        "rows first": (plain, x.contiguous()),
        "a slice": (plain, channels_last((2, 8, 4, 8), seed=1)[:, :, :, ::2]),
        "double": (nn.BatchNorm2d(8).double(), x.double()),
        "half parameters": (nn.BatchNorm2d(8).bfloat16(), x.bfloat16()),
        "not affine": (nn.BatchNorm2d(8, affine=False), x),
        "another norm": (nn.GroupNorm(2, 8), x),
        "hooked": (hooked, x),
    }


@pytest.mark.parametrize("case", stand_back_cases())
def test_it_stands_back_where_it_cannot_run(case: str) -> None:
    norm, x = stand_back_cases()[case]
    x.requires_grad_()
    y = kernels.norm_act(norm, x, residual=x, act=nn.ReLU())
    assert not is_fused(y)
    torch.testing.assert_close(y, torch.relu(norm(x) + x))


def test_a_hook_on_the_relu_sees_its_input_and_the_norm_alone_is_fused() -> None:
    act, seen = nn.ReLU(), []
    act.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    x = channels_last((2, 8, 4, 4), seed=1).requires_grad_()
    y = kernels.norm_act(trained_norm(8), x, act=act)
    assert is_fused(seen[0])
    assert (seen[0] < 0).any()
    assert (y >= 0).all()


def test_hardswish_bends_at_minus_three_and_three_and_passes_on_not_a_number() -> None:
    norm, act = nn.BatchNorm2d(1, eps=0).eval(), nn.Hardswish()
    values = torch.tensor([-4.0, -3, -2.9, -1.5, 0, 1, 2.9, 3, 4, float("nan")]).reshape(1, 1, 2, 5)
    x = values.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = kernels.norm_act(norm, x, act=act)
    assert is_fused(y)
    torch.testing.assert_close(y, act(values), equal_nan=True)
    y.nansum().backward()
    slopes = torch.tensor([0, 0, -1.4 / 3, 0, 0.5, 1 / 3 + 0.5, 4.4 / 3, 1, 1])
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten()[:9], slopes)


def test_hardswish_behind_a_residual_is_torchs_and_the_sum_is_fused() -> None:
    norm, act = trained_norm(8).eval(), nn.Hardswish()
    x, residual = (channels_last((2, 8, 4, 4), seed=seed).requires_grad_() for seed in (1, 2))
    y = kernels.norm_act(norm, x, residual=residual, act=act)
    assert y.grad_fn is not None
    assert "Hardswish" in str(y.grad_fn)
    assert "NormAct" in str(y.grad_fn.next_functions[0][0])
    expected = act(norm(x) + residual)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    ours, torchs = (torch.autograd.grad(each.sum(), (x, residual)) for each in (y, expected))
    torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5)


def test_a_residual_of_another_type_is_added_by_torch() -> None:
    x = channels_last((2, 8, 4, 4), seed=1, dtype=torch.bfloat16).requires_grad_()
    residual = channels_last((2, 8, 4, 4), seed=2)
    y = kernels.norm_act(trained_norm(8), x, residual=residual, act=nn.ReLU())
    assert y.dtype == torch.float32


def test_a_single_value_a_channel_is_refused_as_torch_refuses_it() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        kernels.norm_act(nn.BatchNorm2d(8), channels_last((1, 8, 1, 1), seed=1))


def test_a_second_derivative_is_refused_with_the_cure() -> None:
    x = channels_last((2, 8, 4, 4), seed=1).requires_grad_()
    y = kernels.norm_act(trained_norm(8), x)
    with pytest.raises(UsageError, match=r"using\(False\)"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_an_input_changed_before_its_gradient_is_noticed() -> None:
    x = channels_last((2, 8, 4, 4), seed=1).requires_grad_()
    before = x * 1
    y = kernels.norm_act(trained_norm(8), before)
    before.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_checkpointed_activations_give_the_same_gradients() -> None:
    norm, x = trained_norm(8).eval(), channels_last((2, 8, 4, 4), seed=1).requires_grad_()
    kernels.norm_act(norm, x, act=nn.ReLU()).square().sum().backward()
    plain, x.grad = x.grad, None
    y = torch.utils.checkpoint.checkpoint(
        lambda x: kernels.norm_act(norm, x, act=nn.ReLU()), x, use_reentrant=False
    )
    y.square().sum().backward()
    assert plain is not None
    assert x.grad is not None
    assert torch.equal(plain, x.grad)


def test_export_sees_torch_steps_alone() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.act = nn.BatchNorm2d(8), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return kernels.norm_act(self.norm, x, residual=x, act=self.act)

    x = channels_last((2, 8, 4, 4), seed=1)
    program = torch.export.export(Block().eval(), (x,))
    assert "batch_norm" in str(program.graph)
    assert "NormAct" not in str(program.graph)


def test_off_means_torch() -> None:
    with kernels.using(False):
        assert kernels.state() == "torch"
        y = kernels.norm_act(nn.BatchNorm2d(8), channels_last((2, 8, 4, 4), seed=1))
    assert "BatchNorm" in str(y.grad_fn)
    assert kernels.state().startswith("fused (")


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50", "resnet9", "resnet11_whitened"])
def test_a_network_learns_the_same_with_and_without(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, num_classes=10).to(memory_format=torch.channels_last)
    images = channels_last((4, 3, 32, 32), seed=1)

    def gradients(on: bool) -> dict[str, Tensor]:
        learner = copy.deepcopy(network)
        with kernels.using(on):
            nn.functional.cross_entropy(learner(images), torch.arange(4)).backward()
        return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}

    ours, torchs = gradients(True), gradients(False)
    assert ours.keys() == torchs.keys()
    scale = max(float(value.norm()) for value in torchs.values())
    for parameter, value in torchs.items():
        assert float((ours[parameter] - value).norm()) <= 0.01 * float(value.norm()) + 1e-4 * scale, parameter
