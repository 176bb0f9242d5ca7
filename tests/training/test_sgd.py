"""Our SGD beside torch's, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from resnets.networks import build
from resnets.training.optimizers import make_optimizer
from resnets.training.sgd import SGD


def moved(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for count in range(steps):
        optimizer.zero_grad()
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(count))
        network(images).square().sum().backward()
        for parameter in network.parameters():  # as it comes from torch's own convolutions, but for its layout
            parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=("channels last", "first"))
def test_sgd_moves_every_parameter_as_torchs_fused_sgd_does(layout: torch.memory_format, momentum: float) -> None:
    torch.manual_seed(0)
    ours = build("resnet20", num_classes=3).to(memory_format=layout)  # type: ignore[call-overload]
    theirs = copy.deepcopy(ours)
    optimizer = make_optimizer(ours, "sgd", momentum=momentum, weight_decay=0.01)
    groups = make_optimizer(theirs, "sgd", momentum=momentum, weight_decay=0.01).param_groups
    reference = torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)
    moved(ours, optimizer, 3)
    moved(theirs, reference, 3)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert len(optimizer.state[one]) == (momentum > 0)


@pytest.mark.parametrize("kind", [SGD, torch.optim.SGD])
def test_a_restored_sgd_goes_on_bit_for_bit_also_from_torchs(kind: type[torch.optim.SGD]) -> None:
    torch.manual_seed(0)
    network = build("resnet20", num_classes=3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = kind(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
    moved(network, optimizer, 2)
    other = copy.deepcopy(network)
    restored = SGD(other.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    moved(network, optimizer, 2)
    moved(other, restored, 2)
    assert all(torch.equal(*both) for both in zip(network.parameters(), other.parameters(), strict=True))


def filters() -> tuple[nn.Conv2d, SGD]:
    module = nn.Conv2d(4, 4, 3, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module, SGD(module.parameters(), lr=1.0, momentum=0.9, nesterov=True, fused=True)


def test_sgd_leaves_what_has_no_gradient() -> None:
    module, optimizer = filters()
    before = module.weight.detach().clone()
    optimizer.step()
    assert torch.equal(module.weight, before)


def test_sgd_takes_a_gradient_and_a_momentum_of_another_layout() -> None:
    module, optimizer = filters()
    before = module.weight.detach().clone()
    gradient = torch.arange(144.0).reshape(4, 4, 3, 3)  # as torch lays tensors out by itself
    module.weight.grad = gradient
    optimizer.state[module.weight]["momentum_buffer"] = gradient.clone()
    optimizer.step()
    torch.testing.assert_close(module.weight, before - (1 + 0.9 * 1.9) * gradient)


def test_sgd_gives_what_its_closure_gives() -> None:
    module, optimizer = filters()
    before = module.weight.detach().clone()

    def closure() -> float:
        module.weight.sum().backward()
        return 7.0

    assert optimizer.step(closure) == 7.0
    torch.testing.assert_close(module.weight, before - 1.9)
