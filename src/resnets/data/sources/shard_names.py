"""Which tar files are meant by a folder or by a pattern such as `train-{000000..000009}.tar`, and their parts."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from resnets.base.errors import DataError, UsageError
from resnets.base.text import printable, some
from resnets.data.source import PARTS
from resnets.data.sources.folder import PART_FOLDERS, STRAYS

PATTERN_LIMIT = 1_000_000  # names that a pattern may stand for

_SHARD = re.compile(r"\.(tar(\.(gz|bz2|xz|zst|lz4))?|tgz|tbz2?|txz)$", re.IGNORECASE)
_PART = re.compile(rf"(?:^|[-_.])({'|'.join(PART_FOLDERS)})[-_.]", re.IGNORECASE)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def is_shard(path: Path) -> bool:
    """Whether a file is a tar by its name, compressed or not."""
    return _SHARD.search(path.name) is not None


def is_pattern(text: str) -> bool:
    """Whether a text names several tar files, as `train-{000000..000009}.tar` does."""
    return _BRACES.search(text) is not None and _SHARD.search(text) is not None


def shard_files(folder: Path) -> list[Path]:
    """The tar files that make a folder a source; none where it is something else.

    They are its own where no folders stand beside them, or those of its part folders where it has no others.
    """
    folders, files = _entries(folder)
    shards = [file for file in files if is_shard(file)]
    if shards or not folders:
        return [] if folders else shards
    inside = []
    for part in folders:
        if part.name.casefold() not in PART_FOLDERS:
            return []
        deeper, files = _entries(part)
        shards = [file for file in files if is_shard(file)]
        if deeper or not shards:
            return []
        inside += shards
    return inside


def expanded(pattern: str) -> list[str]:
    """The names that a pattern stands for: `{000..002}` counts up with these digits, `{a,b}` lists.

    Raises UsageError for braces with something else in them, and for more names than PATTERN_LIMIT.
    """
    names = [""]
    position = 0
    for match in _BRACES.finditer(pattern):
        items = _items(match[1], pattern)
        if len(names) * len(items) > PATTERN_LIMIT:
            raise _too_many(pattern)
        begin = pattern[position : match.start()]
        names = [name + begin + item for name in names for item in items]
        position = match.end()
    return [name + pattern[position:] for name in names]


def part_of(relative: str) -> str | None:
    """The part that a file's name states, else its folder's."""
    folder, _, name = relative.rpartition("/")
    match = _PART.search(name)
    return PART_FOLDERS[match[1].casefold()] if match else PART_FOLDERS.get(folder.rpartition("/")[2].casefold())


def named_shards(given: Path) -> tuple[Path, list[Path]]:
    """The folder that paths start from, and the files that are named. Raises UsageError where one is not there."""
    if given.is_dir():
        return given, shard_files(given)
    if given.exists() or not is_pattern(str(given)):
        files = [given]
        folder = given.parent
    else:
        files = [Path(name) for name in expanded(str(given))]
        folder = Path(os.path.dirname(str(given).partition("{")[0]))
    lacking = [str(file) for file in files if not file.exists()]
    if lacking:
        raise UsageError(
            f"there is no shard {some(lacking)}; check the names that {printable(str(given))} stands for"
        )
    return folder, files


def used_shards(folder: Path, files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files in the order of their parts; those of no part beside others that have one are named."""
    if not files:
        raise DataError(f"{printable(str(folder))} holds no tar files")
    parts = {file: part_of(os.path.relpath(file, folder)) for file in sorted(set(files))}
    named = [file for file, part in parts.items() if part]
    unused = [file.name for file in parts if named and file not in named]
    notes = [f"not used, for the name states no part (train, val, test): {some(unused)}"] if unused else []
    used = sorted(named or parts, key=lambda file: PARTS.index(parts[file] or PARTS[0]))
    return used, notes


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in a folder, sorted, without strays."""
    try:
        entries = sorted((entry for entry in os.scandir(folder)), key=lambda entry: entry.name)
    except OSError as error:
        where = printable(str(folder))
        raise DataError(f"the folder {where} cannot be listed: {error.strerror}; make it readable") from error
    seen = [entry for entry in entries if not is_stray(entry.name)]
    folders = [Path(entry.path) for entry in seen if entry.is_dir()]
    return folders, [Path(entry.path) for entry in seen if entry.is_file()]


def _items(inside: str, pattern: str) -> list[str]:
    counted = _RANGE.fullmatch(inside)
    if counted is None:
        if "," not in inside:
            raise UsageError(
                f"{{{printable(inside)}}} in {printable(pattern)} must be a range such as {{000000..000009}}, or "
                "a list such as {train,val}"
            )
        return inside.split(",")
    first, last = int(counted[1]), int(counted[2])
    if last - first >= PATTERN_LIMIT:
        raise _too_many(pattern)
    if last < first:
        raise UsageError(f"the range {inside} in {printable(pattern)} counts down; give the lower number first")
    return [f"{number:0{len(counted[1])}d}" for number in range(first, last + 1)]


def _too_many(pattern: str) -> UsageError:
    return UsageError(f"{printable(pattern)} stands for more than {PATTERN_LIMIT:,} files; give their folder")


def is_stray(name: str) -> bool:
    return name.startswith(".") or name.casefold() in STRAYS
