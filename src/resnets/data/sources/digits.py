"""`digits`: the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries; no network is needed.

They are the test part of the UCI "Optical Recognition of Handwritten Digits" data (Alpaydin and Kaynak 1998).
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from resnets.data.source import Listing, Picture, Traits
from resnets.labels import LABEL, Head
from resnets.preprocess import Pixels

VALUES = 16  # pixels are counts of ink from 0 to 16


@cache
def _load() -> tuple[Pixels, npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * 255 / VALUES).astype(np.uint8)  # (1797, 8, 8)
    return pixels, digits.target.astype(np.int64)


class DigitsSource:
    """Values from 0 to 16 become round(value * 255 / 16), so that ink uses the full range of 8 bits."""

    name = "digits"
    origin = "digits (scikit-learn's copy of the UCI handwritten digits)"
    traits = Traits(mirror=False, drawings=True, three_way=True)

    def listing(self) -> Listing:
        labels = _load()[1]
        return Listing(
            paths=[f"{row:04d}" for row in range(len(labels))],
            heads={LABEL: Head(ids=tuple(str(digit) for digit in range(10)))},
            labels={LABEL: labels},
        )

    def read(self, row: int) -> Picture:
        picture: Pixels = _load()[0][row]
        return picture

    def address(self) -> dict[str, object]:
        return {"kind": "digits"}
