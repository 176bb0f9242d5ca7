"""Files that are never half-written, their hashes, and the cache folder."""

import contextlib
import errno
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from resnets.base.errors import OutOfSpace, UsageError

CONTENT_BYTES = 16  # blake2b-128: what identifies a picture's content


@contextlib.contextmanager
def replacing(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """Yield a path beside `path`; when the block ends well, flush what was written there and rename it.

    When the block fails, the new file is removed and `path` is as it was. A full disk raises OutOfSpace; a folder
    in the file's place raises IsADirectoryError before the block begins.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part{suffix}")
    try:
        yield beside
        sync(beside)
        os.replace(beside, path)
        sync(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"no space left on the disk while writing {path}; what was there before is unchanged: "
                "free some space and try again"
            ) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing (see `replacing`)."""
    with replacing(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 file or nothing; surrogates (names that are not UTF-8) are escaped."""
    write_bytes(path, content.encode("utf-8", errors="backslashreplace"))


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        return  # folders cannot be opened on some systems; the rename itself is still atomic
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def content_hash(content: bytes | memoryview) -> bytes:
    """The 16 bytes (blake2b-128) that stand for a picture's content in every manifest."""
    return hashlib.blake2b(content, digest_size=CONTENT_BYTES).digest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def cache_folder(*parts: str) -> Path:
    """A private folder (mode 0700) under RESNETS_CACHE or the platform's cache folder; made when asked for.

    Raises UsageError where it cannot be made.
    """
    chosen = os.environ.get("RESNETS_CACHE")
    if chosen:
        root = Path(chosen)
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches" / "resnets"
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "resnets"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnets"
    folder = root.joinpath(*parts)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the cache folder {folder} cannot be made ({error.strerror}); "
            "set RESNETS_CACHE to a folder that can be written"
        ) from error
    return folder
