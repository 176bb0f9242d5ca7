import logging
from pathlib import Path

import pytest
import torch

from resnets.base.errors import RunError
from resnets.training.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


def save_at(run: Path, step: int, best: Path | None = None) -> Path:
    tensors = {"network": {"weight": torch.full((2, 2), float(step))}}
    return save_checkpoint(run, step=step, tensors=tensors, state={"position": {"epoch": step}}, best=best)


def test_a_checkpoint_comes_back_with_its_tensors_and_counters(tmp_path: Path) -> None:
    save_at(tmp_path, 7)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.state) == (7, {"position": {"epoch": 7}})
    assert torch.equal(checkpoint.tensors["network"]["weight"], torch.full((2, 2), 7.0))


def test_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_at(tmp_path, step)
    assert sorted(folder.name for folder in (tmp_path / "checkpoint").glob("step-*")) == ["step-2", "step-3"]
    assert (tmp_path / "checkpoint" / "latest").read_text() == "step-3\n"


def test_checkpoints_of_a_superseded_future_are_removed(tmp_path: Path) -> None:
    for step in (10, 20):
        save_at(tmp_path, step)
    save_at(tmp_path, 15)
    assert sorted(folder.name for folder in (tmp_path / "checkpoint").glob("step-*")) == ["step-10", "step-15"]


def test_a_damaged_latest_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_at(tmp_path, 1)
    newest = save_at(tmp_path, 2) / "network.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="resnets"):
        checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert "step-2 is damaged (network.safetensors has other bytes" in caplog.text


def test_a_missing_file_counts_as_damage_and_nothing_left_is_an_error(tmp_path: Path) -> None:
    (save_at(tmp_path, 1) / "network.safetensors").unlink()
    with pytest.raises(RunError, match=r"network.safetensors is missing.*start a new run"):
        load_checkpoint(tmp_path)


def test_the_best_model_of_the_checkpoint_keeps_its_bytes_when_the_file_is_replaced(tmp_path: Path) -> None:
    best = tmp_path / "model.safetensors"
    best.write_bytes(b"first")
    save_at(tmp_path, 1, best)
    other = tmp_path / "other"
    other.write_bytes(b"second")
    other.replace(best)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.best is not None
    assert checkpoint.best.read_bytes() == b"first"


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimiser_goes_on_from_its_saved_tensors_bit_for_bit_in_any_memory_layout(kind: type) -> None:
    def trained(resume_after: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
        options = {"lr": 0.1, "fused": True} | ({"momentum": 0.9} if kind is torch.optim.SGD else {})
        optimizer = kind([weight], **options)
        for step in range(6):
            if step == resume_after:
                saved = {
                    name: value.clone(memory_format=torch.contiguous_format)
                    for name, value in optimizer_tensors(optimizer).items()
                }
                optimizer = kind([weight], **options)
                restore_optimizer(optimizer, saved)
            weight.grad = weight.detach() * 2 + torch.arange(48.0).view(4, 3, 2, 2) * step
            optimizer.step()
        return weight.detach()

    assert torch.equal(trained(None), trained(3))
