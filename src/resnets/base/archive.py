"""Archives (tar, tar.gz, zip) unpacked without trust: beside the place and renamed, or not at all.

A member is a regular file or a folder inside the archive's own folder; links, devices, absolute paths, `..`,
two members of one name and encrypted or sparse members are refused, and so is an archive that grows beyond
four times its declared size or has more than three million members. Modes, owners and times are not taken over.
"""

import errno
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from resnets.base.download import locked
from resnets.base.errors import DataError, OutOfSpace
from resnets.base.files import sync

Progress = Callable[[int, int | None], None]  # bytes of the archive that are done, bytes in all

GROWTH = 4  # unpacked bytes for one declared byte
MEMBERS = 3_000_000
HEADER_BYTES = 1 << 20  # the most of a tar that is read at once: a very long name, or what pads its end
CHUNK_BYTES = 1 << 18

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)


def unpack(archive: Path, folder: Path, *, declared_size: int, progress: Progress | None = None) -> Path:
    """Unpack `archive` into the new folder `folder`; a folder that is already there is left as it is.

    declared_size: the bytes that its maker says it has; more than four times as many are not written.
    Raises DataError that names the member, and OutOfSpace; nothing is left behind then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if folder.exists():
            return folder
        beside = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(beside, ignore_errors=True)  # left by a process that was killed
        try:
            beside.mkdir(mode=0o700)
            _write_members(archive, beside, limit=GROWTH * declared_size, progress=progress)
            os.sync()  # thousands of files: one call, not one a file
            os.replace(beside, folder)
            sync(folder.parent)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutOfSpace(
                    f"no space left on the disk while unpacking {archive} into {folder}; nothing of it was kept: "
                    "free some space and run the same again"
                ) from error
            raise DataError(f"{archive} cannot be unpacked into {folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member of an archive, as its header describes it; `problem` says why it is refused.

    offset: where its bytes begin in a tar that is not compressed.
    """

    name: str
    size: int
    folder: bool
    problem: str | None
    open: Callable[[], Any]
    offset: int = 0


def _write_members(archive: Path, root: Path, *, limit: int, progress: Progress | None) -> None:
    written = count = 0
    name = "its beginning"
    total = archive.stat().st_size
    try:
        with archive.open("rb") as raw:
            for member in _members(raw):
                name, count, written = member.name, count + 1, written + member.size
                problem = problem_of(member)
                if problem is None and count > MEMBERS:
                    problem = f"is one more than {MEMBERS:,} members"
                if problem is None and written > limit:
                    problem = f"makes it more than {limit:,} bytes, {GROWTH} times its declared size"
                if problem is not None:
                    raise DataError(
                        f"{archive} is not unpacked: its member {name!r} {problem}; get it from its maker"
                    )
                _write_member(member, root.joinpath(*PurePosixPath(name).parts))
                if progress is not None:
                    progress(min(raw.tell(), total), total)
    except DAMAGED as error:
        raise DataError(f"{archive} is damaged at {name!r} ({error}); remove it and get it again") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            f"{archive} is not unpacked: its member {name!r} has the place of another; get it from its maker"
        ) from error


def problem_of(member: Member) -> str | None:
    """Why a member is not taken: what it is, or where it would go."""
    path = PurePosixPath(member.name)
    if member.problem is not None:
        return member.problem
    if member.size < 0:
        return "has a negative size"
    if path.is_absolute() or member.name[1:2] == ":":
        return "has an absolute path"
    if ".." in path.parts:
        return "has a path with '..'"
    if "\\" in member.name or "\0" in member.name:
        return "has a path with a backslash or a zero"
    return None


def _write_member(member: Member, place: Path) -> None:
    if member.folder:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as content, place.open("xb") as handle:
        shutil.copyfileobj(content, handle, CHUNK_BYTES)
    if place.stat().st_size != member.size:
        raise EOFError(f"it has {place.stat().st_size:,} bytes, not {member.size:,}")


def _members(raw: IO[bytes]) -> Iterator[Member]:
    """The members of an archive, whose kind its first bytes say."""
    magic = raw.read(4)
    raw.seek(0)
    if magic.startswith(b"PK"):
        return _zip_members(raw)
    return tar_members(gzip.GzipFile(fileobj=raw) if magic.startswith(b"\x1f\x8b") else raw)


def tar_members(raw: Any) -> Iterator[Member]:
    """The members of a tar, its headers alone. Raises one of DAMAGED where something else than its end follows."""
    small: Any = _SmallReads(raw)
    with tarfile.open(fileobj=small, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        while (entry := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else all headers of a large archive stay in memory
            problem = None
            if entry.issym() or entry.islnk():
                problem = "is a link"
            elif entry.issparse():
                problem = "is a sparse file"
            elif not entry.isreg() and not entry.isdir():
                problem = "is a device or another special file"
            content = partial(tar.extractfile, entry)
            yield Member(
                name=entry.name,
                size=entry.size,
                folder=entry.isdir(),
                problem=problem,
                open=content,
                offset=entry.offset_data,
            )
        small.seek(tar.offset)
        end = small.read(HEADER_BYTES)  # to the end, so that gzip checks its sum
        if len(end) < tarfile.BLOCKSIZE or end.count(0) != len(end) or small.read(1):
            raise tarfile.ReadError("what follows is no member and no end")  # tarfile takes it for the end


class _SmallReads:
    """A file that refuses to read much at once: tar headers are read whole, and may claim any length."""

    def __init__(self, raw: Any) -> None:
        self.seek, self.tell, self._read = raw.seek, raw.tell, raw.read

    def read(self, size: int) -> bytes:
        if size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return bytes(self._read(size))


def _zip_members(raw: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as archive:
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)  # zero where the archive was not made on Unix
            problem = None
            if stat.S_ISLNK(kind):
                problem = "is a link"
            elif kind and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                problem = "is a device or another special file"
            elif entry.flag_bits & 1:
                problem = "is encrypted"
            yield Member(
                name=entry.filename,
                size=entry.file_size,
                folder=entry.is_dir(),
                problem=problem,
                open=partial(archive.open, entry),
            )
