"""Muon: orthogonal updates, momentum as SGD has it, and a state that is saved and restored."""

import copy

import pytest
import torch
from torch import nn

from resnets.networks.resnet import build
from resnets.training.checkpoint import optimizer_tensors, restore_optimizer
from resnets.training.muon import Muon, newton_schulz, orthogonal
from resnets.training.optimizers import make_optimizer


@pytest.mark.parametrize("shape", [(16, 27), (64, 576), (128, 64)])
def test_the_iteration_keeps_singular_vectors_and_brings_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = u.mT @ newton_schulz(matrix) @ v.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert float(diagonal.min()) > 0.6
    assert float(diagonal.max()) < 1.25
    assert float((values - torch.diag_embed(diagonal)).abs().max()) < 1e-10


def test_filters_of_one_shape_are_treated_as_each_alone() -> None:
    filters = [torch.randn(8, 4, 3, 3) for _ in range(3)] + [torch.randn(8, 8, 1, 1)]
    for update, alone in zip(orthogonal(filters), (orthogonal([one])[0] for one in filters), strict=True):
        torch.testing.assert_close(update, alone)


def test_the_update_follows_torchs_muon_on_a_matrix() -> None:
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    theirs = nn.Parameter(weight.clone())
    ours = nn.Parameter(weight.clone().reshape(6, 10, 1, 1))
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.9)
    optimizer = Muon([{"params": [ours], "weight_decay": 0.1, "orthogonal": True}], lr=0.02, momentum=0.9)
    for seed in range(4):
        gradient = torch.randn(6, 10, generator=torch.Generator().manual_seed(seed))
        theirs.grad, ours.grad = gradient.clone(), gradient.clone().reshape(6, 10, 1, 1)
        reference.step()
        optimizer.step()
    moved = (theirs.detach() - weight).norm()
    assert float((ours.detach().reshape(6, 10) - theirs.detach()).norm() / moved) < 0.03  # theirs rounds to bf16


def test_a_filter_bank_of_fixed_norm_is_scaled_and_then_turned_by_the_rate() -> None:
    weight = torch.randn(4, 6, 1, 1, generator=torch.Generator().manual_seed(1))
    rows = torch.linalg.qr(torch.randn(6, 4, generator=torch.Generator().manual_seed(2))).Q.mT  # orthonormal
    filters = nn.Parameter(weight.clone())
    filters.grad = rows.clone().reshape(4, 6, 1, 1)
    Muon([{"params": [filters], "orthogonal": True}], lr=0.1, momentum=0.0, fixed_norm=True).step()
    at_norm = 2 * weight / weight.norm()  # the root of four filters
    moved = (filters.detach() - at_norm).reshape(4, 6)
    assert float(moved.norm()) == pytest.approx(0.1 * 2, rel=0.3)  # singular values end within 0.7 to 1.2
    cosine = -float((moved * rows).sum() / moved.norm() / rows.norm())
    assert cosine > 0.99


def test_beside_filters_of_fixed_norm_the_rest_goes_at_ten_times_the_rate() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    free = make_optimizer(network, "muon", momentum=0.6, weight_decay=0.0)
    fixed = make_optimizer(network, "muon", momentum=0.6, weight_decay=0.0, fixed_norm=True)
    assert [(len(group["params"]), group["share"]) for group in free.param_groups] == [(1, 1), (2, 1)]
    assert [(len(group["params"]), group["share"]) for group in fixed.param_groups] == [(1, 1), (2, 10)]


def test_what_is_no_filter_goes_as_with_sgd_without_decay() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizer = make_optimizer(ours, "muon", momentum=0.9, weight_decay=0.3)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for _ in range(3):
        for network, stepper in ((ours, optimizer), (theirs, reference)):
            stepper.zero_grad()
            network(torch.ones(4, 3)).square().sum().backward()
            stepper.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_a_restored_muon_goes_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    network = build("resnet20", num_classes=3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])

    def steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.05
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

    optimizer = make_optimizer(network, "muon", momentum=0.9, weight_decay=0.01)
    steps(network, optimizer, 2)
    other = copy.deepcopy(network)
    restored = make_optimizer(other, "muon", momentum=0.9, weight_decay=0.01)
    restore_optimizer(restored, optimizer_tensors(optimizer))
    steps(network, optimizer, 2)
    steps(other, restored, 2)
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
