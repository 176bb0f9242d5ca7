"""Small pictures decoded once: every kept picture at the network's size, in one array.

What is stored is exactly what evaluation would decode and fit, so a packed picture equals a streamed one.
Pictures that are in memory already are packed in memory. Files are packed into the cache folder, as raw
uint8 beside a JSON record, under a name made from the pictures' contents, the preprocessing and the
versions that decode: another picture, size, Pillow or resnets gives another pack. The record has a checksum of
every chunk, and a pack whose pixels are not what was written is made again.
"""

import contextlib
import hashlib
import json
import logging
import math
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL

from resnets._version import VERSION
from resnets.base.errors import DataError, OutOfSpace, UsageError
from resnets.base.files import cache_folder, replacing, write_text
from resnets.data.augment.settings import Augment
from resnets.data.dataset import Data
from resnets.data.decode import decode
from resnets.data.source import Picture
from resnets.preprocess import CHANNELS, Pixels, Preprocess, fit

logger = logging.getLogger("resnets")

FORMAT = 2
PACK_SIDE = 96  # pixels: larger pictures are streamed, their decoding is hidden behind the step
MEMORY_LIMIT = 2**30  # bytes of a pack in memory
FREE_SHARE = 4  # a pack may take a quarter of the free space
CHUNK = 64  # pictures a thread decodes at a time

Rows = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]  # pictures done, pictures in all


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Pictures of `rows` (ascending) as uint8 (n, H, W, C); failed: row -> why it could not be decoded."""

    preprocess: Preprocess
    rows: Rows
    pixels: Pixels = field(repr=False)
    failed: dict[int, str]
    path: Path | None = None

    def gather(self, rows: Rows, out: Pixels) -> None:
        """Copy the pictures of `rows` to `out` (k, H, W, C); those that failed are zeros."""
        positions = np.searchsorted(self.rows, rows)
        if not np.array_equal(self.rows.take(positions, mode="clip"), rows):
            raise ValueError("the pack lacks some of these rows")
        np.take(self.pixels, positions, axis=0, out=out, mode="clip")  # clip: no buffer in between


@dataclass(frozen=True, kw_only=True)
class PackFile:
    """A pack in the cache folder. size: (height, width) in pixels."""

    path: Path
    name: str
    pictures: int
    size: tuple[int, int]
    bytes: int


def pixel_settings(preprocess: Preprocess) -> dict[str, Any]:
    """The part of the preprocessing that decides what uint8 pixels a pack holds."""
    return {name: value for name, value in preprocess.to_json().items() if name not in ("mean", "std")}


def suits_packing(preprocess: Preprocess, augment: Augment, *, same_size: bool) -> bool:
    """Whether training loses nothing by a pack: small pictures, and no crop that needs more than is stored.

    same_size: every picture has the network's size as it is stored.
    """
    return max(preprocess.size) <= PACK_SIDE and (same_size or augment.geometry != "rrc")


def make_pack(
    data: Data, rows: Rows, *, preprocess: Preprocess, threads: int, progress: Progress | None = None
) -> Pack | None:
    """Decode the pictures of `rows` (ascending), or open the pack that holds them already.

    Gives None where the pack would be too large for memory or the free disk space; the log says so.
    """
    if len(rows) == 0:
        return None
    shape = (len(rows), *preprocess.size, CHANNELS[preprocess.channels])
    needed = math.prod(shape)
    try:
        if _in_memory(data, int(rows[0])):
            if needed > MEMORY_LIMIT:
                logger.info("pictures are not packed: %d MiB in memory would be needed", needed >> 20)
                return None
            return _pack_in_memory(data, rows, shape, preprocess, threads, progress)
        return _pack_in_cache(data, rows, shape, preprocess, threads, progress)
    except (UsageError, OutOfSpace, OSError) as error:  # of the cache folder, or of a picture
        logger.warning("pictures are not packed but decoded as they are needed: %s", error)
        return None


def list_packs() -> list[PackFile]:
    """The packs in the cache folder, by name of their data."""
    packs = []
    for path in cache_folder("packs").glob("*.pixels"):
        record = _record(path)
        if record is not None:
            packs.append(
                PackFile(
                    path=path,
                    name=str(record["name"]),
                    pictures=int(record["shape"][0]),
                    size=(int(record["shape"][1]), int(record["shape"][2])),
                    bytes=path.stat().st_size,
                )
            )
    return sorted(packs, key=lambda pack: (pack.name, pack.path.name))


def remove_packs() -> int:
    """Remove every pack, and what killed runs left of one; gives the bytes that are free now."""
    removed = 0
    for path in cache_folder("packs").iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            removed += path.stat().st_size
            path.unlink()
    return removed


def pack_key(data: Data, rows: Rows, preprocess: Preprocess) -> str:
    """What names a pack: contents in their order, all of the preprocessing that touches uint8 pixels, versions."""
    record = pixel_settings(preprocess) | {"format": FORMAT, "pillow": PIL.__version__, "resnets": VERSION}
    digest = hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16)
    for content in data.manifest.table["content"].take(rows).to_pylist():
        digest.update(content)
    return digest.hexdigest()


def prepared(picture: Picture, preprocess: Preprocess, *, at_least: tuple[int, int] | None = None) -> Pixels:
    """A picture decoded and fitted: uint8 (H, W, C), as evaluation sees it where `at_least` is None.

    at_least: what a JPEG at reduced scale must keep (see `decode`). Raises DecodeError with a short reason.
    """
    if isinstance(picture, np.ndarray) and _fits(picture, preprocess):
        return picture.reshape(*preprocess.size, CHANNELS[preprocess.channels])  # nothing would change
    return fit(decode(picture, preprocess.channels, at_least=at_least), preprocess)


def _fits(pixels: Pixels, preprocess: Preprocess) -> bool:
    """Whether pixels in memory already are what decode and fit would make of them."""
    shape = (*preprocess.size, CHANNELS[preprocess.channels])
    unscaled = preprocess.resize == "squash" or (preprocess.resize == "crop" and preprocess.crop == 1)
    grey = pixels.ndim == 2 and shape[2] == 1 and pixels.shape == shape[:2]
    return pixels.dtype == np.uint8 and unscaled and (grey or pixels.shape == shape)


def _in_memory(data: Data, row: int) -> bool:
    try:
        return isinstance(data.read(row), np.ndarray)
    except DataError:
        return False


def _pack_in_memory(
    data: Data,
    rows: Rows,
    shape: tuple[int, ...],
    preprocess: Preprocess,
    threads: int,
    progress: Progress | None,
) -> Pack:
    pixels = np.empty(shape, dtype=np.uint8)
    failed: dict[int, str] = {}
    done = 0
    for decoded, reasons in _decode_all(data, rows, preprocess, threads, progress):
        pixels[done : done + len(decoded)] = decoded
        failed |= reasons
        done += len(decoded)
    return Pack(preprocess=preprocess, rows=rows, pixels=pixels, failed=failed)


def _pack_in_cache(
    data: Data,
    rows: Rows,
    shape: tuple[int, ...],
    preprocess: Preprocess,
    threads: int,
    progress: Progress | None,
) -> Pack | None:
    path = cache_folder("packs") / f"{pack_key(data, rows, preprocess)}.pixels"
    if (pack := _open(path, rows, shape, preprocess, threads)) is not None:
        return pack
    needed, free = math.prod(shape), shutil.disk_usage(path.parent).free
    if needed > free // FREE_SHARE:
        logger.info("pictures are not packed: %d MiB is over a quarter of the free space", needed >> 20)
        return None
    _write(path, data, rows, preprocess, threads, progress)
    return _open(path, rows, shape, preprocess, threads)


def _write(
    path: Path, data: Data, rows: Rows, preprocess: Preprocess, threads: int, progress: Progress | None
) -> None:
    failed: dict[int, str] = {}
    checksums = []
    with replacing(path) as beside:
        # plain writes: a full disk is an error here, where a memory map would end the process
        with beside.open("wb") as file:
            for decoded, reasons in _decode_all(data, rows, preprocess, threads, progress):
                file.write(decoded.data)
                checksums.append(zlib.crc32(decoded.data))
                failed |= reasons
        record = {
            "format": FORMAT,
            "name": data.name,
            "shape": [len(rows), *preprocess.size, CHANNELS[preprocess.channels]],
            "checksums": checksums,
            "failed": {str(np.searchsorted(rows, row)): reason for row, reason in failed.items()},
        }
        write_text(path.with_suffix(".json"), json.dumps(record))


def _open(path: Path, rows: Rows, shape: tuple[int, ...], preprocess: Preprocess, threads: int) -> Pack | None:
    """The pack at `path`; None where there is none, or one that is not what was written."""
    record = _record(path)
    if record is None or record["shape"] != list(shape) or path.stat().st_size != math.prod(shape):
        return None
    failed = {int(rows[int(position)]): str(reason) for position, reason in record["failed"].items()}
    pixels = np.memmap(path, np.uint8, "r", shape=shape)
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="pack") as pool:
        starts = range(0, len(rows), CHUNK)
        checksums = list(pool.map(lambda start: zlib.crc32(pixels[start : start + CHUNK].data), starts))
    if checksums != record["checksums"]:
        logger.warning("the packed pictures in %s are damaged; they are packed again", path)
        return None
    return Pack(preprocess=preprocess, rows=rows, pixels=pixels, failed=failed, path=path)


def _record(path: Path) -> dict[str, Any] | None:
    """What is written of a pack; None where its pixels or its record are missing."""
    try:
        record = json.loads(path.with_suffix(".json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    whole = (
        isinstance(record, dict) and record.keys() >= {"name", "shape", "failed", "checksums"} and path.exists()
    )
    return record if whole else None


def _decode_all(
    data: Data, rows: Rows, preprocess: Preprocess, threads: int, progress: Progress | None
) -> Iterator[tuple[Pixels, dict[int, str]]]:
    """Chunks of pictures (k, H, W, C) in the order of `rows`, each with row -> reason for those that failed."""

    def decode_chunk(start: int) -> tuple[Pixels, dict[int, str]]:
        chunk = rows[start : start + CHUNK]
        pixels = np.zeros((len(chunk), *preprocess.size, CHANNELS[preprocess.channels]), dtype=np.uint8)
        failed = {}
        for position, row in enumerate(chunk.tolist()):
            try:
                pixels[position] = prepared(data.read(row), preprocess)
            except DataError as error:  # an OSError may pass, so it is not written down: there is no pack then
                failed[row] = str(error)
        return pixels, failed

    done = 0
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="pack")
    try:
        for pixels, failed in pool.map(decode_chunk, range(0, len(rows), CHUNK)):
            yield pixels, failed
            done += len(pixels)
            if progress is not None:
                progress(done, len(rows))
    finally:
        pool.shutdown(cancel_futures=True)
