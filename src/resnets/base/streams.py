"""Chance that can be replayed: every draw is a hash of what it is for, never of what was drawn before.

Three streams, as DESIGN says: *order* (seed, epoch), *picture* (seed, epoch, the picture's row in the
manifest, purpose), *step* (seed, global step, purpose). A draw is the SplitMix64 finaliser (Steele et al.
2014) over these counters, computed for a whole batch at once; nothing has to be saved for a resume, and a
picture's draws do not depend on its neighbours, its batch or its process.
"""

import hashlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
Uint64 = npt.NDArray[np.uint64]


def _mix(state: Uint64) -> Uint64:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _key(*words: int | str) -> np.uint64:
    text = "\x1f".join(map(str, words))
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _draws(key: np.uint64, counters: Uint64, draws: int) -> Uint64:
    with np.errstate(over="ignore"):
        base = _mix((counters + np.uint64(1)) * _GOLDEN ^ key)[:, None]
        steps = np.arange(1, draws + 1, dtype=np.uint64)[None, :]
        return _mix(base + steps * _GOLDEN)


def order(rows: npt.NDArray[np.int64], *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The rows of one epoch, shuffled: sorted by the hash of (seed, epoch, row)."""
    keys = _draws(_key("order", seed, epoch), rows.astype(np.uint64), 1)[:, 0]
    return rows[np.argsort(keys, kind="stable")]


def picture_uniform(
    rows: npt.NDArray[np.int64], *, seed: int, epoch: int, purpose: str, draws: int = 1
) -> npt.NDArray[np.float64]:
    """(n, draws) numbers in [0, 1), one line a picture, each picture's its own."""
    return _unit(_draws(_key("picture", seed, epoch, purpose), rows.astype(np.uint64), draws))


def step_uniform(*, seed: int, step: int, purpose: str, draws: int) -> npt.NDArray[np.float64]:
    """(draws,) numbers in [0, 1) for one global step."""
    return _unit(_draws(_key("step", seed, step, purpose), np.zeros(1, dtype=np.uint64), draws)).reshape(draws)


def step_seed(*, seed: int, step: int, purpose: str) -> int:
    """A seed below 2**63 for foreign generators (dropout, beta distributions) at one global step."""
    return int(_draws(_key("step", seed, step, purpose), np.zeros(1, dtype=np.uint64), 1)[0, 0] >> np.uint64(1))


def _unit(bits: Uint64) -> npt.NDArray[np.float64]:
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
