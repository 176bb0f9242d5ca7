"""The share of the matrix rate: counted by hand, measured once, told with each epoch."""

import pytest
import torch

import resnets
from resnets.networks.variants import variant
from resnets.training import efficiency, progress
from resnets.training.efficiency import Efficiency, step_operations

CPU = torch.device("cpu")


def test_a_step_has_six_operations_for_each_multiply_add_of_a_picture() -> None:
    assert step_operations(variant("resnet18"), (224, 224)) == 6 * 1_814_073_344


def test_the_share_is_of_what_was_counted_since_the_epoch_began() -> None:
    spec = variant("resnet20")
    counter = Efficiency(spec, device=CPU, dtype=torch.float32)
    counter.matrix_rate = 1e12
    counter.add(1000, (32, 32))
    counter.begin()
    counter.add(100, (32, 32))
    counter.add(100, (16, 16))
    operations = 100 * step_operations(spec, (32, 32)) + 100 * step_operations(spec, (16, 16))
    assert counter.share(2.0) == pytest.approx(operations / 2e12)


def test_a_young_run_is_not_held_up_and_an_older_one_measures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Efficiency(variant("resnet20"), device=CPU, dtype=torch.float32)
    counter.measure()
    assert counter.matrix_rate is counter.share(1.0) is None
    monkeypatch.setattr(efficiency, "SETTLED_SECONDS", 0.0)
    counter.measure()
    first = counter.matrix_rate
    assert first is not None
    assert first > 1e9
    counter.measure()
    assert counter.matrix_rate == first


def test_a_run_goes_on_where_there_is_no_memory_to_measure_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(efficiency, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(efficiency, "product", full)
    counter = Efficiency(variant("resnet20"), device=CPU, dtype=torch.float32)
    counter.add(8, (32, 32))
    counter.measure()
    assert counter.share(1.0) is None


def test_nothing_is_told_of_a_network_whose_operations_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "SETTLED_SECONDS", 0.0)
    counter = Efficiency(None, device=CPU, dtype=torch.float32)
    counter.add(100, (32, 32))
    counter.measure()
    assert counter.matrix_rate is counter.share(1.0) is None


def test_epochs_tell_the_share_and_the_weights_are_those_of_a_run_that_measured_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = resnets.TrainConfig(epochs=1, precision="fp32", threads=1)
    before = resnets.train("digits", config=config).load().network.state_dict()
    monkeypatch.setattr(efficiency, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(progress, "SHOWN_SECONDS", 0.0)
    events: list[dict[str, object]] = []
    after = resnets.train("digits", config=config, on_event=events.append).load().network.state_dict()
    shares = [event["matrix_share"] for event in events if event["event"] == "epoch"]
    assert 0 < shares[0] < 2
    assert all(torch.equal(before[name], after[name]) for name in before)
