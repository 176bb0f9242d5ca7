"""What is trained, from when on and how fast, where a run starts from weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

import resnets
from resnets.base.errors import UsageError
from resnets.training.config import TrainConfig
from resnets.training.optimizers import make_optimizer
from resnets.training.thaw import Thaw, hold, parts_of, rate_shares
from resnets.weights.modelfile import load


@pytest.fixture
def network() -> resnets.ResNet:
    return resnets.build("resnet20", num_classes=4)


def trained(network: nn.Module) -> set[str]:
    """The parts (their names' first word) with parameters that take a gradient."""
    return {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    "name", ["resnet20", "resnet18", "resnet50d", "resnetv2_18", "resnet9", "resnet9_whitened", "vanresnet"]
)
def test_every_parameter_is_in_exactly_one_part(name: str) -> None:
    network = resnets.build(name, num_classes=4)
    found = [id(one) for part in parts_of(network) for module in part for one in module.parameters()]
    assert sorted(found) == sorted(id(one) for one in network.parameters())


def test_freezing_the_body_leaves_the_head_alone_in_training(network: resnets.ResNet) -> None:
    for step in (0, 50, 99):
        hold(network.train(), Thaw(freeze="body", steps=100), step=step)
        assert trained(network) == {"fc"}
    assert not network.layer1.training
    assert network.fc is not None
    assert network.fc.training


def test_a_gradual_run_trains_a_part_more_every_tenth_and_all_from_half_way_on(network: resnets.ResNet) -> None:
    thaw = Thaw(freeze="gradual", steps=800)  # five parts, four of them frozen at first: one more every 100 steps
    after = {}
    for step in (0, 99, 100, 200, 300, 399, 400, 799):
        hold(network.train(), thaw, step=step)
        after[step] = trained(network)
    assert after[0] == after[99] == {"fc"}
    assert after[100] == {"fc", "layer3"}
    assert after[200] == {"fc", "layer3", "layer2"}
    assert after[300] == after[399] == {"fc", "layer3", "layer2", "layer1"}
    assert after[400] == after[799] == {"fc", "layer3", "layer2", "layer1", "conv1", "bn1"}


def test_what_a_part_is_trained_at_is_said_with_the_step_it_begins_at() -> None:
    thaw = Thaw(freeze="gradual", layer_decay=0.5, steps=800)
    assert thaw.said(0.01, 3) == (
        "trained at: head 0.01, stage3 0.005 from step 100, stage2 0.0025 from step 200, "
        "stage1 0.00125 from step 300, stem 0.000625 from step 400"
    )
    assert Thaw(steps=800).said(0.01, 3) == "all of the network is trained, at 0.01"
    assert Thaw(freeze="body", frozen_norms=True, steps=9).said(0.1, 3) == (
        "trained at: head 0.1; batch norms stay as loaded"
    )


def test_frozen_norms_keep_their_statistics_and_scales(network: resnets.ResNet) -> None:
    hold(network.train(), Thaw(frozen_norms=True), step=0)
    before = {name: value.clone() for name, value in network.state_dict().items() if ".bn" in name}
    network(torch.randn(8, 3, 32, 32)).sum().backward()
    assert network.conv1.weight.grad is not None
    assert network.layer1[0].bn1.weight.grad is None
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value), name


def test_norms_that_several_gpus_share_are_frozen_too(network: resnets.ResNet) -> None:
    shared = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network).train()
    hold(shared, Thaw(frozen_norms=True), step=0)
    norms = [module for module in shared.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_a_step_moves_each_stage_by_its_share_of_the_rate(network: resnets.ResNet) -> None:
    thaw = Thaw(layer_decay=0.5)
    optimizer = make_optimizer(network, "sgd", momentum=0.0, weight_decay=0.0, shares=rate_shares(network, thaw))
    rates = {}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[names[id(parameter)].split(".")[0]] = group["share"]
    assert rates == {"conv1": 1 / 16, "bn1": 1 / 16, "layer1": 1 / 8, "layer2": 1 / 4, "layer3": 1 / 2, "fc": 1}


def test_a_run_on_the_frozen_body_changes_the_head_and_nothing_else(tmp_path: Path) -> None:
    start = resnets.train("digits", config=TrainConfig(epochs=1, runs=str(tmp_path), threads=1))
    config = TrainConfig(
        weights=str(start.model), freeze="body", epochs=1, ema=0.0, runs=str(tmp_path), name="head", threads=1
    )
    run = resnets.train("digits", config=config)
    before, after = load(start.model).network.state_dict(), load(run.model).network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_gradual_run_that_is_stopped_and_resumed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    start = resnets.train("digits", config=TrainConfig(epochs=1, runs=str(tmp_path), threads=1))
    about = {"weights": str(start.model), "runs": str(tmp_path), "threads": 1}
    about |= {"freeze": "gradual", "layer_decay": 0.7}
    whole = resnets.train("digits", config=TrainConfig(epochs=2, name="whole", **about))  # type: ignore[arg-type]

    def stop(event: dict[str, object]) -> None:
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resnets.train("digits", config=TrainConfig(epochs=2, name="cut", **about), on_event=stop)  # type: ignore[arg-type]
    cut = resnets.train(resume=tmp_path / "cut", config=TrainConfig(exact=True))
    left, right = load(whole.model).network.state_dict(), load(cut.model).network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_freezing_without_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="--freeze body leaves loaded weights as they are, and there are none"):
        TrainConfig(freeze="body")
    with pytest.raises(UsageError, match="--layer-decay must be above 0 and at most 1, got 0"):
        TrainConfig(layer_decay=0.0)


def test_freezing_a_module_of_the_users_own_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    config = TrainConfig(layer_decay=0.5, channels="grey", runs=str(tmp_path))
    with pytest.raises(UsageError, match="the parts of yours are not known"):
        resnets.train("digits", config=config, network=own)
    assert not list(tmp_path.iterdir())
