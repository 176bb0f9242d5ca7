"""What is chosen, and what is said of it."""

from typing import Any

import numpy as np
import pytest

import resnets
from resnets.base.errors import UsageError
from resnets.training.config import TrainConfig
from resnets.training.plan import Plan, make_plan


def plan(**options: Any) -> Plan:
    pixels = np.zeros((200, 32, 32, 3), dtype=np.uint8)
    data = resnets.open_data((pixels, np.arange(200) % 2))
    return make_plan(TrainConfig(**options), data, measure=lambda _: ((0.5,) * 3, (0.5,) * 3))


def test_a_flag_against_the_default_augmentation_is_said_beside_it() -> None:
    assert "shift by up to 4 px and flip: pictures of 32 pixels" in plan().reasons
    (said,) = [reason for reason in plan(flip=False, affine=0.2).reasons if "shift" in reason]
    assert said.endswith("; but as asked: affine 0.2, flip 0.0")


@pytest.mark.parametrize("frozen", [{"freeze": "body"}, {"norms": "frozen"}])
def test_batch_norms_that_are_frozen_are_not_measured_anew_at_the_end(frozen: dict[str, str]) -> None:
    about = {"weights": "trained.safetensors", "model": "resnet20"}
    assert plan(**about).config.recalibrate is True
    assert plan(**about, **frozen).config.recalibrate is False


def test_a_run_from_weights_says_what_is_trained_and_at_what_rate() -> None:
    said = plan(weights="trained.safetensors", model="resnet20", lr=0.01, freeze="body").reasons[-1]
    assert said == "trained at: head 0.01"
    assert plan(weights="trained.safetensors", model="resnet20", lr=0.01).reasons[-1] == (
        "all of the network is trained, at 0.01"
    )
    assert not any("trained" in reason for reason in plan().reasons)


def test_filters_keep_their_norm_only_where_a_norm_follows_each_and_muon_moves_them() -> None:
    fixed = plan(model="resnet20", fixed_norm=True).config
    assert (fixed.fixed_norm, fixed.momentum, fixed.weight_decay) == (True, 0.6, 0.0)
    free = plan(model="resnet20").config
    assert (free.fixed_norm, free.momentum, free.weight_decay) == (False, 0.9, 0.01)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"optimizer": "sgd"}, "the optimizer is sgd; add --optimizer muon"),
        ({"weight_decay": 0.01}, "have no decay"),
        ({"model": "resnetv2_50"}, "a norm behind each convolution"),
        ({"model": "seresnet18"}, "a norm behind each convolution"),
        (
            {"model": "resnet20", "weights": "trained.safetensors", "optimizer": "muon"},
            "the weights that are loaded",
        ),
    ],
)
def test_a_fixed_norm_that_would_change_answers_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        plan(fixed_norm=True, **{"model": "resnet20", **options})
