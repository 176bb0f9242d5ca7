"""`resnets.predict`: what is on pictures, one answer a file, in the order they were given."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from resnets.base.errors import DataError, UsageError
from resnets.base.machine import default_threads, pick_device
from resnets.base.world import world
from resnets.data.decode import PREFIX_BYTES, DecodeError, decode, sniff
from resnets.data.names import name_bytes
from resnets.data.sources.folder import FILE_LIMIT, STRAYS
from resnets.evaluation.answers import Prediction, answer, write_predictions
from resnets.preprocess import Pixels, Preprocess, fit

if TYPE_CHECKING:
    from resnets.evaluation.predict import Backend
    from resnets.evaluation.views import Views
    from resnets.labels import Head
    from resnets.weights.modelfile import Model

Progress = Callable[[int, int | None], None]  # files done, files in all where that is known
ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
AHEAD = 3  # batches that are decoded while one is in the network
PART_FORMATS = ("jsonl", "parquet")  # of answers in parts


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
    batch: int | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    views: Views = "one",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Classify pictures; a file that cannot be read is a prediction with an error, and the rest goes on.

    model: a model, or what `resnets.load` takes. paths: files, folders (all pictures below, sorted) and patterns
    such as `*.jpg`; any iterable, which is read as it is needed, so that millions of files need no memory.
    top: classes a file; where it may have several, those above their thresholds.
    batch: pictures at a time; None is by their size.
    threads: of the processor; None is all of them. precision: None is bf16 where the hardware multiplies it, else
    fp32; with bf16 close calls are made in fp32 (`evaluation.close_calls`). views: as for `evaluate`.
    Raises UsageError and ModelFileError before the first prediction.
    """
    from resnets.evaluation.close_calls import backend_for, fastest_for
    from resnets.evaluation.predict import batch_for

    loaded = _usable(model, top=top, batch=batch)
    batch = batch or batch_for(loaded.preprocess)
    where = pick_device(device)
    precision = precision or fastest_for(loaded, where)
    backend = backend_for(loaded, device=where, precision=precision, views=views)
    files = Files([paths] if isinstance(paths, str | Path) else paths)
    made = _predictions(
        files,
        backend,
        loaded.heads,
        loaded.preprocess,
        top=top,
        views=views,
        batch=batch,
        threads=threads or default_threads(),
    )
    return Predictions(files, made, progress)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What `predict_in_parts` did: files answered, how many of them with an error, and files that are no pictures.

    In the first of several processes they are those of all, in the others of the parts that it made just now.
    """

    files: int
    errors: int
    skipped: int
    folder: Path
    parts: int


def predict_in_parts(
    model: Model | Path | str,
    paths: Path | str | Iterable[Path | str],
    out: Path | str,
    *,
    form: Literal["jsonl", "parquet"] = "jsonl",
    top: int = 5,
    batch: int | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    views: Views = "one",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Answered:
    """Classify pictures into the folder `out`, in parts: what is done is never done again, by whoever.

    The answers are those of `predict`, in files `part-00000-of-00012.jsonl`, in the order of the paths. Several
    processes (torchrun) share the parts; the first one waits for those of the others. Given again after a death,
    the same call, with any number of processes, does what is missing.
    Raises UsageError where the folder has other files, or the answers of another model, other paths or options.
    """
    from resnets.evaluation.close_calls import backend_for, fastest_for
    from resnets.evaluation.parts import Parts, agree, identity, own_device, part_size
    from resnets.evaluation.predict import batch_for

    if form not in PART_FORMATS:
        raise UsageError(
            f"--format must be {' or '.join(PART_FORMATS)} where answers are written in parts, got {form!r}"
        )
    loaded = _usable(model, top=top, batch=batch)
    batch = batch or batch_for(loaded.preprocess)
    place, folder = world(), Path(out)
    where = own_device(device, place)
    precision = precision or fastest_for(loaded, where)
    backend = backend_for(loaded, device=where, precision=precision, views=views)
    found = Files([paths] if isinstance(paths, str | Path) else paths)
    files = list(found)
    asked = {"verb": "predict", "model": identity(loaded), "files": len(files), "list": _digest(files)}
    asked |= {"form": form, "top": top, "batch": batch, "precision": precision, "views": views}
    # whole batches: what is answered in fp32 depends on the batch, and must not on processes and restarts
    each = agree(folder, asked, each=part_size(len(files), place, multiple=batch), place=place)
    parts = Parts(folder=folder, items=len(files), each=each, ending=f".{form}")
    mine = parts.to_do(place)
    numbers = [number for part in mine for number in parts.span(part)]
    answers = _predictions(
        (files[number] for number in numbers),
        backend,
        loaded.heads,
        loaded.preprocess,
        top=top,
        views=views,
        batch=batch,
        threads=threads or default_threads(),
    )
    report = None if progress is None else lambda done, _: progress(done, len(numbers))
    with contextlib.closing(answers):
        made = Predictions(found, answers, report)
        for part in mine:
            write_predictions(islice(made, len(parts.span(part))), form, parts.path(part))
    done, failed = made.done, made.failed
    if place.leads:
        parts.wait()
        done, failed = len(files), sum(_errors_in(path, form) for path in parts.paths())
    return Answered(files=done, errors=failed, skipped=found.skipped, folder=folder, parts=len(parts))


def _usable(model: Model | Path | str, *, top: int, batch: int | None) -> Model:
    """The model, loaded. Raises UsageError for one without classes, and for impossible numbers."""
    from resnets.weights.loading import load

    if top < 1 or (batch is not None and batch < 1):
        raise UsageError(f"--top and --batch must be at least 1, got {top} and {batch}")
    loaded = load(model) if isinstance(model, str | Path) else model
    if not loaded.heads:
        raise UsageError("the model has no classes to predict; it gives features")
    return loaded


def _digest(files: Sequence[tuple[str, str | None]]) -> str:
    """Of the files in their order, by their whole paths."""
    digest = hashlib.sha256()
    for path, reason in files:
        digest.update(name_bytes(os.path.abspath(path)) + b"\0" + name_bytes(reason or "") + b"\0")
    return digest.hexdigest()


def _errors_in(path: Path, form: str) -> int:
    """How many files a part has no answer for."""
    if form == "jsonl":
        with path.open("rb") as lines:
            return sum("error" in json.loads(line) for line in lines)
    import pyarrow.parquet as pq

    with path.open("rb") as handle:  # Arrow takes no path that is not UTF-8
        column = pq.read_table(handle, columns=["error"]).column(0)
    return len(column) - int(column.null_count)


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
    views: Views,
    batch: int,
    threads: int,
) -> Generator[Prediction, None, None]:
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
            yield answer(path, {name: logits[name][position] for name in heads}, heads, top=top, views=views)
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
