"""CIFAR-10 and CIFAR-100 in their binary version: fixed-size records, read as bytes and never unpickled.

A record is one label byte (CIFAR-100: two, coarse and fine) and 3,072 bytes of pixels: the red, green and blue
planes of a 32 x 32 picture, row by row (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html).
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnets.base.errors import DataError
from resnets.base.text import printable
from resnets.data.names import displayed
from resnets.data.source import TEST, TRAIN, Listing, Picture, Traits
from resnets.labels import LABEL, Head
from resnets.preprocess import Pixels

SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
TRAITS = Traits(mirror=True, drawings=False)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the files are called. label_bytes: the last of them is the label."""

    names: str
    parts: dict[str, tuple[str, ...]]
    label_bytes: int


CIFAR10 = Layout(
    names="batches.meta.txt",
    parts={TRAIN: tuple(f"data_batch_{number}.bin" for number in range(1, 6)), TEST: ("test_batch.bin",)},
    label_bytes=1,
)
CIFAR100 = Layout(names="fine_label_names.txt", parts={TRAIN: ("train.bin",), TEST: ("test.bin",)}, label_bytes=2)


class CifarSource:
    """The binary files of one folder. Class ids are the names, in the order of the file that states them."""

    def __init__(self, root: Path, layout: Layout, *, name: str) -> None:
        self.root = Path(os.path.abspath(root))
        self.name = name
        self.origin = f"the CIFAR files in {displayed(str(self.root))}"
        self.traits = TRAITS
        self._layout = layout
        self._records: list[Pixels] = []
        self._starts = np.zeros(1, dtype=np.int64)

    def address(self) -> None:
        """The named source that unpacked these files is what a manifest opens again."""

    def listing(self) -> Listing:
        names = self._class_names()
        files = [(part, self.root / name) for part, found in self._layout.parts.items() for name in found]
        records = [self._read(path, len(names)) for _, path in files]
        self._records, self._starts = records, np.cumsum([0, *map(len, records)])
        parts = [part for (part, _), rows in zip(files, records, strict=True) for _ in range(len(rows))]
        count = {part: parts.count(part) for part in self._layout.parts}
        labels = np.concatenate([rows[:, self._layout.label_bytes - 1] for rows in records])
        return Listing(
            paths=[f"{part}/{row:05d}" for part in count for row in range(count[part])],
            heads={LABEL: Head(ids=names)},
            labels={LABEL: labels.astype(np.int64)},
            parts=parts,
        )

    def read(self, row: int) -> Picture:
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        record = self._records[file][row - self._starts[file]]
        planes = record[self._layout.label_bytes :].reshape(3, SIDE, SIDE)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))  # (3, 32, 32) -> (32, 32, 3)

    def _class_names(self) -> tuple[str, ...]:
        path = self.root / self._layout.names
        try:
            return tuple(path.read_text(encoding="ascii").split())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{printable(str(path))}, which names the classes, cannot be read: {error}") from error

    def _read(self, path: Path, classes: int) -> Pixels:
        """(n, label bytes + 3,072), mapped: pages are read when a picture is."""
        length = self._layout.label_bytes + PIXEL_BYTES
        try:
            size = path.stat().st_size
            if size == 0 or size % length:
                raise DataError(
                    f"{printable(str(path))} has {size:,} bytes, not whole {length}-byte records; get it again"
                )
            records: Pixels = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, length)
        except OSError as error:
            raise DataError(f"{printable(str(path))} cannot be read: {error.strerror}; get it again") from error
        highest = int(records[:, self._layout.label_bytes - 1].max())
        if highest >= classes:
            raise DataError(f"{printable(str(path))} has the label {highest}, but there are {classes} class names")
        return records
