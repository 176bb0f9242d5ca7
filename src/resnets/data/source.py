"""What a source of pictures says of itself, and what the rest of the package works with.

A source is one file in `sources/`: it lists what it has (a `Listing`) and reads one picture by its row.
`open_data` turns any source into `Data`: the manifest (one row a file, kept or left out) and the heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from resnets.labels import Head

Picture = bytes | npt.NDArray[np.uint8]  # an encoded file, or pixels (H, W) or (H, W, C)
Labels = npt.NDArray[np.int64] | npt.NDArray[np.int8]  # of one head, see Listing
MISSING = -1  # a label that is not there

TRAIN, VAL, TEST = "train", "val", "test"
PARTS = (TRAIN, VAL, TEST)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is known of a source's pictures beyond their pixels; defaults are chosen by it.

    mirror: False where a mirrored picture may belong to another class (digits, letters); None: not known.
    drawings: True for digits, letters and drawings, False for photographs, None: not known.
    three_way: an undivided source is divided into train, val and test (64/16/20) instead of train and val.
    """

    mirror: bool | None = None
    drawings: bool | None = None
    three_way: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All that a source has, before any picture is opened.

    paths: one a row, relative to the source's root, unique; names that are not UTF-8 carry surrogates.
    heads: name -> Head, in order. labels: head name -> int64 (n,) class positions, MISSING where there is none; of
    a head with several classes a picture int8 (n, classes): 1 there, 0 not there, MISSING not known.
    parts: one a row, `train`, `val` or `test`; None for an undivided source.
    groups: one a row, for rows that must stay in one part; None where a row has none.
    left_out: row -> reason, for what the source itself already knows to be unusable.
    strays, beside: how many stray files, and files beside the class folders, were seen.
    notes: one-line warnings to show, such as a class that a part lacks.
    """

    paths: list[str]
    heads: dict[str, Head]
    labels: Mapping[str, Labels]
    parts: list[str] | None = None
    groups: list[str | None] | None = None
    left_out: dict[int, str] = field(default_factory=dict)
    strays: int = 0
    beside: int = 0
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """Where pictures come from."""

    name: str  # short: the run's default name begins with it
    origin: str  # one line that says where it is; stored in the model file
    traits: Traits

    def listing(self) -> Listing:
        """All rows. Raises DataError where there is nothing to use."""

    def address(self) -> dict[str, object] | None:
        """What opens this source again from a manifest; None where it lives in memory."""

    def read(self, row: int) -> Picture:
        """One picture as it is stored. Raises OSError where the file cannot be read. Called from threads."""
