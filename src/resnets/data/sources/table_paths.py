"""A table's column of paths: which files its cells name, and that they stay inside the root."""

import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnets.base.errors import DataError
from resnets.base.text import printable, some

SAMPLE = 64  # cells that are looked at, spread over a column
LOOKED_AT = 2000  # where none of these names a file
ENDINGS = ("", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
BESIDE = 50  # folders in the root that are searched to say where the files are


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a cell becomes a path: with `/` for its backslashes, and with an ending behind it."""

    slashes: bool = False
    ending: str = ""

    def __call__(self, cell: str) -> str:
        return (cell.replace("\\", "/") if self.slashes else cell) + self.ending

    def __str__(self) -> str:
        words = ["backslashes read as /"] * self.slashes + [f"with {self.ending} behind it"] * bool(self.ending)
        return " and ".join(words)


READINGS = tuple(Reading(slashes=slashes, ending=ending) for slashes in (False, True) for ending in ENDINGS)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The files that a column names: from the root, None where a row is left out. names: one a row, unique."""

    names: list[str]
    files: list[str | None]
    left_out: dict[int, str]
    notes: list[str]


def spread(cells: Sequence[str | None]) -> list[str]:
    """Up to SAMPLE cells that are not empty, evenly over the column."""
    step = max(1, len(cells) // SAMPLE)
    found = [cell for cell in cells[::step] if cell]
    return found[: 2 * SAMPLE] or [cell for cell in cells if cell][:SAMPLE]


def best_reading(cells: Iterable[str], root: Path) -> tuple[Reading, int]:
    """The reading by which most of the cells name files, and how many do."""
    cells = list(cells)
    best, most = READINGS[0], 0
    for reading in READINGS:
        if reading.slashes and not any("\\" in cell for cell in cells):
            break
        there = sum(_is_file(root, reading(cell)) for cell in cells)
        if there > most:
            best, most = reading, there
        if most == len(cells):
            break
    return best, most


def names_a_file(cells: Sequence[str], root: Path) -> bool:
    """Whether any of LOOKED_AT cells, spread over the column, names a file as it stands."""
    step = max(1, len(cells) // LOOKED_AT)
    return any(_is_file(root, cell) for cell in cells[::step])


def folder_beside(cells: Sequence[str], root: Path) -> Path | None:
    """A folder in the root from which the cells would name files."""
    try:
        folders = sorted(entry.path for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        return None
    return next((Path(path) for path in folders[:BESIDE] if best_reading(cells[:4], Path(path))[1]), None)


def picture_paths(
    cells: Sequence[str | None], root: Path, reading: Reading, *, allow_outside: bool, where: str
) -> Paths:
    """The path of every row from the root, as the file system has it.

    A row without a path is left out; a path that another row has is a row of its own, called `PATH#2`. Raises
    DataError where a path leads out of the root, by itself or by a link to a folder, and that is not allowed.
    """
    left_out: dict[int, str] = {}
    files: list[str | None] = []
    prefix = str(root).rstrip("/") + "/"
    for row, cell in enumerate(cells):
        if cell is None or not cell.strip() or "\0" in cell:
            left_out[row] = "the table states no path for it" if cell is None or not cell.strip() else "no path"
            files.append(None)
            continue
        path = posixpath.normpath(reading(cell))
        files.append(path.removeprefix(prefix) if path.startswith(prefix) else path)
    if not allow_outside:
        _refuse_outside(files, root, where)
    names, again = _unique(files)
    notes = (
        [f"pictures that two rows of {where} name, kept as rows: {len(again)} ({some(again)})"] if again else []
    )
    return Paths(names=names, files=files, left_out=left_out, notes=notes)


def _is_file(root: Path, path: str) -> bool:
    try:
        return os.path.isfile(os.path.join(root, path))
    except ValueError:  # a NUL byte
        return False


def _refuse_outside(files: Sequence[str | None], root: Path, where: str) -> None:
    folders: dict[str, bool] = {}
    real = os.path.realpath(root)
    outside = []
    for path in files:
        if path is None:
            continue
        folder = posixpath.dirname(path)
        if folder not in folders:
            folders[folder] = _leads_out(folder, path, root, real)
        if folders[folder] or path == "..":
            outside.append(path)
    if outside:
        raise DataError(
            f"paths of {where} that lead out of {printable(str(root))}: {len(outside)} ({some(outside)}); give "
            "--root the folder that holds them, or --allow-outside"
        )


def _leads_out(folder: str, path: str, root: Path, real: str) -> bool:
    if path.startswith("/") or folder == ".." or folder.startswith("../"):
        return True
    place = os.path.realpath(os.path.join(root, folder))
    return place != real and not place.startswith(real.rstrip("/") + "/")


def _unique(files: Sequence[str | None]) -> tuple[list[str], list[str]]:
    """A name for every row that no other has, and the paths that occur again."""
    taken = {path for path in files if path is not None}
    last: dict[str, int] = {}
    names = []
    for row, path in enumerate(files):
        name = path if path is not None else f"row {row + 1}"
        if name in last or (path is None and name in taken):
            number = last.get(name, 1) + 1
            while f"{name}#{number}" in taken:
                number += 1
            last[name] = number
            name = f"{name}#{number}"
            taken.add(name)
        else:
            last[name] = 1
        names.append(name)
    return names, [path for path, number in last.items() if number > 1]
