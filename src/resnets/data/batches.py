"""From rows to batches: read, decoded and cropped in threads, in an order and with pixels that no timing changes.

Pillow lets go of the interpreter's lock while it decodes, so threads do as well as processes, without
their start-up, copies and trouble. Training may unpack a JPEG at reduced scale, where the part that is kept
still has twice the network's size; small pictures, which may be packed, and evaluation are decoded in full.
"""

import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from resnets.base.errors import DataError
from resnets.base.streams import order
from resnets.data.augment.geometry import crop_boxes
from resnets.data.augment.settings import Augment
from resnets.data.dataset import Data
from resnets.data.decode import decode
from resnets.data.pack import PACK_SIDE, Pack, pixel_settings, prepared
from resnets.data.sampling import balanced_order, rows_of
from resnets.data.source import Picture
from resnets.preprocess import CHANNELS, FILTERS, Pixels, Preprocess

CHUNK = 4  # pictures that a thread decodes at a time
OVERSAMPLING = 2  # a JPEG at reduced scale keeps at least this many pixels a side for each that is needed

Rows = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]
Fill = Callable[[Rows, Pixels], dict[int, str]]  # writes the pictures of some draws, gives position -> reason


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What batches are made of.

    rows: (n,) in the order of evaluation. read: gives a row's picture as it is stored; called from threads.
    labels: head -> (rows in all,), or (rows in all, classes) of a head with several classes a picture.
    sizes: (rows in all,) widths and heights, upright; random resized crops need them. pack: where the pictures are
    decoded already, all of `rows`.
    """

    rows: Rows
    read: Callable[[int], Picture]
    preprocess: Preprocess
    labels: Mapping[str, Labels] = field(default_factory=dict)
    sizes: tuple[Numbers, Numbers] | None = None
    pack: Pack | None = None

    def __post_init__(self) -> None:
        if self.pack is not None and pixel_settings(self.pack.preprocess) != pixel_settings(self.preprocess):
            raise ValueError("the pack was made with another preprocessing")

    @cached_property
    def whole(self) -> bool:
        """Whether random resized crops are left to the device: small pictures of the network's own size.

        It does not depend on the pack, so that a run goes the same way with and without one.
        """
        if self.sizes is None or max(self.preprocess.size) > PACK_SIDE:
            return False
        widths, heights = (numbers[self.rows] for numbers in self.sizes)
        height, width = self.preprocess.size
        return bool((heights == height).all() and (widths == width).all())


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some pictures as uint8 (B, C, H, W), channels last, with their rows (B,) and labels.

    draws: (B,) what the picture stream is asked with; a row's own number, unless it comes again in the epoch.
    labels: head -> int64 (B,), or float32 (B, K) of a head with several classes a picture, NaN where not known.
    failed: rows that could not be decoded, with the reason; the batch is shorter by them, and may be empty.
    """

    rows: Rows
    draws: Rows
    images: torch.Tensor
    labels: dict[str, torch.Tensor]
    failed: tuple[tuple[int, str], ...]


def pictures_of(data: Data, rows: Rows, *, preprocess: Preprocess, pack: Pack | None = None) -> Pictures:
    """The rows of a source, with all their labels."""
    return Pictures(
        rows=rows,
        read=data.read,
        preprocess=preprocess,
        labels={head: data.labels(head) for head in data.heads},
        sizes=data.sizes,
        pack=pack,
    )


def batches_in_epoch(pictures: int, batch: int) -> int:
    """How many batches an epoch has: a single picture at the end joins the batch before it."""
    whole, rest = divmod(pictures, batch)
    return whole + int(rest > 1 or (rest == 1 and whole == 0))


class Batches(Iterator[Batch]):
    """Batches in their order, read ahead by threads that end with `close`, a `with` block or the last reference.

    plan: the draws of each batch (see `sampling`), which are rows where no picture comes twice.
    waited_seconds: how long the consumer has waited for pictures so far.
    """

    def __init__(
        self, plan: list[Rows], fill: Fill, *, pictures: Pictures, threads: int, prefetch: int, chunk: int = CHUNK
    ) -> None:
        self.waited_seconds = 0.0
        self._plan = iter(plan)
        self._fill, self._pictures = fill, pictures
        self._prefetch, self._chunk = prefetch, chunk
        self._ahead: deque[tuple[Rows, Pixels, list[Future[dict[int, str]]]]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="decode")
        self.close = weakref.finalize(self, self._pool.shutdown, cancel_futures=True)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Batch:
        self._read_ahead()
        if not self._ahead:
            self.close()
            raise StopIteration
        draws, pixels, tasks = self._ahead.popleft()
        started = time.perf_counter()
        failed: dict[int, str] = {}
        for start, task in enumerate(tasks):
            failed |= {start * self._chunk + position: reason for position, reason in task.result().items()}
        self.waited_seconds += time.perf_counter() - started
        self._read_ahead()
        return self._batch(draws, pixels, failed)

    def _read_ahead(self) -> None:
        """Keep as many batches in the threads as were asked for."""
        shape = (*self._pictures.preprocess.size, CHANNELS[self._pictures.preprocess.channels])
        while len(self._ahead) < self._prefetch and (draws := next(self._plan, None)) is not None:
            pixels = np.empty((len(draws), *shape), dtype=np.uint8)
            starts = range(0, len(draws), self._chunk)
            parts = [slice(start, start + self._chunk) for start in starts]
            tasks = [self._pool.submit(self._fill, draws[part], pixels[part]) for part in parts]
            self._ahead.append((draws, pixels, tasks))

    def _batch(self, draws: Rows, pixels: Pixels, failed: dict[int, str]) -> Batch:
        lost = tuple((int(rows_of(draws)[position]), reason) for position, reason in failed.items())
        if failed:
            kept = np.setdiff1d(np.arange(len(draws)), list(failed))
            draws, pixels = draws[kept], pixels[kept]
        rows = rows_of(draws)
        return Batch(
            rows=rows,
            draws=draws,
            images=torch.from_numpy(pixels).permute(0, 3, 1, 2),
            labels={head: torch.from_numpy(labels[rows]) for head, labels in self._pictures.labels.items()},
            failed=lost,
        )


def training_batches(
    pictures: Pictures,
    *,
    augment: Augment,
    batch: int,
    seed: int,
    epoch: int,
    start_batch: int = 0,
    skip: Collection[int] = (),
    balance: npt.NDArray[np.int64] | None = None,
    part: Callable[[int], slice] | None = None,
    threads: int,
    prefetch: int = 3,
) -> Batches:
    """One epoch in the order of (seed, epoch), from `start_batch` on, cropped where that is done in decoding.

    balance: (rows in all,) classes that are to come equally often; None: each picture comes once.
    part: what is read of a batch of so many, where other processes read the rest; None: all of it.
    What is left to do with a batch is `augment.left_for_device(packed=pictures.whole)`. Rows in `skip` and rows
    that fail keep their place in the order, so that their batches are shorter and no other picture moves. A
    last batch of one picture, which batch norm cannot train on, joins the batch before it.
    """
    rows = pictures.rows
    if balance is None:
        draws = order(rows, seed=seed, epoch=epoch)
    else:
        draws = balanced_order(rows, balance[rows], seed=seed, epoch=epoch)
    plan = _plan(draws, batch)[start_batch:]
    if part is not None:  # before `skip`, so that it does not depend on when a bad picture was found
        plan = [draws[part(len(draws))] for draws in plan]
    if skip:
        bad = np.fromiter(skip, dtype=np.int64)
        plan = [draws[~np.isin(rows_of(draws), bad)] for draws in plan]
    if augment.geometry == "rrc" and not pictures.whole:
        fill = _cropped_fill(pictures, augment, seed=seed, epoch=epoch)
        return Batches(plan, fill, pictures=pictures, threads=threads, prefetch=prefetch)
    return _fitted(plan, pictures, _training_scale(pictures.preprocess), threads=threads, prefetch=prefetch)


def evaluation_batches(pictures: Pictures, *, batch: int, threads: int, prefetch: int = 3) -> Batches:
    """All rows in their order, each picture decoded in full and fitted, or from the pack, which equals it."""
    rows = pictures.rows
    plan = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return _fitted(plan, pictures, None, threads=threads, prefetch=prefetch)


def _training_scale(preprocess: Preprocess) -> tuple[int, int] | None:
    """What a JPEG must keep at reduced scale; None, a full decode, at sizes where a pack may stand in for it."""
    if max(preprocess.size) <= PACK_SIDE or preprocess.resize == "ink":
        return None
    share = preprocess.crop if preprocess.resize == "crop" else 1.0
    height, width = (math.ceil(OVERSAMPLING * side / share) for side in preprocess.size)
    return height, width


def _fitted(
    plan: list[Rows], pictures: Pictures, at_least: tuple[int, int] | None, *, threads: int, prefetch: int
) -> Batches:
    """Batches of pictures fitted to the network's size, from the pack where there is one."""
    preprocess, pack = pictures.preprocess, pictures.pack
    if pack is not None:
        longest = max([1, *map(len, plan)])  # one gather a batch
        fill = _packed_fill(pack)
        return Batches(plan, fill, pictures=pictures, threads=1, prefetch=prefetch, chunk=longest)

    def fill_fitted(draws: Rows, out: Pixels) -> dict[int, str]:
        return _fill_each(
            rows_of(draws), out, lambda _, row: prepared(pictures.read(row), preprocess, at_least=at_least)
        )

    return Batches(plan, fill_fitted, pictures=pictures, threads=threads, prefetch=prefetch)


def _plan(rows: Rows, batch: int) -> list[Rows]:
    count = batches_in_epoch(len(rows), batch)
    starts = [batch * number for number in range(count)]
    ends = [*starts[1:], len(rows)]
    return [rows[start:end] for start, end in zip(starts, ends[:count], strict=True)]


def _packed_fill(pack: Pack) -> Fill:
    def fill(draws: Rows, out: Pixels) -> dict[int, str]:
        rows = rows_of(draws)
        pack.gather(rows, out)
        if not pack.failed:
            return {}
        return {position: pack.failed[row] for position, row in enumerate(rows.tolist()) if row in pack.failed}

    return fill


def _fill_each(rows: Rows, out: Pixels, load: Callable[[int, int], Pixels]) -> dict[int, str]:
    """Load each (position, row); a picture that cannot be read or decoded is a reason, not an exception."""
    failed = {}
    for position, row in enumerate(rows.tolist()):
        try:
            out[position] = load(position, row)
        except (DataError, OSError) as error:
            failed[position] = _reason(error)
    return failed


def _reason(error: DataError | OSError) -> str:
    """Why a picture could not be read or decoded, in a few words."""
    return f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _cropped_fill(pictures: Pictures, augment: Augment, *, seed: int, epoch: int) -> Fill:
    """Random resized crops, each picture's from its own draws; a JPEG from reduced scale."""
    if pictures.sizes is None:
        raise DataError("random resized crops need the pictures' sizes, and this source does not state them")
    preprocess, read = pictures.preprocess, pictures.read
    widths, heights = (numbers.astype(np.int64) for numbers in pictures.sizes)
    if preprocess.resize == "squash":  # boxes are drawn in the squashed picture, as evaluation sees it
        heights = np.maximum(1, np.rint(widths * preprocess.size[0] / preprocess.size[1]).astype(np.int64))

    def fill(draws: Rows, out: Pixels) -> dict[int, str]:
        rows = rows_of(draws)
        tall, wide = heights[rows], widths[rows]
        boxes = crop_boxes(draws, tall, wide, settings=augment, seed=seed, epoch=epoch)

        def load(position: int, row: int) -> Pixels:
            return cropped(read(row), boxes[position], (int(tall[position]), int(wide[position])), preprocess)

        return _fill_each(rows, out, load)

    return fill


def cropped(
    picture: Picture, box: npt.NDArray[np.int64], frame: tuple[int, int], preprocess: Preprocess
) -> Pixels:
    """The box (top, left, height, width) of a picture thought to be of size `frame`, resized: uint8 (H, W, C).

    A JPEG is unpacked at the smallest scale at which the box keeps OVERSAMPLING times the network's size.
    """
    top, left, tall, wide = (float(number) for number in box)
    height, width = preprocess.size
    enough = (
        math.ceil(OVERSAMPLING * height * frame[0] / tall),
        math.ceil(OVERSAMPLING * width * frame[1] / wide),
    )
    whole = decode(picture, preprocess.channels, at_least=enough)
    y, x = whole.height / frame[0], whole.width / frame[1]
    region = (
        left * x,
        top * y,
        min(whole.width, (left + wide) * x),  # rounding must not step outside
        min(whole.height, (top + tall) * y),
    )
    pixels = np.asarray(whole.resize((width, height), FILTERS[preprocess.interpolation], box=region))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
