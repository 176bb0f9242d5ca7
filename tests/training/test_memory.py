"""What a training step takes: against a hand count and a real peak; and the parts that fit into less memory."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from torch import nn

import resnets
from resnets.base import machine
from resnets.base.errors import UsageError
from resnets.training.config import TrainConfig
from resnets.training.memory import SHARE, Fit, Need, fit, free_bytes, spare_memory, step_need
from resnets.training.plan import Plan, make_plan
from resnets.training.start import planned_network


def planned(size: int = 32, **options: Any) -> Plan:
    pixels = np.zeros((200, size, size, 3), dtype=np.uint8)
    data = resnets.open_data((pixels, np.arange(200) % 2))
    config = TrainConfig(**{"model": "resnet20", "batch": 64, "precision": "fp32", "device": "cpu", **options})
    return make_plan(config, data, measure=lambda _: ((0.5,) * 3, (0.5,) * 3))


def known(plan: Plan) -> Need:
    need = step_need(plan, planned_network(plan))
    assert need is not None
    return need


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 2)
    )


def test_the_need_of_a_small_network_is_what_a_hand_count_gives() -> None:
    plan = planned(8, optimizer="adam", ema=0.9)
    picture, map_ = 3 * 8 * 8 * 4, 8 * 8 * 8 * 4  # bytes of the convolution's input, and of its output
    norms = 2 * 8 * 4  # mean and deviation of the batch
    weights = (8 * 27 + 8 + 8 + 512 * 2 + 2) * 4
    buffers = 8 * 4 * 2 + 8
    # saved are a picture, what the norm sees, and what the classifier sees; then the largest comes and goes
    saved = 2 * (picture + map_ + map_) + norms
    assert step_need(plan, small_network()) == Need(
        fixed=2 * (weights + buffers) + 3 * weights, each=(saved + 2 * 2 * map_) // 2 + 4 * picture
    )


def test_bf16_halves_what_is_kept_for_a_picture_and_adds_copies_of_the_weights() -> None:
    whole, half = known(planned()), known(planned(precision="bf16"))
    pictures = 4 * 3 * 32 * 32 * 4
    assert half.each - pictures == pytest.approx((whole.each - pictures) / 2, rel=0.01)
    numbers = sum(one.numel() for one in planned_network(planned()).parameters())
    assert half.fixed - whole.fixed == 2 * numbers


def test_a_frozen_body_keeps_little_for_a_backward_pass() -> None:
    plan = planned(weights="trained.safetensors", freeze="body")
    assert known(plan).each < 0.3 * known(planned()).each


PEAK = """
import json, pathlib, re, sys
import numpy as np, torch
import resnets
from resnets.training.config import TrainConfig
from resnets.training.gallery import Gallery
from resnets.training.memory import step_need
from resnets.training.plan import make_plan
from resnets.training.start import planned_network
from resnets.training.trial import trial

model, size, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
data = resnets.open_data((np.zeros((2 * batch, size, size, 3), dtype=np.uint8), np.arange(2 * batch) % 2))
config = TrainConfig(model=model, batch=batch, precision="fp32", device="cpu", threads=1, ema=0.0, stem="own")
plan = make_plan(config, data, measure=lambda _: ((0.5,) * 3, (0.5,) * 3))
network = planned_network(plan)
pictures = Gallery(data, threads=1, progress=lambda *_: None).training(plan.preprocess, plan.augment)
need = step_need(plan, network)
status = lambda: pathlib.Path("/proc/self/status").read_text()
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status())[1])  # not ru_maxrss, which a child inherits
before = peak()
for _ in trial(plan, network, pictures, [0.1] * 2):
    pass
print(json.dumps({"need": need.of(batch), "peak": peak() - before}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in other units elsewhere")
@pytest.mark.parametrize(("model", "size", "batch"), [("resnet20", 32, 256), ("resnet18", 128, 32)])
def test_the_peak_of_a_real_step_fits_where_the_need_is_within_the_share(
    model: str, size: int, batch: int
) -> None:
    told = subprocess.run(
        [sys.executable, "-c", PEAK, model, str(size), str(batch)], capture_output=True, text=True, check=True
    )
    found = json.loads(told.stdout)
    assert SHARE < found["need"] / found["peak"] < 1.25, found


def test_the_smallest_number_of_parts_that_fits_is_chosen_and_said() -> None:
    plan = planned()
    need = known(plan)
    chosen = fit(plan, planned_network(plan), free=int(need.of(16) / SHARE) + 1)
    assert chosen.parts == 4  # three would have 22 pictures
    assert chosen.said is not None
    assert chosen.said.startswith("micro-batches of 16: 64 pictures at 32 pixels would take about 0.")
    assert chosen.said.endswith("; batch norm sees 16")
    cut = chosen.of(plan)
    assert (cut.config.accumulate, cut.config.batch) == (4, 64)
    assert cut.reasons == (chosen.said, *plan.reasons)
    assert fit(plan, planned_network(plan), free=int(need.of(22) / SHARE) + 1).parts == 3


def test_a_batch_that_fits_changes_nothing() -> None:
    plan = planned()
    chosen = fit(plan, planned_network(plan), free=int(known(plan).of(64) / SHARE) + 1)
    assert chosen == Fit()
    assert chosen.of(plan).reasons == plan.reasons
    assert chosen.of(plan).config.accumulate == 1


def test_parts_that_were_asked_for_are_left_alone() -> None:
    plan = planned(accumulate=2)
    assert fit(plan, planned_network(plan), free=1).of(plan) == plan


def test_two_pictures_are_tried_where_they_may_fit_and_refused_in_one_line_where_not() -> None:
    plan = planned()
    network, need = planned_network(plan), known(planned())
    assert fit(plan, network, free=need.of(2)).parts == 32
    with pytest.raises(
        UsageError, match=r"^resnet20 with 2 pictures at 32 pixels would take about .* give a sm"
    ) as no:
        fit(plan, network, free=need.of(2) - 1)
    assert "--accumulate 32" in str(no.value)
    assert "\n" not in str(no.value)


def test_a_network_that_cannot_run_without_numbers_is_left_alone() -> None:
    class Choosy(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x.flatten(1)) * (2 if x.mean().item() > 0 else 1)

    plan = planned(8)
    assert step_need(plan, Choosy(192, 2)) is None
    assert fit(plan, Choosy(192, 2), free=1) == Fit()


def test_there_is_some_free_memory_here() -> None:
    assert free_bytes("cpu") > 0


KEEPING = """
import os, pathlib, re, sys
import numpy as np
from resnets.base.machine import Allocator, give_back_freed_memory, keep_freed_memory

held = lambda: 1024 * int(re.search(r"VmRSS:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
keep_freed_memory()
for give_back in (False, True):
    if give_back:
        give_back_freed_memory()
    before = held()
    block = np.ones(50_000_000)
    del block
    print(held() - before > 300_000_000, Allocator.keeps_freed_memory)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_program_keeps_what_it_frees_until_it_is_told_to_give_it_back() -> None:
    told = subprocess.run([sys.executable, "-c", KEEPING], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["True True", "False False"]  # of a block of 400 MB


def test_freed_memory_is_given_back_where_a_step_takes_more_than_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = planned(accumulate=2)
    network, need = planned_network(plan), known(plan)
    monkeypatch.setattr(machine.Allocator, "keeps_freed_memory", False)
    assert spare_memory(plan, network, free=1) is None  # nothing is kept in a library call
    monkeypatch.setattr(machine.Allocator, "keeps_freed_memory", True)
    monkeypatch.setattr(machine, "_set_allocator", lambda options: True)
    assert spare_memory(plan, network, free=2 * need.of(32)) is None
    assert machine.Allocator.keeps_freed_memory
    said = spare_memory(plan, network, free=2 * need.of(32) - 2)
    assert said is not None
    assert said.startswith("freed memory is given back to the system, which costs some time: a step takes about")
    assert not machine.Allocator.keeps_freed_memory
