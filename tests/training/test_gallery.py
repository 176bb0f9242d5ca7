"""What a run measures of its pictures before it begins."""

import tracemalloc

import numpy as np
import pytest

from resnets.data.dataset import Data, open_data
from resnets.preprocess import Preprocess
from resnets.training.gallery import Gallery

PREPROCESS = Preprocess(size=(32, 32), crop=1.0)


def data_of(pixels: np.ndarray) -> Data:
    return open_data((pixels, [number % 2 for number in range(len(pixels))]))


def mean_std(data: Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return Gallery(data, threads=1, progress=lambda *_: None).mean_std(PREPROCESS)


def test_mean_and_deviation_are_those_of_the_training_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 32, 32, 3), dtype=np.uint8)
    data = data_of(pixels)
    values = pixels[data.rows("train")].reshape(-1, 3) / 255
    mean, std = mean_std(data)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, values.std(0), rtol=1e-9)


def test_half_black_and_half_white_has_a_mean_and_a_deviation_of_a_half() -> None:
    pixels = np.zeros((20, 32, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255
    assert mean_std(data_of(pixels)) == ((0.5,) * 3, (0.5,) * 3)


def test_a_channel_of_one_value_is_not_divided_by_zero() -> None:
    assert mean_std(data_of(np.full((20, 32, 32, 3), 255, dtype=np.uint8))) == ((1.0,) * 3, (0.01,) * 3)


@pytest.mark.parametrize("count", [1_000, 4_000])
def test_measuring_takes_no_more_memory_for_more_pictures(count: int) -> None:
    data = data_of(np.zeros((count, 32, 32, 3), dtype=np.uint8))
    gallery = Gallery(data, threads=1, progress=lambda *_: None)
    gallery.evaluation("train", PREPROCESS)  # the pack itself, which is in memory here
    tracemalloc.start()
    try:
        gallery.mean_std(PREPROCESS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20
