"""A folder of class folders: undivided, or inside `train` and `val` or `test` folders.

Every file is a row, beside, or stray. A row is whatever stands below a class folder, at any depth (what is no
picture is left out later, with its reason), and any picture that stands elsewhere, which is left out here.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnets.base.errors import DataError
from resnets.base.text import counted, printable, some
from resnets.data.decode import PREFIX_BYTES, DecodeError, sniff
from resnets.data.names import displayed
from resnets.data.source import MISSING, TEST, TRAIN, VAL, Listing, Picture, Traits
from resnets.labels import LABEL, Head

PART_FOLDERS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
STRAYS = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")  # and every name that begins with a dot
FILE_LIMIT = 2**30  # bytes of one encoded picture
TABLE_ENDINGS = (".csv", ".tsv")


class FolderSource:
    """Pictures in class folders.

    class_names: folder name -> shown name, for the folders it names. Folder links are not followed; links to
    files are.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str | None = None,
        traits: Traits | None = None,
        class_names: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.name = name or displayed(self.root.name) or "folder"
        self.origin = f"the folder {printable(str(self.root))}"
        self.traits = traits or Traits()
        self._class_names = dict(class_names or {})
        self._paths: list[str] = []

    def listing(self) -> Listing:
        found = _walk(self.root)
        rows = sorted(found.rows, key=lambda row: row.path)
        if not any(row.folder is not None for row in rows):
            raise DataError(_nothing(self.root, found))
        ids, notes = _classes(self.root, found)
        names = tuple(self._class_names.get(name, name) for name in ids)
        position = {name: index for index, name in enumerate(ids)}
        labels = [MISSING if row.folder is None else position.get(displayed(row.folder), MISSING) for row in rows]
        self._paths = [row.path for row in rows]
        return Listing(
            paths=list(self._paths),
            heads={LABEL: Head(ids=ids, names=names)},
            labels={LABEL: np.array(labels, dtype=np.int64)},
            parts=[row.part or TRAIN for row in rows] if found.parts else None,
            left_out={number: row.reason for number, row in enumerate(rows) if row.reason},
            strays=found.strays,
            beside=found.beside,
            notes=notes,
        )

    def read(self, row: int) -> Picture:
        return self.read_path(self._paths[row])

    def read_path(self, path: str) -> bytes:
        """A file's bytes, see `read_file`."""
        return read_file(self.root / path)

    def address(self) -> dict[str, object]:
        return {"kind": "folder", "root": str(self.root)}


def read_file(path: Path | str) -> bytes:
    """A file's bytes. Raises OSError where it cannot be read, DecodeError where it must not be."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # opening a named pipe would wait for ever
        raise DecodeError("not a regular file")
    if found.st_size > FILE_LIMIT:
        raise DecodeError(f"a file of {found.st_size:,} bytes; the limit is {FILE_LIMIT:,} bytes")
    return Path(path).read_bytes()


def or_table(root: Path) -> str:
    """The end of an advice, where a folder without class folders has a table that may hold the classes."""
    names = sorted(name for name in os.listdir(root) if name.casefold().endswith(TABLE_ENDINGS))
    if len(names) > 1:
        return f", or give the table with the classes, one of {some(names)}"
    return f", or give the table {printable(str(root / names[0]))}" if names else ""


@dataclass(frozen=True, kw_only=True)
class _Row:
    path: str
    part: str | None
    folder: str | None  # the class folder; None outside
    reason: str = ""  # why it is left out


@dataclass
class _Found:
    """What a walk has met."""

    rows: list[_Row] = field(default_factory=list)
    class_folders: dict[str | None, list[str]] = field(default_factory=dict)  # part -> names
    strays: int = 0
    beside: int = 0
    links: list[str] = field(default_factory=list)

    @property
    def parts(self) -> list[str]:
        return [part for part in self.class_folders if part is not None]


def _walk(root: Path) -> _Found:
    found = _Found()
    folders, files = _entries(root, "", found)
    divided = _part_folders(root, folders)
    if not divided:
        _refuse_a_folder_above(root, folders)
        _part(root, "", None, (folders, files), found)
        return found
    for folder, part in divided.items():
        stated = part if len(divided) > 1 or part != TRAIN else None
        _part(root, folder + "/", stated, _entries(root, folder + "/", found), found)
    reason = "a picture outside the " + ", ".join(divided) + " folder" + "s" * (len(divided) > 1)
    for path in files:
        _outside(root, path, None, reason, found)
    for folder in folders:
        if folder not in divided:
            for path in _below(root, folder + "/", found):
                _outside(root, path, None, reason, found)
    return found


def _part_folders(root: Path, folders: list[str]) -> dict[str, str]:
    """folder -> part, where the root is divided: `train` holds class folders, or there is nothing but parts.

    A folder called `train` that holds pictures is a class (of vehicles).
    """
    named = {name: PART_FOLDERS[name.casefold()] for name in folders if name.casefold() in PART_FOLDERS}
    nested = [name for name in named if _entries(root, name + "/", _Found())[0]]
    if not any(named[name] == TRAIN for name in nested) and not (nested and len(named) == len(folders)):
        if named and len(named) == len(folders):
            raise DataError(
                f"{some(list(named))} in {printable(str(root))} hold no class folders; put the pictures of each "
                f"class into a folder of its own, such as {next(iter(named))}/CLASS/"
            )
        return {}
    for name, part in named.items():
        twin = next((other for other in named if other != name and named[other] == part), None)
        if twin is not None:
            raise DataError(
                f"{printable(str(root))} has two folders for its {part} part, {some([name, twin])}; "
                "rename or move one"
            )
    return dict(sorted(named.items(), key=lambda item: (TRAIN, VAL, TEST).index(item[1])))


def _refuse_a_folder_above(root: Path, folders: list[str]) -> None:
    """Where the only folder is the divided data itself, as archives often unpack."""
    if len(folders) == 1:
        inside = root / folders[0]
        if _part_folders(inside, _entries(inside, "", _Found())[0]):
            raise DataError(
                f"{printable(str(root))} holds one folder, {some(folders)}, that is divided itself; "
                f"give {printable(str(inside))}"
            )


def _part(root: Path, prefix: str, part: str | None, entries: tuple[list[str], list[str]], found: _Found) -> None:
    """Class folders and what stands beside them in one part, or in the undivided root."""
    folders, files = entries
    names = found.class_folders.setdefault(part, [])
    for path in files:
        _outside(root, path, part, "a picture outside the class folders", found)
    for path in folders:
        name = path.removeprefix(prefix)
        names.append(name)
        found.rows += [_Row(path=file, part=part, folder=name) for file in _below(root, path + "/", found)]


def _outside(root: Path, path: str, part: str | None, reason: str, found: _Found) -> None:
    """A file outside the class folders: left out if it is a picture, else beside."""
    try:
        if not stat.S_ISREG(os.stat(root / path).st_mode):
            found.beside += 1
            return
        with open(root / path, "rb") as handle:
            picture = sniff(handle.read(PREFIX_BYTES))
    except OSError:
        picture = None  # what cannot be read outside the class folders is no picture of the data
    if picture is None:
        found.beside += 1
    else:
        found.rows.append(_Row(path=path, part=part, folder=None, reason=reason))


def _below(root: Path, prefix: str, found: _Found) -> Iterator[str]:
    """Every file below a folder, at any depth."""
    waiting = [prefix]
    while waiting:
        folders, files = _entries(root, waiting.pop(), found)
        yield from files
        waiting += [folder + "/" for folder in folders]


def _entries(root: Path, prefix: str, found: _Found) -> tuple[list[str], list[str]]:
    """The folders and files in a folder, as sorted paths from the root; strays and links are counted."""
    folders, files = [], []
    try:
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.name.startswith(".") or entry.name.casefold() in STRAYS:
                    found.strays += 1
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_symlink() and entry.is_dir():
                    found.links.append(path)
                else:
                    files.append(path)
    except OSError as error:
        where = printable(str(root / prefix))
        raise DataError(f"the folder {where} cannot be listed: {error.strerror}; make it readable") from error
    return sorted(folders), sorted(files)


def _classes(root: Path, found: _Found) -> tuple[tuple[str, ...], list[str]]:
    """Class ids in code point order, made from the training part, and what is to be said of the parts."""
    held: dict[str | None, set[str]] = {part: set() for part in found.class_folders}
    for row in found.rows:
        if row.folder is not None:
            held[row.part].add(row.folder)
    leading = next(part for part in (TRAIN, None, VAL, TEST) if part in held)
    known = set().union(*held.values()) if leading in (VAL, TEST) else held[leading]
    notes = []
    for part, names in held.items():
        where = f"{part} of {printable(str(root))}" if part else printable(str(root))
        unknown = sorted(names - known)
        if unknown:
            raise DataError(
                f"{where} has the class {some(unknown)} that train lacks (train has {some(sorted(known), 10)}); "
                "rename the folder as in train, or move it away"
            )
        empty = sorted(set(found.class_folders[part]) - names)
        if empty:
            notes.append(f"no class is made of empty folders in {where}: {some(empty)}")
        if not names:
            notes.append(f"{where} holds no class folder with files")
    if found.links:
        notes.append(f"folder links are not followed: {some(sorted(found.links))}")
    ids = tuple(displayed(name) for name in sorted(known))
    return ids, notes


def _nothing(root: Path, found: _Found) -> str:
    where = printable(str(root))
    if found.rows:
        return (
            f"{where} holds {counted(len(found.rows), 'picture')} outside class folders; put those of each class "
            f"into a folder of its own{or_table(root)}, or use `resnets predict` for pictures without classes"
        )
    folders = sorted(name for names in found.class_folders.values() for name in names)
    held = f"only empty folders ({some(folders)})" if folders else "no class folders"
    linked = f" and links to folders, which are not followed ({some(found.links)})" if found.links else ""
    return f"{where} holds {held}{linked}; put the pictures of each class into a folder of its own"
