"""A network on files one by one: an answer a file, in their order, alone or in parts that processes share.

Letters of the shapes: K numbers that the network gives a picture and head.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from resnets.base.errors import UsageError
from resnets.base.world import world
from resnets.data.unlabelled import File, Files, digest_of, prepared_files

if TYPE_CHECKING:
    from resnets.evaluation.predict import Backend
    from resnets.preprocess import Preprocess

AHEAD = 3  # batches that are decoded while one is in the network
PartForm = Literal["jsonl", "parquet"]
PART_FORMS = ("jsonl", "parquet")  # of answers in parts

Progress = Callable[[int, int | None], None]  # files done, files in all where that is known


class Answer(Protocol):
    """What is said of one file; error: why there is nothing to say."""

    @property
    def path(self) -> str: ...

    @property
    def error(self) -> str | None: ...


A = TypeVar("A", bound=Answer)


class Answers(Iterator[A], Generic[A]):
    """Answers as they are made. done, failed: files answered, and how many of them with an error.

    skipped: files in folders and shards that are no pictures.
    """

    def __init__(self, files: Files, answers: Iterator[A], progress: Progress | None) -> None:
        self.done = self.failed = 0
        self._files, self._answers, self._progress = files, answers, progress

    @property
    def skipped(self) -> int:
        return self._files.skipped

    def __next__(self) -> A:
        answer = next(self._answers)
        self.done += 1
        self.failed += answer.error is not None
        if self._progress is not None:
            self._progress(self.done, self._files.known)
        return answer


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What runs a network on files: so many a batch, decoded by so many threads."""

    backend: Backend
    preprocess: Preprocess
    batch: int
    threads: int

    def outputs(self, files: Iterable[File]) -> Generator[tuple[str, dict[str, npt.NDArray[np.float32]], str]]:
        """(path, head -> float32 (K,), "") or (path, {}, reason) for each file, in their order."""
        from resnets.evaluation.predict import refuse_not_finite, threads_of

        ready = prepared_files(files, self.preprocess, ahead=AHEAD * self.batch, threads=self.threads)
        while group := list(islice(ready, self.batch)):
            good = [pixels for _, pixels, _ in group if pixels is not None]
            with threads_of(self.threads):
                logits = self.backend.logits(np.stack(good)) if good else {}
            refuse_not_finite(logits)
            positions = iter(range(len(good)))
            for path, pixels, reason in group:
                if pixels is None:
                    yield path, {}, reason
                else:
                    position = next(positions)
                    yield path, {name: values[position] for name, values in logits.items()}, ""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What was done in parts: files answered, how many of them with an error, and files that are no pictures.

    In the first of several processes they are those of all, in the others of the parts that it made just now.
    """

    files: int
    errors: int
    skipped: int
    folder: Path
    parts: int


@dataclass(frozen=True, kw_only=True)
class InParts(Generic[A]):
    """Work whose answers go into a folder, in parts: what is done is never done again, by whoever.

    asked: all that the answers depend on beside the files. answered: gives the answers to files. write: writes
    them into a file of a part.
    """

    folder: Path
    form: PartForm
    batch: int
    asked: Mapping[str, Any]
    answered: Callable[[Iterable[File]], Generator[A]]
    write: Callable[[Iterator[A], Path], None]

    def do(self, files: Files, progress: Progress | None) -> Answered:
        """What is missing of this process's parts; the first of several waits for those of the others.

        Raises UsageError where the folder has other files, or the answers of other work.
        """
        from resnets.evaluation.parts import Parts, agree, part_size

        place, all_files = world(), list(files)
        asked = {**self.asked, "files": len(all_files), "list": digest_of(all_files), "form": self.form}
        # whole batches: what is computed in fp32 depends on the batch, and must not on processes and restarts
        each = part_size(len(all_files), place, multiple=self.batch)
        each = agree(self.folder, {**asked, "batch": self.batch}, each=each, place=place)
        parts = Parts(folder=self.folder, items=len(all_files), each=each, ending=f".{self.form}")
        mine = parts.to_do(place)
        numbers = [number for part in mine for number in parts.span(part)]
        report = None if progress is None else lambda done, _: progress(done, len(numbers))
        with contextlib.closing(self.answered(all_files[number] for number in numbers)) as answers:
            made = Answers(files, answers, report)
            for part in mine:
                self.write(islice(made, len(parts.span(part))), parts.path(part))
        done, failed = made.done, made.failed
        if place.leads:
            parts.wait()
            done, failed = len(all_files), sum(_errors_in(path, self.form) for path in parts.paths())
        return Answered(files=done, errors=failed, skipped=files.skipped, folder=self.folder, parts=len(parts))


def known_form(form: str) -> PartForm:
    """The form itself. Raises UsageError for one that parts cannot have."""
    if form not in PART_FORMS:
        raise UsageError(
            f"--format must be {' or '.join(PART_FORMS)} where answers are written in parts, got {form!r}"
        )
    return form  # type: ignore[return-value]


def _errors_in(path: Path, form: PartForm) -> int:
    """How many files a part has no answer for."""
    if form == "jsonl":
        with path.open("rb") as lines:
            return sum("error" in json.loads(line) for line in lines)
    import pyarrow.parquet as pq

    with path.open("rb") as handle:  # Arrow takes no path that is not UTF-8
        column = pq.read_table(handle, columns=["error"]).column(0)
    return len(column) - int(column.null_count)
