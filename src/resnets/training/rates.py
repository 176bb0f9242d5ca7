"""How fast a machine is at what training is made of: products, copies, decoding, small pictures made ready."""

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from resnets.data.augment.settings import Augment
from resnets.data.batches import Pictures, training_batches
from resnets.data.pack import Pack
from resnets.networks import kernels
from resnets.preprocess import Preprocess
from resnets.training.prepare import prepare
from resnets.training.step import Part

LEAST, MOST = 5, 1000  # runs that are counted of each measurement
WARM = 2  # runs before them: the first choose kernels and fill the allocator
MATRIX_SIDE = {"cpu": 2048, "mps": 4096, "cuda": 8192}  # large enough to keep the units busy
COPIED_BYTES = 2**28  # several times any cache
JPEG_SIDE, JPEG_PICTURES, JPEG_SIZE = 400, 64, (224, 224)
JPEG_QUALITY, JPEG_GRAIN = 88, 6.0  # grain: of 255; together about 40 kB, as photographs of this size have
SMALL_SIDE, SMALL_PICTURES = 32, 8192
SMALL_PREPROCESS = Preprocess(size=(SMALL_SIDE, SMALL_SIDE), crop=1.0, mean=(0.49,) * 3, std=(0.25,) * 3)
SMALL_AUGMENT = Augment(geometry="pad-crop", pad=4, flip=0.5)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """n values in `unit`: their median, and the quartiles around it."""

    unit: str
    n: int
    median: float
    quartiles: tuple[float, float]


def measured(values: Sequence[float], unit: str) -> Measured:
    """The spread of two values or more."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Measured(unit=unit, n=len(values), median=statistics.median(values), quartiles=(low, high))


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """Takes the time of work on `device`; a measurement lasts about `seconds`, and `least` runs."""

    device: torch.device
    seconds: float
    least: int = LEAST

    def now(self) -> float:
        """Seconds, once the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds of one run."""
        begun = self.now()
        work()
        return self.now() - begun

    def rounds(self, *works: Callable[[], object]) -> list[tuple[float, ...]]:
        """Seconds of each run; several works take turns, so that a machine's moods meet all of them."""
        for _ in range(WARM):
            for work in works:
                work()
        rounds: list[tuple[float, ...]] = []
        begun = self.now()
        while len(rounds) < self.least or (len(rounds) < MOST and self.now() - begun < self.seconds * len(works)):
            rounds.append(tuple(self.timed(work) for work in works))
        return rounds

    def rate(self, work: Callable[[], object], amount: float, unit: str) -> Measured:
        """`amount` a run, as so much a second."""
        return measured([amount / seconds for (seconds,) in self.rounds(work)], unit)


def matrix_product(watch: Stopwatch, dtype: torch.dtype) -> Measured:
    """TFLOP/s of one product of two square matrices, `torch.mm(out=)`."""
    work, operations = product(watch.device, dtype)
    return watch.rate(work, operations / 1e12, "TFLOP/s")


def product(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """The product itself, and the additions and multiplications that it has."""
    side = MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out), 2.0 * side**3


def memory_copy(watch: Stopwatch) -> Measured:
    """GB/s of a large copy in the device's memory, what is read and what is written counted."""
    source = torch.ones(COPIED_BYTES // 4, device=watch.device)
    target = torch.empty_like(source)
    return watch.rate(lambda: target.copy_(source), 2 * COPIED_BYTES / 1e9, "GB/s")


def jpeg_decode(watch: Stopwatch, *, threads: int) -> Measured:
    """Pictures a second, from JPEG in memory to random crops of 224 pixels, as training decodes them."""
    jpegs = jpeg_pictures(JPEG_PICTURES)
    sides = np.full(JPEG_PICTURES, JPEG_SIDE, dtype=np.int32)
    pictures = Pictures(
        rows=np.arange(JPEG_PICTURES),
        read=jpegs.__getitem__,
        preprocess=Preprocess(size=JPEG_SIZE),
        sizes=(sides, sides),
    )

    def decode_all() -> None:
        augment = Augment(geometry="rrc", flip=0.5)
        with training_batches(pictures, augment=augment, batch=32, seed=0, epoch=0, threads=threads) as batches:
            for _ in batches:
                pass

    return watch.rate(decode_all, JPEG_PICTURES, "images/s")


def jpeg_pictures(count: int) -> list[bytes]:
    """Pictures as a camera might have taken them: smooth shapes, and grain."""
    chance = np.random.default_rng(0)
    jpegs = []
    for _ in range(count):
        shapes = Image.fromarray(chance.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        smooth = np.asarray(shapes.resize((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
        grainy = smooth + chance.normal(0, JPEG_GRAIN, smooth.shape)
        stream = io.BytesIO()
        Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=JPEG_QUALITY)
        jpegs.append(stream.getvalue())
    return jpegs


def small_pictures(count: int) -> Pictures:
    """Packed pictures of random pixels, 32 by 32, with labels."""
    chance = np.random.default_rng(0)
    rows = np.arange(count)
    pixels = chance.integers(0, 256, (count, SMALL_SIDE, SMALL_SIDE, 3), dtype=np.uint8)
    return Pictures(
        rows=rows,
        read=pixels.__getitem__,
        preprocess=SMALL_PREPROCESS,
        labels={"label": rows % 10},
        pack=Pack(preprocess=SMALL_PREPROCESS, rows=rows, pixels=pixels, failed={}),
    )


def loader(watch: Stopwatch, *, threads: int, batch: int = 128) -> Measured:
    """Small pictures a second, ready for the network: gathered, padded and cropped, mirrored, normalised.

    By the kernels of this package where there are any, as training does it.
    """
    pictures = small_pictures(SMALL_PICTURES)

    def epoch() -> None:
        with kernels.using(True):
            for _ in loading(pictures, batch=batch, threads=threads, device=watch.device):
                pass

    return watch.rate(epoch, SMALL_PICTURES, "images/s")


def loading(pictures: Pictures, *, batch: int, threads: int, device: torch.device) -> Iterator[Part]:
    """An epoch of small pictures as training loads them."""
    with training_batches(
        pictures, augment=SMALL_AUGMENT, batch=batch, seed=0, epoch=0, threads=threads
    ) as batches:
        for step, one in enumerate(batches):
            yield prepare(
                one,
                slice(None),
                augment=SMALL_AUGMENT,
                preprocess=pictures.preprocess,
                device=device,
                seed=0,
                epoch=0,
                step=step,
            )
