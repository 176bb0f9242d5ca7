"""`--reproducible`: the bits of a run depend on no machine's cores, memory or kernels."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import resnets
from resnets import TrainConfig
from resnets.base.errors import RunError
from resnets.data.dataset import open_data
from resnets.training import learner
from resnets.training.memory import fit
from resnets.training.plan import Plan, make_plan
from resnets.training.reproducible import deterministic


def plan_of(config: TrainConfig) -> Plan:
    return make_plan(config, open_data("digits"), measure=lambda _: ((0.5,), (0.5,)))


def test_nothing_is_chosen_by_this_machine() -> None:
    plan = plan_of(TrainConfig(reproducible=True, device="cpu", size="32"))
    config = plan.config
    assert (config.precision, config.threads, config.accumulate) == ("fp32", 1, 1)
    assert "reproducible: fp32, torch's own kernels" in "; ".join(plan.reasons)
    network = torch.nn.Linear(1, 1)
    assert fit(plan, network, free=1).parts == 1  # whatever memory there is


def test_what_is_stated_is_taken() -> None:
    config = plan_of(TrainConfig(reproducible=True, precision="bf16", threads=2, accumulate=4)).config
    assert (config.precision, config.threads, config.accumulate) == ("bf16", 2, 4)


def test_runs_have_the_same_bits_however_many_threads_there_are(tmp_path: Path) -> None:
    tensors = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        events: list[dict[str, Any]] = []
        torch.set_num_threads(threads)
        try:
            config = TrainConfig(reproducible=True, epochs=1, runs=str(tmp_path))
            run = resnets.train("digits", config=config, on_event=events.append)
        finally:
            torch.set_num_threads(before)
        assert "norms by torch: " in next(event["text"] for event in events if event["event"] == "plan")
        tensors.append(run.load().network.state_dict())
    assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())


def test_a_resume_that_cannot_be_exact_is_refused_unasked(tmp_path: Path) -> None:
    resnets.train("digits", config=TrainConfig(reproducible=True, epochs=1, runs=str(tmp_path), name="one"))
    with pytest.raises(RunError, match="an exact resume is not possible here: threads 1 -> 2"):
        resnets.train(resume=tmp_path / "one", config=TrainConfig(epochs=2, threads=2))


def test_on_a_gpu_sums_in_no_fixed_order_are_errors_inside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_in_fp32_is_full_fp32_and_in_bf16_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[torch.device] = []

    @contextlib.contextmanager
    def noting(device: torch.device) -> Iterator[None]:
        steps.append(device)
        yield

    monkeypatch.setattr(learner, "full_fp32", noting)
    for precision, expected in (("bf16", 0), ("fp32", 9)):
        config = TrainConfig(precision=precision, epochs=1, batch=128, threads=1, device="cpu", runs=str(tmp_path))
        resnets.train("digits", config=config)
        assert len(steps) == expected
