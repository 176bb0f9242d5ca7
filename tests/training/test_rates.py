"""How measurements are taken and put in figures: by arithmetic, with a clock of our own."""

import io
from itertools import count

import pytest
import torch
from PIL import Image

from resnets.training import rates
from resnets.training.rates import MOST, WARM, Stopwatch, jpeg_pictures, matrix_product, measured

CPU = torch.device("cpu")


def test_a_spread_has_the_median_and_the_quartiles_of_its_values() -> None:
    spread = measured([5.0, 1.0, 2.0, 4.0, 3.0], "ms")
    assert (spread.n, spread.median, spread.quartiles, spread.unit) == (5, 3.0, (2.0, 4.0), "ms")


@pytest.mark.parametrize(("seconds", "least", "runs"), [(0.001, 3, 3), (10.5, 3, 11), (1e9, 3, MOST)])
def test_a_measurement_lasts_as_long_as_asked_for_and_has_its_least_number_of_runs(
    seconds: float, least: int, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("resnets.training.rates.time.perf_counter", lambda: float(len(calls)))  # a second a run
    rounds = Stopwatch(device=CPU, seconds=seconds, least=least).rounds(lambda: calls.append(1))
    assert rounds == [(1.0,)] * runs
    assert len(calls) == WARM + runs


def test_several_works_take_turns() -> None:
    turns: list[str] = []
    watch = Stopwatch(device=CPU, seconds=1e-9, least=3)
    rounds = watch.rounds(lambda: turns.append("ours"), lambda: turns.append("plain"))
    assert turns == ["ours", "plain"] * (WARM + 3)
    assert [len(times) for times in rounds] == [2, 2, 2]


def test_a_rate_is_the_amount_over_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(
        "resnets.training.rates.time.perf_counter", lambda: 0.5 * next(ticks)
    )  # half a second a run
    rate = Stopwatch(device=CPU, seconds=1e-9, least=3).rate(lambda: None, 10, "images/s")
    assert (rate.median, rate.quartiles) == (20.0, (20.0, 20.0))


def test_a_product_counts_a_multiplication_and_an_addition_for_each_of_n_cubed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(rates.MATRIX_SIDE, "cpu", 100)
    ticks = count()
    monkeypatch.setattr("resnets.training.rates.time.perf_counter", lambda: 1e-3 * next(ticks))
    rate = matrix_product(Stopwatch(device=CPU, seconds=1e-9, least=3), torch.float32)
    assert rate.unit == "TFLOP/s"
    assert rate.median == pytest.approx(2e6 / 1e-3 / 1e12)


def test_the_pictures_to_decode_are_jpegs_of_a_photograph_s_weight() -> None:
    jpegs = jpeg_pictures(3)
    assert len(set(jpegs)) == 3
    assert {Image.open(io.BytesIO(jpeg)).size for jpeg in jpegs} == {(400, 400)}
    assert 30_000 < sum(map(len, jpegs)) / 3 < 50_000
