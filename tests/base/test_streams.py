"""Chance that can be replayed: known values, uniformity, independence of neighbours."""

import hashlib

import numpy as np

from resnets.base.streams import order, picture_uniform, step_seed, step_uniform


def test_draws_are_pinned_so_that_an_old_run_replays() -> None:
    draws = picture_uniform(np.array([0, 1, 1_000_000]), seed=0, epoch=3, purpose="crop", draws=2)
    assert draws.tolist() == [
        [0.08740116121009944, 0.92256233343892],
        [0.9979295617403477, 0.13259325294375335],
        [0.962319378205361, 0.07761777219313348],
    ]
    assert order(np.arange(8), seed=1, epoch=0).tolist() == [1, 7, 0, 2, 3, 5, 4, 6]
    step = step_uniform(seed=5, step=7, purpose="mix", draws=2)
    assert step.tolist() == [0.7068368680282548, 0.984573068310052]
    assert step_seed(seed=5, step=7, purpose="mix") == 6519419403189815645


def test_draws_are_splitmix64_of_row_and_key() -> None:
    word, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def finalise(state: int) -> int:  # Steele et al. 2014, in Python's whole numbers
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & word
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & word
        return state ^ (state >> 31)

    text = b"picture\x1f9\x1f2\x1fflip"
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    start = finalise((1235 * golden & word) ^ key)
    expected = [(finalise(start + number * golden & word) >> 11) / 2**53 for number in (1, 2, 3)]
    draws = picture_uniform(np.array([1234]), seed=9, epoch=2, purpose="flip", draws=3)
    assert draws[0].tolist() == expected


def test_order_is_a_permutation_that_changes_with_seed_and_epoch() -> None:
    rows = np.arange(10, 1010)
    first = order(rows, seed=0, epoch=0)
    assert not np.array_equal(first, rows)
    np.testing.assert_array_equal(np.sort(first), rows)
    for seed, epoch in ((0, 1), (1, 0)):
        other = order(rows, seed=seed, epoch=epoch)
        assert (first == other).mean() < 0.02  # one place in a thousand agrees by chance


def test_order_of_the_rows_that_stay_does_not_depend_on_those_that_leave() -> None:
    rows = np.arange(100)
    whole = order(rows, seed=4, epoch=2)
    np.testing.assert_array_equal(order(rows[::3], seed=4, epoch=2), whole[whole % 3 == 0])


def test_a_picture_draws_the_same_alone_and_among_others() -> None:
    rows = np.array([5, 900, 17, 4])
    together = picture_uniform(rows, seed=2, epoch=1, purpose="flip", draws=3)
    for row, draws in zip(rows, together, strict=True):
        np.testing.assert_array_equal(
            picture_uniform(np.array([row]), seed=2, epoch=1, purpose="flip", draws=3)[0], draws
        )


def test_draws_are_uniform_and_independent_between_rows_epochs_and_purposes() -> None:
    rows = np.arange(20_000)
    crop = picture_uniform(rows, seed=0, epoch=0, purpose="crop", draws=2)
    flip = picture_uniform(rows, seed=0, epoch=0, purpose="flip")[:, 0]
    later = picture_uniform(rows, seed=0, epoch=1, purpose="crop")[:, 0]
    for values in (crop[:, 0], crop[:, 1], flip, later):
        assert values.min() >= 0
        assert values.max() < 1
        counts = np.histogram(values, bins=20, range=(0, 1))[0]
        chi_square = (
            (counts - 1000) ** 2 / 1000
        ).sum()  # 19 degrees of freedom: above 43.8 one time in a thousand
        assert chi_square < 43.8
    for one, other in ((crop[:, 0], crop[:, 1]), (crop[:, 0], flip), (crop[:, 0], later), (flip[1:], flip[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03  # 4 standard errors


def test_steps_and_purposes_have_draws_of_their_own() -> None:
    draws = {
        (step, purpose): tuple(step_uniform(seed=0, step=step, purpose=purpose, draws=4))
        for step in range(50)
        for purpose in ("mix/0", "mix/1")
    }
    assert len(set(draws.values())) == 100
    assert all(0 <= step_seed(seed=0, step=step, purpose="dropout") < 2**63 for step in range(100))
