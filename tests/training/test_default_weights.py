"""`--weights auto`, the default: what a few photographs start from, and that nothing is downloaded for it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import resnets
from resnets.base.errors import UsageError
from resnets.data.dataset import Data, open_data
from resnets.training.config import TrainConfig
from resnets.training.default_weights import with_default_weights
from resnets.weights.catalogue import catalogue, fetch
from tests.local_server import LocalServer
from tests.weights.test_catalogue import NAME, offered

SMALL_NETWORK = TrainConfig(model="resnet10t", threads=1)


def pictures(count: int = 16, side: int = 80, channels: int = 3) -> tuple[Any, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return pixels, np.arange(count) % 2


def photographs(**changed: Any) -> Data:
    return open_data(pictures(**changed))


def decided(config: TrainConfig, data: Data) -> tuple[str | None, str | None]:
    chosen, line = with_default_weights(config, data, lambda label, done, total: None)
    return chosen.weights, line


@pytest.fixture
def offer(server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """Weights that a server has and the cache has not."""
    torch.manual_seed(0)
    monkeypatch.setenv("RESNETS_CATALOGUE", str(offered(server, resnets.build("resnet10t").eval(), tmp_path)))
    return server


@pytest.mark.parametrize("asked", [None, "auto"])
def test_without_cached_weights_nothing_is_downloaded_and_a_line_names_them_and_their_size(
    offer: LocalServer, asked: str | None
) -> None:
    weights, line = decided(dataclasses.replace(SMALL_NETWORK, weights=asked), photographs())
    assert weights == "none"
    assert line is not None
    # timm's resnet10t has 5,439,872 parameters of 4 bytes, and some 5,000 statistics of its batch norms
    assert line.startswith(
        "starts from scratch: --weights resnet10t.c3_in1k (about 22 MB, apache-2.0) is not in the"
    )
    assert offer.requests == []


def test_cached_weights_are_what_photographs_start_from_by_default(offer: LocalServer, tmp_path: Path) -> None:
    fetch(catalogue()[NAME])
    asked = len(offer.requests)
    config = dataclasses.replace(SMALL_NETWORK, epochs=1, size="72", runs=str(tmp_path / "runs"))
    events: list[dict[str, Any]] = []
    run = resnets.train(pictures(), config=config, on_event=events.append)
    assert len(offer.requests) == asked
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert any(note.startswith(f"starts from {NAME} (apache-2.0), which the cache has") for note in notes)
    assert run.load().origin["receipt"]["licence"] == "apache-2.0"
    plan = next(event for event in events if event["event"] == "plan")
    assert plan["plan"]["config"]["weights"] == NAME


def test_weights_that_were_damaged_in_the_cache_are_not_taken(offer: LocalServer) -> None:
    path = fetch(catalogue()[NAME])
    path.write_bytes(path.read_bytes()[:-1])
    asked = len(offer.requests)
    assert decided(SMALL_NETWORK, photographs())[0] == "none"
    assert len(offer.requests) == asked


@pytest.mark.parametrize(
    ("data", "config"),
    [
        ({"side": 40}, {}),
        ({"channels": 1}, {}),
        ({}, {"size": "64"}),
        ({}, {"resize": "ink"}),
        ({}, {"stem": "small"}),
        ({}, {"model": "resnet20"}),
        ({}, {"model": "resnet10t:width=32"}),
        ({}, {"weights": "none"}),
    ],
    ids=str,
)
def test_other_pictures_and_networks_start_from_scratch_without_a_word(
    offer: LocalServer, data: dict[str, Any], config: dict[str, Any]
) -> None:
    fetch(catalogue()[NAME])
    assert decided(dataclasses.replace(SMALL_NETWORK, **config), photographs(**data)) == ("none", None)


def test_the_weights_taken_for_resnet50_allow_any_use(offer: LocalServer) -> None:
    _, line = decided(TrainConfig(model="resnet50"), photographs())
    assert line is not None
    assert "--weights resnet50.a1_in1k (about 102 MB, apache-2.0)" in line


def test_parts_can_only_be_frozen_where_weights_were_found(offer: LocalServer) -> None:
    with pytest.raises(UsageError, match=r"there are none; give --weights NAME or FILE"):
        decided(dataclasses.replace(SMALL_NETWORK, weights="auto", freeze="body"), photographs())
