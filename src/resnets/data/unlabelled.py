"""Pictures without labels: what paths name (files, folders, patterns, shards), and their pixels, in order."""

import glob
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from resnets.base.errors import DataError, UsageError
from resnets.data.decode import PREFIX_BYTES, DecodeError, sniff
from resnets.data.names import name_bytes
from resnets.data.pack import prepared
from resnets.data.source import Picture
from resnets.data.sources.folder import read_file
from resnets.data.sources.shard_names import expanded, is_pattern, is_stray
from resnets.data.sources.shards import LABEL_ALONE, PICTURES, Row, Shard, index_shard
from resnets.preprocess import Pixels, Preprocess

ENDINGS = frozenset(f".{ending}" for ending in PICTURES)
SHARD_ENDING = ".tar"


@dataclass(frozen=True, slots=True)
class File:
    """A picture by its path, or the reason why there is none. member: where it lies in a shard of that path."""

    path: str
    reason: str = ""
    member: tuple[Shard, Row] | None = None

    def read(self) -> Picture:
        """Its bytes. Raises OSError where they cannot be read, DecodeError where they must not be."""
        if self.reason:
            raise DecodeError(self.reason)
        if self.member is not None:
            shard, row = self.member
            return shard.read(row)
        try:
            return read_file(self.path)
        except DecodeError:
            raise
        except ValueError as error:
            raise DecodeError("no file can have this name") from error


class Files(Iterator[File]):
    """The files that paths name, one by one; of a shard its members, as `shard.tar/000001.jpg`.

    paths: files, shards, folders (all pictures below, sorted; of a folder without pictures, the shards below) and
    patterns (`*.jpg`, `{000..009}.tar`), read as they are needed. skipped: files in folders and shards that are
    not read. known: how many files there are, once that is known.
    """

    def __init__(self, paths: Path | str | Iterable[Path | str]) -> None:
        self.skipped = 0
        self.known: int | None = None
        self._count = 0
        self._files = self._named([paths] if isinstance(paths, str | Path) else paths)

    def __next__(self) -> File:
        try:
            file = next(self._files)
        except StopIteration:
            self.known = self._count
            raise
        self._count += 1
        return file

    def _named(self, paths: Iterable[Path | str]) -> Iterator[File]:
        for given in paths:
            path = os.fspath(given)
            if not is_pattern(path) or os.path.lexists(path):
                yield from self._named_by(path)
                continue
            try:
                names = expanded(path)
            except UsageError as error:
                yield File(path, str(error))
                continue
            for name in names:
                yield from self._named_by(name)

    def _named_by(self, path: str) -> Iterator[File]:
        if os.path.lexists(path) or not glob.has_magic(path):
            yield from self._at(path)
        else:
            yield from self._matching(path)

    def _at(self, path: str) -> Iterator[File]:
        if os.path.isdir(path):
            yield from self._below(path)
        elif _is_shard(path):
            members = self._members(path)
            yield next(members, File(path, "no pictures in this shard"))
            yield from members
        else:
            yield File(path)

    def _matching(self, pattern: str) -> Iterator[File]:
        found = sorted(glob.iglob(pattern, recursive=True))
        if not found:
            yield File(pattern, "no file matches this pattern")
        for path in found:
            yield from self._at(path)

    def _below(self, folder: str) -> Iterator[File]:
        """All pictures below a folder, sorted within each folder, files before folders; links are not followed."""
        found = False
        shards: list[str] = []
        refused: list[OSError] = []
        for root, folders, names in os.walk(folder, onerror=refused.append):
            folders[:] = sorted(name for name in folders if not is_stray(name))
            for name in sorted(names):
                path = os.path.join(root, name)
                if not is_stray(name) and _is_meant(path):
                    found = True
                    yield File(path)
                elif not is_stray(name) and _is_shard(path):
                    shards.append(path)
                else:
                    self.skipped += 1
        if found:  # an archive beside pictures may hold the same ones
            self.skipped += len(shards)
            shards = []
        for shard in shards:
            for file in self._members(shard):
                found = True
                yield file
        for error in refused:
            yield File(os.fspath(error.filename), f"cannot be listed: {error.strerror}")
        if not found and not refused:
            yield File(folder, "no pictures in this folder")

    def _members(self, path: str) -> Iterator[File]:
        """The pictures of a shard in its order, whatever their labels; what must not be read has its reason."""
        try:
            shard = index_shard(Path(path), labels=False)
        except DataError as error:
            yield File(path, str(error))
            return
        rows = [row for row in shard.rows if row.reason != LABEL_ALONE]
        self.skipped += shard.strays + shard.beside + len(shard.rows) - len(rows)
        for row in rows:
            yield File(path + row.path, row.reason if row.offset < 0 else "", (shard, row))


def digest_of(files: Iterable[File]) -> str:
    """Hexadecimal, of the files in their order, by their whole paths."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(name_bytes(os.path.abspath(file.path)) + b"\0" + name_bytes(file.reason) + b"\0")
    return digest.hexdigest()


def prepared_files(
    files: Iterable[File], preprocess: Preprocess, *, ahead: int, threads: int
) -> Iterator[tuple[str, Pixels | None, str]]:
    """(path, pixels (H, W, C), "") or (path, None, reason), in order; at most `ahead` pictures are in memory."""
    waiting: deque[tuple[str, Future[tuple[Pixels | None, str]]]] = deque()
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="decode")
    try:
        for file in files:
            waiting.append((file.path, pool.submit(_pixels, file, preprocess)))
            if len(waiting) >= ahead:
                first, task = waiting.popleft()
                yield first, *task.result()
        while waiting:
            first, task = waiting.popleft()
            yield first, *task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(file: File, preprocess: Preprocess) -> tuple[Pixels | None, str]:
    """A picture as the network takes it, or None and the reason."""
    try:
        return prepared(file.read(), preprocess), ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
    except DataError as error:
        return None, str(error)


def _is_shard(path: str) -> bool:
    """Whether a file says that it is a tar and does not begin as a picture."""
    return path.lower().endswith(SHARD_ENDING) and os.path.isfile(path) and not _begins_as_picture(path)


def _is_meant(path: str) -> bool:
    """Whether a file of a folder is a picture by its content, or claims to be one by its ending."""
    if os.path.splitext(path)[1].lower() in ENDINGS:
        return True
    return os.path.isfile(path) and _begins_as_picture(path)  # opening a named pipe would wait for ever


def _begins_as_picture(path: str) -> bool:
    try:
        with open(path, "rb") as handle:
            return sniff(handle.read(PREFIX_BYTES)) is not None
    except OSError:
        return False
