import numpy as np
import pytest

from resnets.evaluation.statistics import bootstrap, mcnemar, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, score method
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_newcombes_intervals(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_all_right_ends_at_one_and_of_nothing_is_none() -> None:
    interval = wilson(20, 20)
    assert interval is not None
    assert interval[1] == 1.0
    assert wilson(0, 0) is None


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (1, 9, 2 * (1 + 10) / 2**10),
        (0, 6, 2 / 2**6),
        (2000, 2000, 1.0),
        (150, 86, 3.716e-5),  # as scipy.stats.binomtest(86, 236) has it
    ],
)
def test_mcnemar_counts_the_coins_that_fall_so_unevenly(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p, rel=1e-3)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_the_bootstrap_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(1).normal(size=2000)
    (interval,) = bootstrap(np.zeros(2000, dtype=np.int64), lambda rows: np.array([values[rows].mean()]))
    assert interval[1] - interval[0] == pytest.approx(2 * 1.96 * values.std() / 2000**0.5, rel=0.08)
    assert interval[0] < values.mean() < interval[1]


def test_the_bootstrap_keeps_each_class_at_its_size() -> None:
    strata = np.array([0] * 5 + [1] * 45)[np.random.default_rng(0).permutation(50)]
    (interval,) = bootstrap(strata, lambda rows: np.array([float((strata[rows] == 0).sum())]), resamples=50)
    assert interval == (5.0, 5.0)


def test_the_bootstrap_gives_the_same_interval_again() -> None:
    values = np.arange(30.0)
    strata = np.repeat(np.arange(3), 10)
    first, second = (bootstrap(strata, lambda rows: np.array([values[rows].mean()])) for _ in range(2))
    assert first == second
