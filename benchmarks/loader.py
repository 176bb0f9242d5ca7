"""The loader of small pictures alone: gathered from a pack, padded and cropped, mirrored, normalised.

    python benchmarks/loader.py                          # 32 pixels, batches of 128 and 512, all threads, 3 s each
    python benchmarks/loader.py --seconds 0.1 --batch 128      # does it work?

First whole epochs as training loads them, in pictures a second: as they come (fp32), and cast to bf16 as autocast
does in the network, by the kernel that shifts, mirrors and normalises in one pass, and by torch's steps. Then each
part alone on one batch, in microseconds a picture. Random pixels; medians [quartiles]; the works of a group take
turns.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from resnets.base.machine import cores, keep_freed_memory
from resnets.base.streams import order
from resnets.data.augment.batch import flip, normalise, pad_crop, ready_batch
from resnets.data.augment.geometry import mirrored, shifts
from resnets.networks import kernels
from resnets.training.rates import SMALL_AUGMENT, SMALL_PICTURES, Stopwatch, loading, small_pictures
from rounds import machine, spread

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default 3)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    watch = Stopwatch(device=CPU, seconds=options.seconds)
    with kernels.using(True):
        print(f"{machine()}; {options.threads} threads; 32x32 px in colour; kernels: {kernels.state()}\n")
    for batch in options.batch:
        print(f"batches of {batch}:")
        show(watch, epochs(batch, options.threads), lambda seconds: SMALL_PICTURES / seconds, "images/s")
        show(watch, parts(batch), lambda seconds, batch=batch: 1e6 * seconds / batch, "us a picture")


def show(
    watch: Stopwatch, works: dict[str, Callable[[], object]], convert: Callable[[float], float], unit: str
) -> None:
    turns = watch.rounds(*works.values())
    for name, seconds in zip(works, zip(*turns, strict=True), strict=True):
        print(
            f"  {name:34} {spread([convert(value) for value in seconds])} {unit}, n = {len(seconds)}", flush=True
        )


def epochs(batch: int, threads: int) -> dict[str, Callable[[], object]]:
    """Whole epochs as training loads them."""
    pictures = small_pictures(SMALL_PICTURES)

    def epoch(dtype: torch.dtype, on: bool) -> None:
        with kernels.using(on):
            for part in loading(pictures, batch=batch, threads=threads, device=CPU):
                part.images.to(dtype)

    return {
        "loader, fp32": partial(epoch, torch.float32, True),
        "loader, cast to bf16": partial(epoch, torch.bfloat16, True),
        "loader by torch's steps, fp32": partial(epoch, torch.float32, False),
    }


def parts(batch: int) -> dict[str, Callable[[], object]]:
    """What an epoch is made of, on one batch."""
    pictures = small_pictures(SMALL_PICTURES)
    preprocess, pack = pictures.preprocess, pictures.pack
    assert pack is not None
    rows = order(pictures.rows, seed=0, epoch=0)[:batch]
    pixels = np.empty((batch, *preprocess.size, 3), dtype=np.uint8)
    pack.gather(rows, pixels)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # (B, C, H, W), channels last
    offsets = shifts(rows, pad=SMALL_AUGMENT.pad, seed=0, epoch=0)
    chosen = mirrored(rows, probability=0.5, seed=0, epoch=0)
    statistics = {"mean": preprocess.mean, "std": preprocess.std}

    def ready(dtype: torch.dtype) -> None:
        with kernels.using(True):
            ready_batch(images, rows, settings=SMALL_AUGMENT, seed=0, epoch=0, dtype=dtype, **statistics)

    return {
        "gather (in a thread of its own)": lambda: pack.gather(rows, pixels),
        "draws of pad and crop, flip": lambda: (
            shifts(rows, pad=SMALL_AUGMENT.pad, seed=0, epoch=0),
            mirrored(rows, probability=0.5, seed=0, epoch=0),
        ),
        "pad and crop": lambda: pad_crop(images, offsets, pad=SMALL_AUGMENT.pad, border=SMALL_AUGMENT.border),
        "flip": lambda: flip(images, chosen),
        "all three by the kernel, fp32": lambda: ready(torch.float32),
        "all three by the kernel, bf16": lambda: ready(torch.bfloat16),
        "normalise to fp32": lambda: normalise(images, **statistics),
        "normalise to bf16": lambda: normalise(images, **statistics, dtype=torch.bfloat16),
    }


if __name__ == "__main__":
    keep_freed_memory()
    main()
