"""IDX files, as MNIST and its kin come: images and labels of a training and a test part, gzipped or not."""

import gzip
import hashlib
import os
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError
from resnets.base.text import printable
from resnets.data.names import displayed
from resnets.data.source import PARTS, TEST, TRAIN, Listing, Picture, Traits
from resnets.labels import LABEL, Head
from resnets.preprocess import Pixels

IMAGES_MAGIC, LABELS_MAGIC = 0x0803, 0x0801  # unsigned bytes in 3 and 1 dimensions
BYTES_LIMIT = 2**31  # of one unpacked file

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_PARTS = {"train": TRAIN, "t10k": TEST, "test": TEST}


@dataclass(frozen=True, kw_only=True)
class Known:
    """What label files of known data are about."""

    name: str
    names: tuple[str, ...]
    traits: Traits


MNIST = Known(
    name="mnist",
    names=tuple(str(digit) for digit in range(10)),
    traits=Traits(mirror=False, drawings=True),
)
FASHION_MNIST = Known(
    name="fashion-mnist",
    names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    traits=Traits(mirror=True, drawings=True),
)
# MD5 of label files: as published with the data (gzipped), and of the unpacked Fashion-MNIST files.
KNOWN = {
    "d53e105ee54ea40749a09fcbcd1e9432": MNIST,
    "ec29112dd5afa0611ce80d1b7f02629c": MNIST,
    "25c81989df183df01b3e8a0aad5dffbe": FASHION_MNIST,
    "bb300cfdad3c16e7a12a480ee83cd310": FASHION_MNIST,
    "9018921c3c673c538a1fc5bad174d6f9": FASHION_MNIST,
    "15d484375f8d13e6eb1aabb0c3f46965": FASHION_MNIST,
}


def idx_files(folder: Path) -> dict[tuple[str, str], Path]:
    """(part, `images` or `labels`) -> file; of a file and its gzipped twin the gzipped one."""
    found = {}
    for name in sorted(os.listdir(folder)):  # NAME.gz comes after NAME
        match = _NAME.fullmatch(name)
        if match:
            found[_PARTS[match[1]], match[2]] = folder / name
    return found


class IdxSource:
    """The IDX files of a folder. Class ids are the numbers as text; known label files bring names and traits."""

    def __init__(
        self,
        root: Path,
        *,
        name: str | None = None,
        traits: Traits | None = None,
        class_names: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self._files = idx_files(self.root)
        known = next((found for found in map(_known, self._label_files()) if found), None)
        self.name = name or (known.name if known else displayed(self.root.name))
        self.origin = f"the IDX files in {printable(str(self.root))}"
        self.traits = traits or (known.traits if known else Traits())
        names = {str(number): text for number, text in enumerate(known.names)} if known else {}
        self._class_names = names | dict(class_names or {})
        self._images: list[Pixels] = []
        self._starts = np.zeros(1, dtype=np.int64)

    def listing(self) -> Listing:
        parts = [part for part in PARTS if (part, "images") in self._files or (part, "labels") in self._files]
        images, labels = [], []
        for part in parts:
            pictures, classes = self._read_part(part)
            images.append(pictures)
            labels.append(classes)
        numbers = np.concatenate(labels)
        if not len(numbers):
            raise DataError(f"the IDX files in {printable(str(self.root))} hold no picture")
        counts = [len(pictures) for pictures in images]
        self._images, self._starts = images, np.cumsum([0, *counts])
        ids = tuple(str(number) for number in range(int(numbers.max()) + 1))
        return Listing(
            paths=[f"{part}/{row:05d}" for part, count in zip(parts, counts, strict=True) for row in range(count)],
            heads={LABEL: Head(ids=ids, names=tuple(self._class_names.get(name, name) for name in ids))},
            labels={LABEL: numbers},
            parts=[part for part, count in zip(parts, counts, strict=True) for _ in range(count)],
        )

    def read(self, row: int) -> Picture:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        picture: Pixels = self._images[part][row - self._starts[part]]
        return picture

    def address(self) -> dict[str, object]:
        return {"kind": "idx", "root": str(self.root)}

    def _label_files(self) -> list[Path]:
        return [path for (_, kind), path in self._files.items() if kind == "labels"]

    def _read_part(self, part: str) -> tuple[Pixels, npt.NDArray[np.int64]]:
        for kind in ("images", "labels"):
            if (part, kind) not in self._files:
                raise DataError(f"the IDX files in {printable(str(self.root))} lack the {kind} of the {part} part")
        images, labels = self._files[part, "images"], self._files[part, "labels"]
        pictures = _read(images, IMAGES_MAGIC)
        classes = _read(labels, LABELS_MAGIC)
        if len(pictures) != len(classes):
            raise DataError(
                f"{printable(str(images))} has {len(pictures)} pictures and {printable(str(labels))} "
                f"{len(classes)} labels; one of them belongs to other data"
            )
        return pictures, classes.astype(np.int64)


def _known(labels: Path) -> Known | None:
    with labels.open("rb") as handle:
        return KNOWN.get(hashlib.file_digest(handle, "md5").hexdigest())


def _read(path: Path, magic: int) -> Pixels:
    """One IDX file as an array, (n, height, width) or (n,). Raises DataError where header and length differ."""
    where = printable(str(path))
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as handle:
            shape = _shape(cast(BinaryIO, handle), magic, where)
            count = int(np.prod(shape, dtype=np.int64))
            if count > BYTES_LIMIT:
                raise DataError(f"{where} states {count:,} bytes; the limit is {BYTES_LIMIT:,}")
            content = handle.read(count + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{where} is truncated or damaged: {error}; get it again") from error
    if len(content) != count:
        size = f"more than {count:,}" if len(content) > count else f"{len(content):,}"
        raise DataError(f"{where} should hold {count:,} bytes by its header and has {size}; get it again")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _shape(handle: BinaryIO, magic: int, where: str) -> tuple[int, ...]:
    (found,) = struct.unpack(">I", handle.read(4))
    if found != magic:
        raise DataError(
            f"{where} begins with {found:#010x}, not with the magic number {magic:#010x} of IDX; get it again"
        )
    dimensions = magic & 0xFF
    return struct.unpack(f">{dimensions}I", handle.read(4 * dimensions))
