import pytest

from resnets.training.schedule import rate, size_at


def rates(schedule: str, steps: int = 100, warmup: int = 10) -> list[float]:
    return [rate(s, schedule=schedule, peak=1.0, steps=steps, warmup_steps=warmup) for s in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "constant"])
def test_warm_up_rises_linearly_and_reaches_the_peak_at_its_end(schedule: str) -> None:
    assert rates(schedule)[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates(schedule)[10] == pytest.approx(1.0)


def test_cosine_is_half_the_peak_in_the_middle_and_nearly_zero_at_the_end() -> None:
    assert rates("cosine")[55] == pytest.approx(0.5)
    assert rates("cosine")[99] == pytest.approx(0.0, abs=4e-4)


def test_linear_falls_in_a_straight_line() -> None:
    assert rates("linear")[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 100)])


def test_step_decay_follows_the_papers_cifar_schedule() -> None:
    # He et al. 2015, section 4.2: divided by 10 at 32,000 and 48,000 of 64,000 steps
    at = [
        rate(s, schedule="step", peak=0.1, steps=64_000, warmup_steps=0) for s in (31_999, 32_000, 47_999, 48_000)
    ]
    assert at == pytest.approx([0.1, 0.01, 0.01, 0.001])


def test_one_cycle_rises_for_at_least_three_tenths_and_falls_to_zero() -> None:
    values = rates("one-cycle", warmup=0)
    assert values[29] == pytest.approx(1.0)
    assert values[:30] == sorted(values[:30])
    assert values[30:] == sorted(values[30:], reverse=True)
    assert values[99] == pytest.approx(1 / 70)


def test_growing_pictures_begin_at_their_share_and_are_whole_for_the_last_three_tenths() -> None:
    sizes = [size_at(step, size=(32, 32), grow=0.5, steps=1000) for step in range(1000)]
    assert sizes[0] == (16, 16)
    assert sorted(set(sizes)) == [(16, 16), (24, 24), (32, 32)]
    assert sizes == sorted(sizes)
    assert set(sizes[700:]) == {(32, 32)}


def test_large_pictures_grow_by_multiples_of_32_and_odd_ones_end_at_their_own_size() -> None:
    sizes = {size_at(step, size=(224, 224), grow=0.57, steps=100) for step in range(100)}
    assert sorted(sizes) == [(128, 128), (160, 160), (192, 192), (224, 224)]
    assert size_at(99, size=(137, 236), grow=0.5, steps=100) == (137, 236)
    assert size_at(0, size=(16, 16), grow=0.5, steps=100) == (8, 8)
