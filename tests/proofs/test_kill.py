"""A hundred kills, about ten minutes. Run by name: python -m pytest tests/proofs/test_kill.py -s."""

from pathlib import Path

from tests.training.killing import differing_tensors, train_killed, train_whole


def test_a_run_killed_a_hundred_times_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = train_whole(tmp_path, "digits", name="whole")
    kills: list[int] = []
    number = 0
    while len(kills) < 100:
        number += 1
        killed, steps = train_killed(tmp_path, "digits", name=f"killed-{number}", kills=10, seed=number)
        kills += steps
        assert differing_tensors(whole, killed) == []
        print(f"run {number}: killed at steps {steps}; all tensors equal", flush=True)
