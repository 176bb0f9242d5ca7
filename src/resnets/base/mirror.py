"""Where the files of the catalogues are taken from, if not from their publishers.

RESNETS_MIRROR=URL takes every file from URL/NAME/FILE; the checksums hold. RESNETS_CATALOGUE=FILE gives other
files, with their own checksums, for names of the catalogues of data and of weights:
`{"imagenette": {"files": [{"url": …, "sha256": …, "size": …}]}}`.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.base.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that is downloaded. sha256: its hash, or the first digits where no more is published. size: bytes."""

    url: str
    sha256: str
    size: int | None = None

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def mirrored(file: RemoteFile, name: str) -> str:
    """The URL that `file`, one of those of `name`, is taken from."""
    mirror = os.environ.get("RESNETS_MIRROR")
    return f"{mirror.rstrip('/')}/{name}/{file.name}" if mirror else file.url


def users_files() -> dict[str, tuple[tuple[RemoteFile, ...], dict[str, Any]]]:
    """Name -> the files that RESNETS_CATALOGUE gives it, and what else it states. Raises UsageError."""
    path = os.environ.get("RESNETS_CATALOGUE")
    if not path:
        return {}
    try:
        given = json.loads(Path(path).read_bytes())
        return {
            name: (tuple(_remote_file(**file) for file in values["files"]), values)
            for name, values in given.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise unusable(error) from error


def unusable(error: Exception) -> UsageError:
    """The error that says what is wrong with the file RESNETS_CATALOGUE."""
    path = os.environ.get("RESNETS_CATALOGUE")
    return UsageError(f"RESNETS_CATALOGUE={path} cannot be used: {type(error).__name__}: {error}")


def _remote_file(*, url: Any, sha256: Any, size: Any) -> RemoteFile:
    file = RemoteFile(url=str(url), sha256=str(sha256).lower(), size=int(size))
    if not re.fullmatch(r"[0-9a-f]{64}", file.sha256):
        raise ValueError(f"{file.url} needs its sha256 as 64 hexadecimal digits, got {sha256!r}")
    if not re.fullmatch(r"[\w.-]+", file.name) or file.name.startswith("."):
        raise ValueError(f"{file.url} does not end in a file's name")
    return file
