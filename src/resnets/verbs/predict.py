"""`resnets.predict`: what is on pictures, one answer a file, in the order they were given."""

from __future__ import annotations

import glob
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from resnets.base.errors import DataError, UsageError
from resnets.base.machine import cores, pick_device
from resnets.data.decode import PREFIX_BYTES, DecodeError, decode, sniff
from resnets.data.sources.folder import FILE_LIMIT, STRAYS
from resnets.evaluation.answers import Prediction, answer
from resnets.preprocess import Pixels, Preprocess, fit

if TYPE_CHECKING:
    from resnets.evaluation.predict import Backend
    from resnets.labels import Head
    from resnets.weights.modelfile import Model

Progress = Callable[[int, int | None], None]  # files done, files in all where that is known
ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
AHEAD = 3  # batches that are decoded while one is in the network


class Predictions(Iterator[Prediction]):
    """The predictions as they are made. done, failed: files answered, and how many of them with an error.

    skipped: files in folders that are no pictures.
    """

    def __init__(self, files: Files, predictions: Iterator[Prediction], progress: Progress | None) -> None:
        self.done = self.failed = 0
        self._files, self._predictions, self._progress = files, predictions, progress

    @property
    def skipped(self) -> int:
        return self._files.skipped

    def __next__(self) -> Prediction:
        prediction = next(self._predictions)
        self.done += 1
        self.failed += prediction.error is not None
        if self._progress is not None:
            self._progress(self.done, self._files.known)
        return prediction


def predict(
    model: Model | Path | str,
    paths: Path | str | Iterable[Path | str],
    *,
    top: int = 5,
    batch: int = 32,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Classify pictures; a file that cannot be read is a prediction with an error, and the rest goes on.

    model: a model, or what `resnets.load` takes. paths: files, folders (all pictures below, sorted) and patterns
    such as `*.jpg`; any iterable, which is read as it is needed, so that millions of files need no memory.
    top: classes a file; where it may have several, those above their thresholds. batch: pictures at a time.
    threads: of the processor; None is all of them.
    Raises UsageError and ModelFileError before the first prediction.
    """
    from resnets.evaluation.predict import TorchBackend
    from resnets.weights.loading import load

    if top < 1 or batch < 1:
        raise UsageError(f"--top and --batch must be at least 1, got {top} and {batch}")
    loaded = load(model) if isinstance(model, str | Path) else model
    if not loaded.heads:
        raise UsageError("the model has no classes to predict; it gives features")
    backend = TorchBackend(loaded, device=pick_device(device), precision=precision)
    files = Files([paths] if isinstance(paths, str | Path) else paths)
    made = _predictions(
        files, backend, loaded.heads, loaded.preprocess, top=top, batch=batch, threads=threads or cores()
    )
    return Predictions(files, made, progress)


class Files(Iterator[tuple[str, str | None]]):
    """Paths as they were given to files one by one: (path, None), or (path, reason) where there is none.

    skipped: files in folders that are no pictures. known: how many files there are, once that is known.
    """

    def __init__(self, paths: Iterable[Path | str]) -> None:
        self.skipped = 0
        self.known: int | None = None
        self._count = 0
        self._files = self._expanded(paths)

    def __next__(self) -> tuple[str, str | None]:
        try:
            file = next(self._files)
        except StopIteration:
            self.known = self._count
            raise
        self._count += 1
        return file

    def _expanded(self, paths: Iterable[Path | str]) -> Iterator[tuple[str, str | None]]:
        for given in paths:
            path = os.fspath(given)
            if os.path.isdir(path):
                yield from self._below(path)
            elif os.path.lexists(path) or not glob.has_magic(path):
                yield path, None
            else:
                yield from self._matching(path)

    def _matching(self, pattern: str) -> Iterator[tuple[str, str | None]]:
        found = sorted(glob.iglob(pattern, recursive=True))
        if not found:
            yield pattern, "no file matches this pattern"
        for path in found:
            if os.path.isdir(path):
                yield from self._below(path)
            else:
                yield path, None

    def _below(self, folder: str) -> Iterator[tuple[str, str | None]]:
        """All pictures below a folder, sorted within each folder, files before folders; links are not followed."""
        found = False
        refused: list[OSError] = []
        for root, folders, names in os.walk(folder, onerror=refused.append):
            folders[:] = sorted(name for name in folders if not _is_stray(name))
            for name in sorted(names):
                path = os.path.join(root, name)
                if _is_stray(name) or not _is_meant(path):
                    self.skipped += 1
                else:
                    found = True
                    yield path, None
        for error in refused:
            yield os.fspath(error.filename), f"cannot be listed: {error.strerror}"
        if not found and not refused:
            yield folder, "no pictures in this folder"


def _is_stray(name: str) -> bool:
    return name.startswith(".") or name.casefold() in STRAYS


def _is_meant(path: str) -> bool:
    """Whether a file of a folder is a picture by its content, or claims to be one by its ending."""
    if os.path.splitext(path)[1].lower() in ENDINGS:
        return True
    if not os.path.isfile(path):  # opening a named pipe would wait for ever
        return False
    try:
        with open(path, "rb") as handle:
            return sniff(handle.read(PREFIX_BYTES)) is not None
    except OSError:
        return False


def _predictions(
    files: Iterable[tuple[str, str | None]],
    backend: Backend,
    heads: dict[str, Head],
    preprocess: Preprocess,
    *,
    top: int,
    batch: int,
    threads: int,
) -> Iterator[Prediction]:
    from resnets.evaluation.predict import refuse_not_finite, threads_of

    prepared = _prepared(files, preprocess, ahead=AHEAD * batch, threads=threads)
    while group := list(islice(prepared, batch)):
        good = [pixels for _, pixels, _ in group if pixels is not None]
        with threads_of(threads):
            logits = backend.logits(np.stack(good)) if good else {}
        refuse_not_finite(logits)
        position = 0
        for path, pixels, reason in group:
            if pixels is None:
                yield Prediction(path=path, error=reason)
                continue
            yield answer(path, {name: logits[name][position] for name in heads}, heads, top=top)
            position += 1


def _prepared(
    files: Iterable[tuple[str, str | None]], preprocess: Preprocess, *, ahead: int, threads: int
) -> Iterator[tuple[str, Pixels | None, str]]:
    """(path, pixels (H, W, C), "") or (path, None, reason), in order; at most `ahead` pictures are in memory."""
    waiting: deque[tuple[str, Future[tuple[Pixels | None, str]]]] = deque()
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="decode")
    try:
        for path, reason in files:
            waiting.append((path, pool.submit(_read, path, reason, preprocess)))
            if len(waiting) >= ahead:
                first, task = waiting.popleft()
                yield first, *task.result()
        while waiting:
            first, task = waiting.popleft()
            yield first, *task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: str, reason: str | None, preprocess: Preprocess) -> tuple[Pixels | None, str]:
    """A file's picture as the network takes it, or None and the reason."""
    if reason is not None:
        return None, reason
    try:
        return fit(decode(_bytes_of(path), preprocess.channels), preprocess), ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
    except DataError as error:
        return None, str(error)


def _bytes_of(path: str) -> bytes:
    try:
        about = os.stat(path)
    except ValueError as error:
        raise DecodeError("no file can have this name") from error
    if not stat.S_ISREG(about.st_mode):
        raise DecodeError("not a regular file")
    if about.st_size > FILE_LIMIT:
        raise DecodeError(f"a file of {about.st_size:,} bytes; the limit is {FILE_LIMIT:,} bytes")
    return Path(path).read_bytes()
