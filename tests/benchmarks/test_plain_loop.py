"""The plain loop that others are compared with: stopped and started again, it is the same training."""

import json
from pathlib import Path

import pytest
import torch

import plain_loop


def test_a_plain_training_that_was_stopped_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plain_loop.run("digits", epochs=2, seed=0, out=tmp_path / "whole")

    train_epoch = plain_loop.train_epoch

    def stopped(*given: object, epoch: int, epochs: int) -> float:
        if epoch == 1:
            raise KeyboardInterrupt
        return train_epoch(*given, epoch=epoch, epochs=epochs)

    monkeypatch.setattr(plain_loop, "train_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        plain_loop.run("digits", epochs=2, seed=0, out=tmp_path / "twice")
    monkeypatch.undo()
    again = plain_loop.run("digits", epochs=2, seed=0, out=tmp_path / "twice")

    states = [torch.load(tmp_path / name / "state.pt")["network"] for name in ("whole", "twice")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert again["top1"] == whole["top1"]
    lines = (tmp_path / "twice" / "epochs.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
