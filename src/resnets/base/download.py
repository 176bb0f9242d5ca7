"""Downloads: resumed after a break, checked by hash before anything opens a byte, and kept in the cache.

A download is written beside its place as `.NAME.part`, checked, flushed and renamed. A part that was left
behind, by a dropped connection, Ctrl-C or a full disk, is gone on with by the next call. https alone; http is
allowed on loopback hosts, for tests; a redirect must keep to the same rule.
"""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import ipaddress
import logging
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from resnets._version import VERSION
from resnets.base.errors import DownloadError, OutOfSpace, ResnetsError
from resnets.base.files import sync

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where that is known

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)  # before a further try; one more failure in a row ends the download
COUNT_ANEW_BYTES = 1 << 20  # a connection that brought this much was no failed try
FEWEST_DIGITS = 8  # of a hash, as in the file names of torchvision's weights
NO_WAY_THERE = (errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH)
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses after which another try may help

log = logging.getLogger("resnets")


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Have `url` at `path` with the hash that was given (hexadecimal; sha256, or md5 where no other is known).

    Of a hash, the first digits are enough, eight at least: some publishers state no more.

    A file that is already at `path` is checked, and used without the network. `size` is in bytes; a server
    that offers another size is refused at once. Two processes that ask for one file download it once.
    Raises DownloadError (with both hashes, or with the way to put the file there by hand) and OutOfSpace.
    """
    algorithm, wanted = ("sha256", sha256) if sha256 is not None else ("md5", md5)
    if wanted is None or len(wanted) < FEWEST_DIGITS:
        raise TypeError("download() needs the file's sha256 or md5")
    if not _is_allowed(url):
        raise DownloadError(f"{url} is not downloaded: only https is (http on this machine alone)")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if path.exists():
                _check_what_is_there(path, url, algorithm, wanted)
            else:
                _fetch(url, part, path=path, size=size, progress=progress)
                _check_what_came(part, url, algorithm, wanted, path=path)
                sync(part)
                os.replace(part, path)
                sync(path.parent)
    except ResnetsError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"no space left on the disk while downloading {url} to {path}; free some space and run the same "
                "again: it goes on from there"
            ) from error
        raise DownloadError(
            f"cannot write {path} ({error.strerror}); set RESNETS_CACHE to a folder that can be written"
        ) from error
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process makes `path`; the lock is a file beside it, let go however a process ends."""
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another process is making %s; waiting for it", path)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_what_is_there(path: Path, url: str, algorithm: str, wanted: str) -> None:
    """A file that was found, perhaps put there by hand, is never deleted."""
    found = _hash(path, algorithm)
    if not found.startswith(wanted.lower()):
        raise DownloadError(
            f"{path} has the {algorithm} {found}, not {wanted}; remove it, or put there what {url} has"
        )


def _check_what_came(part: Path, url: str, algorithm: str, wanted: str, *, path: Path) -> None:
    found = _hash(part, algorithm)
    if not found.startswith(wanted.lower()):
        part.unlink()
        raise DownloadError(
            f"{url} gave wrong bytes: {algorithm} {found}, not {wanted}; they were deleted: try again, or put the "
            f"right file at {path}"
        )


class _OtherFile(Exception):
    """What the server offers is not the file that was declared."""


class _Dropped(Exception):
    """The connection failed or ended before the last byte; another may go on."""


class _Unreachable(Exception):
    """No connection can be made; trying again at once is no use."""


def _fetch(url: str, part: Path, *, path: Path, size: int | None, progress: Progress | None) -> None:
    """Fill `part` until it is complete, over as many connections as it takes."""
    by_hand = f"download it by hand and put it at {path}, or try again later"
    if size is not None:
        _refuse_without_space(url, part, size)
    failures = 0
    while True:
        before = _length(part)
        try:
            return _fetch_once(url, part, size=size, progress=progress)
        except _OtherFile as error:
            part.unlink(missing_ok=True)
            raise DownloadError(f"{url} is not the file that was expected ({error}); {by_hand}") from error
        except _Unreachable as error:
            raise DownloadError(f"{url} cannot be reached ({error}); {by_hand}") from error
        except _Dropped as error:
            reason = str(error)
        failures = 1 if _length(part) - before >= COUNT_ANEW_BYTES else failures + 1
        if failures > len(PAUSES_SECONDS):
            raise DownloadError(f"{url} cannot be had ({failures} tries, the last: {reason}); {by_hand}")
        log.info("%s: %s; going on in %.1f s", url, reason, PAUSES_SECONDS[failures - 1])
        time.sleep(PAUSES_SECONDS[failures - 1])


def _fetch_once(url: str, part: Path, *, size: int | None, progress: Progress | None) -> None:
    """Go on with `part` over one connection."""
    have = _length(part)
    if size is not None and have >= size:
        if have == size:
            return
        part.unlink()
        have = 0
    with _connect(url, part, have) as response:
        if response.status == 206 and not _goes_on_at(response, have):
            part.unlink(missing_ok=True)
            raise _Dropped("the server sent another part of the file than was asked for")
        if response.status != 206:
            have = 0  # a server without Range sends the whole file
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdecimal() else size
        if size is not None and total != size:
            raise _OtherFile(f"it has {total:,} bytes, not {size:,}")
        with part.open("r+b" if have else "wb") as handle:
            handle.seek(have)
            _copy(response, handle, have=have, total=total, progress=progress)


def _connect(url: str, part: Path, have: int) -> Any:
    """The server's answer to a request for the bytes from `have` on."""
    headers = {"User-Agent": f"resnets/{VERSION}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        return _opener(url).open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code == 416 and have:
            part.unlink()  # what is here is no beginning of what the server has
            raise _Dropped(reason) from error
        raise (_Dropped if error.code in BUSY else _Unreachable)(reason) from error
    except DownloadError:
        raise  # a redirect that is not followed
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, socket.gaierror | ssl.SSLCertVerificationError):
            raise _Unreachable(_reason(cause)) from error
        if isinstance(cause, OSError) and cause.errno in NO_WAY_THERE:
            raise _Unreachable(_reason(cause)) from error
        raise _Dropped(_reason(cause)) from error


def _copy(response: Any, handle: IO[bytes], *, have: int, total: int | None, progress: Progress | None) -> None:
    """Append the response to the file, up to its last byte."""
    done = have
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _Dropped(_reason(error)) from error
        if not chunk:
            break
        done += len(chunk)
        if total is not None and done > total:
            raise _OtherFile(f"it has more than {total:,} bytes")
        handle.write(chunk)
        if progress is not None:
            progress(done, total)
    if total is not None and done < total:
        raise _Dropped(f"the connection ended after {done:,} of {total:,} bytes")


def _goes_on_at(response: Any, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _reason(cause: object) -> str:
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _refuse_without_space(url: str, part: Path, size: int) -> None:
    free, needed = shutil.disk_usage(part.parent).free, size - _length(part)
    if needed > free:
        raise OutOfSpace(
            f"{url} needs {needed / 1e9:.1f} GB in {part.parent}, where {free / 1e9:.1f} GB are free; free some "
            "space, or set RESNETS_CACHE to a folder on another disk"
        )


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _is_allowed(url: str) -> bool:
    """https, or http on a loopback host."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _SameRule(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to where a download may go, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _is_allowed(newurl) or (req.type == "https" and not newurl.startswith("https:")):
            fp.close()
            raise DownloadError(f"{req.full_url} leads to {newurl!r}, which is not followed: only https is")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    """urllib with the redirect rule; the user's proxy settings hold, except for this machine itself."""
    if _is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        return urllib.request.build_opener(_SameRule, urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(_SameRule)
