"""Pictures cut to what is drawn on them: known answers by hand."""

import numpy as np
import pytest
from PIL import Image

from resnets.base.errors import UsageError
from resnets.preprocess import Preprocess, fit
from resnets.training.config import TrainConfig


def sheet(height: int, width: int, *, ground: int = 255, ink: int = 10) -> Image.Image:
    """A filled box of ink, 20 wide and 10 high, at (30, 5) from the left and the top."""
    pixels = np.full((height, width), ground, dtype=np.uint8)
    pixels[5:15, 30:50] = ink
    return Image.fromarray(pixels)


def ink(size: tuple[int, int], crop: float = 1.0) -> Preprocess:
    return Preprocess(size=size, resize="ink", crop=crop, channels="grey", mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize("ground", [255, 128, 0])
def test_what_is_drawn_fills_the_share_of_the_size_in_the_middle(ground: int) -> None:
    pixels = fit(sheet(60, 90, ground=ground, ink=70), ink((40, 40), crop=0.5))[:, :, 0]
    drawn = pixels == 70
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert (columns[0], columns[-1]) == (10, 29)  # 20 of 40 pixels: half of the size
    assert (rows[0], rows[-1]) == (15, 24)  # its height with the same scale
    assert (pixels[~drawn] == ground).all()


def test_where_the_ink_stands_on_the_sheet_does_not_matter() -> None:
    moved = Image.fromarray(np.roll(np.asarray(sheet(60, 90)), (30, -20), axis=(0, 1)))
    np.testing.assert_array_equal(fit(sheet(60, 90), ink((32, 48))), fit(moved, ink((32, 48))))


def test_a_blank_sheet_is_kept_whole() -> None:
    blank = Image.new("L", (90, 60), 200)
    assert (fit(blank, ink((32, 32))) == 200).all()


def test_a_colour_sheet_keeps_its_colours() -> None:
    pixels = np.full((60, 60, 3), 255, dtype=np.uint8)
    pixels[20:40, 20:40] = (200, 0, 0)
    shown = fit(Image.fromarray(pixels), Preprocess(size=(32, 32), resize="ink", crop=1.0))
    assert (shown == (200, 0, 0)).all()


def test_a_random_crop_of_ink_is_refused() -> None:
    with pytest.raises(UsageError, match="would cut it: choose pad-crop"):
        TrainConfig(resize="ink", augment="rrc")
