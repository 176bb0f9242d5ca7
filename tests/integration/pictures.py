"""Small pictures for tests: noise around a brightness, so that classes can be told apart and no two are equal."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

BRIGHTNESS = (10, 110, 190)


def noise(brightness: int, seed: int, size: tuple[int, int] = (12, 12)) -> Image.Image:
    """An RGB picture of (height, width) pixels."""
    pixels = np.random.default_rng(seed).integers(brightness, brightness + 60, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def class_folders(root: Path, counts: Mapping[str, int], *, seed: int = 0) -> Path:
    """`root/CLASS/N.png` for each class and its count, a brightness a class."""
    for place, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture = noise(BRIGHTNESS[place % 3], seed + 1000 * place + number)
            picture.save(root / name / f"{number}.png")
    return root
