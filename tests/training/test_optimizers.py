"""Our SGD beside torch's, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from resnets.networks import build
from resnets.training.optimizers import make_optimizer


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=("channels last", "first"))
def test_sgd_moves_every_parameter_as_torchs_does(layout: torch.memory_format, momentum: float) -> None:
    torch.manual_seed(0)
    ours = build("resnet20", num_classes=3).to(memory_format=layout)  # type: ignore[call-overload]
    theirs = copy.deepcopy(ours)
    for network in (ours, theirs):
        groups = make_optimizer(network, "sgd", momentum=momentum, weight_decay=0.01).param_groups
        optimizer = make_optimizer(network, "sgd", momentum=momentum, weight_decay=0.01)
        if network is theirs:
            optimizer = torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0)
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        for count in range(3):
            optimizer.zero_grad()
            images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(count))
            network(images).square().sum().backward()
            optimizer.step()
        assert all(len(optimizer.state[parameter]) == (momentum > 0) for parameter in network.parameters())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)  # torch's is not the fused one
        assert one.stride() == other.stride()


def test_sgd_leaves_what_has_no_gradient_and_takes_a_gradient_of_another_layout() -> None:
    module = nn.Conv2d(4, 4, 3, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(module, "sgd", momentum=0.9, weight_decay=0.0)
    optimizer.param_groups[0]["lr"] = 1.0
    before = module.weight.detach().clone()
    optimizer.step()
    assert torch.equal(module.weight, before)
    module.weight.grad = torch.arange(144.0).reshape(4, 4, 3, 3)  # as torch lays tensors out by itself
    optimizer.step()
    torch.testing.assert_close(module.weight, before - 1.9 * module.weight.grad)
