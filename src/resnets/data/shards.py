"""Writing WebDataset shards: tar files of `KEY.jpg` and `KEY.cls` or `KEY.json`, from any data that was opened.

The bytes of pictures are those of the source; what is only pixels becomes PNG. A sample's key is its row in
`manifest.parquet`, which stands beside the shards and lists every file of the source, left-out ones with their
reasons. The same data gives the same bytes: tar headers state no time and no owner, and the order is that of a
first epoch with seed 0, since those who read shards one after the other want them shuffled.
"""

import errno
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from resnets.base.download import locked
from resnets.base.errors import DataError, OutOfSpace, UsageError
from resnets.base.files import content_hash, sync, write_text
from resnets.base.streams import order
from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.manifest import head_column
from resnets.data.multi import unknown_column
from resnets.data.source import PARTS, Picture
from resnets.data.sources.shard_labels import CLASSES, FORMAT
from resnets.data.sources.shards import MANIFEST

COLUMN = "shard"  # of the manifest beside shards
ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}
KEY_DIGITS, SHARD_DIGITS = 9, 6

Rows = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]  # pictures written, pictures in all


def write_shards(data: Data, out: Path, *, shard_bytes: int, progress: Progress | None = None) -> list[Path]:
    """Write every kept picture into `out`/PART-NNNNNN.tar, with the classes and the manifest beside; the files.

    shard_bytes: the most that a shard has, unless one sample has more. `out` is made whole or not at all. Raises
    UsageError where it is there already, DataError where a picture is no longer what it was when the data was
    opened, OutOfSpace.
    """
    where = printable(str(out))
    if not out.parent.is_dir():
        raise UsageError(f"cannot write {where}: its folder is not there; choose another place")
    try:
        with locked(out):
            if os.path.lexists(out):
                raise UsageError(f"{where} is there already; choose another name, or remove it")
            beside = out.with_name(f".{out.name}.part")
            shutil.rmtree(beside, ignore_errors=True)  # left by a process that was killed
            try:
                beside.mkdir()
                names = _write(data, beside, shard_bytes, progress)
                os.replace(beside, out)
                sync(out.parent)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(f"no space left on the disk while writing {where}; nothing of it was kept") from error
        raise
    return [out / name for name in names]


def _write(data: Data, folder: Path, shard_bytes: int, progress: Progress | None) -> list[str]:
    """Write everything into the folder; the names of the files."""
    shard_of: list[str | None] = [None] * len(data)
    done = 0
    for part in PARTS:
        with _Shards(folder, part, shard_bytes) as shards:
            for row, files in _samples(data, part):
                shard_of[row] = shards.add(files)
                done += 1
                if progress is not None:
                    progress(done, data.kept)
    write_text(folder / CLASSES, _classes(data))
    table = data.manifest.table.append_column(COLUMN, pa.array(shard_of, pa.string()))
    replace(data.manifest, table=table).write(folder / MANIFEST)
    return sorted(os.listdir(folder))


class _Shards:
    """The tar files of one part, one after the other."""

    def __init__(self, folder: Path, part: str, limit: int) -> None:
        self._folder, self._part, self._limit = folder, part, limit
        self._count = 0
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, files: list[tuple[str, bytes]]) -> str:
        """Write one sample, into a new shard where the one in hand would grow too large; the shard's name."""
        needed = sum(tarfile.BLOCKSIZE + _padded(len(content)) for _, content in files)
        if self._tar is None or self._tar.offset + needed > self._limit:
            self._close()
            self._name = f"{self._part}-{self._count:0{SHARD_DIGITS}d}.tar"
            self._count += 1
            self._tar = tarfile.open(self._folder / self._name, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        for name, content in files:
            self._tar.addfile(_header(name, len(content)), io.BytesIO(content))
        return self._name

    def _close(self) -> None:
        """Write the end of the shard in hand, and flush it to the disk."""
        if self._tar is not None:
            self._tar.close()
            sync(self._folder / self._name)
            self._tar = None


def _samples(data: Data, part: str) -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """Each row of a part with its files: the picture, then the label."""
    rows: Rows = order(data.rows(part), seed=0, epoch=0)
    formats, contents = (data.manifest.table[name].take(rows).to_pylist() for name in ("format", "content"))
    for row, form, expected, label in zip(rows.tolist(), formats, contents, _labels(data, rows), strict=True):
        key = f"{row:0{KEY_DIGITS}d}"
        try:
            picture = data.read(row)
        except OSError as error:
            raise DataError(f"{printable(data.path(row))} cannot be read any more: {error.strerror}") from error
        if isinstance(picture, bytes) and content_hash(picture) != expected:
            raise DataError(f"{printable(data.path(row))} has changed since it was looked at; run the same again")
        ending, content = (ENDINGS[form], picture) if isinstance(picture, bytes) else ("png", _png(picture))
        yield row, [(f"{key}.{ending}", content), (f"{key}.{label[0]}", label[1])]


def _labels(data: Data, rows: Rows) -> Iterator[tuple[str, bytes]]:
    """Ending and content of each row's label: for one head of one class a picture its position, else JSON."""
    heads = data.heads
    if len(heads) == 1 and next(iter(heads.values())).kind == "single":
        for position in data.labels(next(iter(heads)))[rows].tolist():
            yield "cls", str(position).encode()
        return
    table = data.manifest.table
    column_of = {head: head_column(head) for head in heads}
    column_of |= {unknown_column(head): unknown_column(head_column(head)) for head in heads}
    columns = {
        key: table[name].take(rows).to_pylist() for key, name in column_of.items() if name in table.column_names
    }
    for values in zip(*columns.values(), strict=True):
        known = {key: value for key, value in zip(columns, values, strict=True) if value is not None}
        yield "json", json.dumps(known, separators=(",", ":")).encode()


def _png(picture: Picture) -> bytes:
    """Pixels (H, W) or (H, W, C) as a PNG file, which decodes to the same."""
    pixels = np.ascontiguousarray(picture)
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


def _classes(data: Data) -> str:
    """What `read_classes` reads: the heads with their classes in order, and what is known of the pictures."""
    heads: dict[str, Any] = {name: head.to_json() for name, head in data.heads.items()}
    traits = {**vars(data.traits), "three_way": False}  # the parts are stated by the shards' names
    return json.dumps({"format": FORMAT, "heads": heads, "traits": traits}, indent=2) + "\n"


def _header(name: str, size: int) -> tarfile.TarInfo:
    """Without time or owner, so that equal data gives equal bytes."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
