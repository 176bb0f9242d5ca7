"""The pictures of a run, part by part: packed where that pays, streamed where not, and measured once."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from resnets.base.machine import default_threads
from resnets.base.streams import order
from resnets.data.augment.batch import normalise
from resnets.data.augment.settings import Augment
from resnets.data.batches import Pictures, evaluation_batches, pictures_of
from resnets.data.dataset import Data
from resnets.data.pack import PACK_SIDE, Pack, make_pack, suits_packing
from resnets.preprocess import Pixels, Preprocess

MEASURED_PICTURES = 4096  # of streamed pictures, mean and deviation are measured on so many, chosen by hash
CHUNK = 256  # packed pictures measured at a time


class Gallery:
    """Pictures of one source, decoded as `preprocess` says. progress: called with (label, done, total)."""

    def __init__(self, data: Data, *, threads: int | None, progress: Callable[[str, int, int], None]) -> None:
        self.data = data
        self.threads = threads or default_threads()
        self._progress = progress
        self._pack: tuple[Preprocess, Pack | None] | None = None

    def training(self, preprocess: Preprocess, augment: Augment) -> Pictures:
        """The training part, from the pack only where the augmentation loses nothing by it."""
        return self._pictures("train", preprocess, packed=self._suits(preprocess, augment))

    def evaluation(self, part: str, preprocess: Preprocess) -> Pictures:
        """A part as evaluation sees it; a packed picture equals a streamed one."""
        return self._pictures(part, preprocess, packed=True)

    def normalised(
        self, part: str, preprocess: Preprocess, *, batch: int, most: int = MEASURED_PICTURES
    ) -> Iterator[torch.Tensor]:
        """Pictures of a part as evaluation sees them, (B, C, H, W), at most so many, chosen by hash."""
        pictures = self.evaluation(part, preprocess)
        sample = replace(pictures, rows=order(pictures.rows, seed=0, epoch=0)[:most])
        with evaluation_batches(sample, batch=batch, threads=self.threads) as batches:
            for one in batches:
                if len(one.rows) > 1:  # batch norm cannot measure one picture
                    yield normalise(one.images, mean=preprocess.mean, std=preprocess.std)

    def mean_std(self, preprocess: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation a channel over the training pictures, values in [0, 1]."""
        pictures = self._pictures("train", preprocess, packed=True)
        count = 0
        total = squares = np.zeros(len(preprocess.mean), dtype=np.int64)  # whole numbers: exact in any order
        for pixels in self._pixels(pictures):
            values = pixels.reshape(-1, pixels.shape[-1]).astype(np.uint16)  # holds 255²
            count += len(values)
            total = total + values.sum(axis=0, dtype=np.int64)
            squares = squares + np.square(values).sum(axis=0, dtype=np.int64)
        mean = total / (255 * count)
        spread = squares / (255**2 * count) - mean**2
        deviation = np.sqrt(np.maximum(spread, 1e-4))  # a blank channel must not divide by zero
        return tuple(mean.tolist()), tuple(deviation.tolist())

    def _pixels(self, pictures: Pictures) -> Iterator[Pixels]:
        """Chunks of decoded pictures (n, H, W, C)."""
        if pictures.pack is not None:
            for start in range(0, len(pictures.rows), CHUNK):
                rows = pictures.rows[start : start + CHUNK]
                good = np.array([row for row in rows.tolist() if row not in pictures.pack.failed], dtype=np.int64)
                out = np.empty((len(good), *pictures.pack.pixels.shape[1:]), dtype=np.uint8)
                pictures.pack.gather(good, out)
                yield out
            return
        chosen = order(pictures.rows, seed=0, epoch=0)[:MEASURED_PICTURES]
        sample = pictures_of(self.data, np.sort(chosen), preprocess=pictures.preprocess)
        done = 0
        with evaluation_batches(sample, batch=64, threads=self.threads) as batches:
            for batch in batches:
                done += len(batch.rows)
                self._progress("measuring the pictures", done, len(chosen))
                yield batch.images.permute(0, 2, 3, 1).numpy()

    def _pictures(self, part: str, preprocess: Preprocess, *, packed: bool) -> Pictures:
        pack = self._packed(preprocess) if packed and max(preprocess.size) <= PACK_SIDE else None
        return pictures_of(self.data, self.data.rows(part), preprocess=preprocess, pack=pack)

    def _packed(self, preprocess: Preprocess) -> Pack | None:
        channels = len(preprocess.mean)
        key = replace(preprocess, mean=(0.0,) * channels, std=(1.0,) * channels)  # a pack is not normalised
        if self._pack is None or self._pack[0] != key:
            pack = make_pack(
                self.data,
                self.data.rows("all"),
                preprocess=key,
                threads=self.threads,
                progress=lambda done, total: self._progress("packing the pictures", done, total),
            )
            self._pack = key, pack
        return self._pack[1]

    def _suits(self, preprocess: Preprocess, augment: Augment) -> bool:
        widths, heights = self.data.sizes
        rows = self.data.rows("train")
        own_size = bool((heights[rows] == preprocess.size[0]).all() and (widths[rows] == preprocess.size[1]).all())
        return suits_packing(preprocess, augment, same_size=own_size)
