import pytest
import torch
from torch import nn

from resnets.training.recalibrate import recalibrate, unfold


def test_statistics_become_those_of_the_pictures() -> None:
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 5 + 2
    network = nn.Sequential(nn.BatchNorm2d(3))
    network[0].running_mean.fill_(100)
    assert recalibrate(network, images.split(16)) == 1
    assert torch.allclose(network[0].running_mean, images.mean((0, 2, 3)), atol=1e-5)
    within = torch.stack([part.var((0, 2, 3)) for part in images.split(16)]).mean(0)
    assert torch.allclose(network[0].running_var, within, rtol=1e-5)


def test_modes_momentum_and_weights_are_left_as_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout())
    network.train()
    network[2].eval()
    weight = network[0].weight.clone()
    recalibrate(network, [torch.randn(4, 3, 8, 8)])
    assert [module.training for module in network] == [True, True, False]
    assert network[1].momentum == 0.3
    assert torch.equal(network[0].weight, weight)


def test_no_batch_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate(nn.BatchNorm2d(3), [])


def test_unfolded_norms_compute_the_same_and_hold_the_pictures_statistics() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
    )
    for norm in (network[1], network[4]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    network.eval()
    images = torch.randn(16, 3, 10, 10) * 3 + 1
    before = network(images)
    assert unfold(network, images.split(8)) == 2
    assert torch.allclose(network(images), before, rtol=1e-4, atol=1e-4)
    assert torch.allclose(network[1].running_mean, network[0](images).mean((0, 2, 3)), atol=1e-5)
    network.train()
    assert torch.allclose(network(images), before, rtol=1e-2, atol=1e-2)


def test_folded_norms_start_training_from_another_function_so_the_test_above_can_fail() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    images = torch.randn(16, 3, 10, 10) * 3 + 1
    folded = network.eval()(images)
    assert not torch.allclose(network.train()(images), folded, rtol=1e-1, atol=1e-1)
