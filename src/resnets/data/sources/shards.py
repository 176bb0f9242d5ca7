"""WebDataset shards: local tar files in which a picture `KEY.jpg` and `KEY.cls` or `KEY.json` are a sample.

Every shard is indexed once, header by header; from then on a picture is one read at an offset, and shards are as
any other source. Raw bytes alone: nothing is piped, decoded by its ending or unpickled. What a tar may hold beside
plain files inside it (links, devices, paths that lead outside, sparse files) is left out by name.
"""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from resnets.base.archive import DAMAGED, MEMBERS, Member, problem_of, tar_members
from resnets.base.errors import DataError
from resnets.base.text import printable
from resnets.data.decode import PREFIX_BYTES, DecodeError, sniff
from resnets.data.names import displayed
from resnets.data.source import Listing, Picture, Traits
from resnets.data.sources.folder import FILE_LIMIT
from resnets.data.sources.shard_labels import CLASS_FILES, LABEL_BYTES, label_of, labels_of, read_classes
from resnets.data.sources.shard_names import is_shard, is_stray, named_shards, part_of, used_shards

MANIFEST = "manifest.parquet"  # what the writer puts beside its shards
PICTURES = frozenset(("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"))
LABELS = ("cls", "json")  # the first that a sample has is its label

CUT = "the shard ends before it does"
LABEL_ALONE = "a label without a picture"

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")


class ShardSource:
    """A tar file, a folder of them (or of `train`, `val`, `test` folders with them), or a pattern such as
    `train-{000000..000009}.tar`.

    A file's part is what its name says (`train-000000.tar`, `birds-val-3.tar`), else its folder's. Classes are
    those of `classes.json` or `classes.txt` beside the shards, else the labels by value.
    """

    def __init__(self, given: Path, *, name: str | None = None, traits: Traits | None = None) -> None:
        self.given = Path(os.path.abspath(given))
        self.folder, files = named_shards(self.given)
        self._files, self._notes = used_shards(self.folder, files)
        self._classes = read_classes(self.folder)
        self.name = name or displayed(self._default_name())
        self.origin = f"the shards {printable(str(self.given))}"
        self.traits = traits or self._classes.traits or Traits()
        self._shards: list[Shard] = []
        self._starts = np.zeros(1, dtype=np.int64)

    def listing(self) -> Listing:
        pool = ThreadPoolExecutor(max_workers=min(16, 2 * (os.cpu_count() or 1)), thread_name_prefix="index")
        try:
            shards = list(pool.map(index_shard, self._files))
        finally:
            pool.shutdown(cancel_futures=True)
        self._shards, self._starts = shards, np.cumsum([0, *(len(shard.rows) for shard in shards)])
        rows = [row for shard in shards for row in shard.rows]
        if rows and all(row.reason for row in rows):
            raise DataError(f"{self.origin} hold no picture that can be used: {rows[0].path} ({rows[0].reason})")
        of = [part_of(self._relative(shard.path)) for shard in shards]
        parts = [part or "" for part, shard in zip(of, shards, strict=True) for _ in shard.rows]
        stated = parts if all(of) else None
        heads, labels, notes = labels_of([row.label for row in rows], stated, self._classes, where=self.origin)
        return Listing(
            paths=[f"{self._relative(shard.path)}{row.path}" for shard in shards for row in shard.rows],
            heads=heads,
            labels=labels,
            parts=stated,
            left_out={number: row.reason for number, row in enumerate(rows) if row.reason},
            strays=sum(shard.strays for shard in shards),
            beside=sum(shard.beside for shard in shards) + self._beside(),
            notes=[*self._notes, *notes],
        )

    def read(self, row: int) -> Picture:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        shard = self._shards[number]
        return shard.read(shard.rows[int(row - self._starts[number])])

    def address(self) -> dict[str, object]:
        return {"kind": "shards", "root": str(self.given)}

    def _relative(self, file: Path) -> str:
        return os.path.relpath(file, self.folder)

    def _default_name(self) -> str:
        """`birds` for the folder, `birds-train-000000` for birds/train-000000.tar, `birds` for birds.tar."""
        if not self.given.is_file():
            return self.folder.name
        return f"{self.folder.name}-{self.given.stem}" if part_of(self.given.name) else self.given.stem

    def _beside(self) -> int:
        """Files of the folder that are no shards and not the writer's own."""
        if self.folder != self.given:
            return 0
        own = (*CLASS_FILES, MANIFEST)
        names = [entry.name for entry in os.scandir(self.folder) if not entry.is_dir()]
        return sum(1 for name in names if not (is_stray(name) or name in own or is_shard(Path(name))))


class Row(NamedTuple):
    """A picture, or what is left out: where it lies in its shard, its label, and why it is left out.

    path: behind the shard's own, with a slash before it; empty for the rest of a shard that cannot be read.
    offset: -1 where there is nothing to read.
    """

    path: str
    offset: int
    size: int
    label: Any = None
    reason: str = ""


@dataclass(kw_only=True)
class Shard:
    """What one tar file holds. stamp: its size and time when it was indexed."""

    path: Path
    stamp: tuple[int, int]
    rows: list[Row] = field(default_factory=list)
    strays: int = 0
    beside: int = 0

    def read(self, row: Row) -> bytes:
        """Raises OSError where the shard cannot be read, DecodeError where the member must not be."""
        if row.offset < 0:
            raise DecodeError(row.reason)
        if row.size > FILE_LIMIT:
            raise DecodeError(f"a file of {row.size:,} bytes; the limit is {FILE_LIMIT:,} bytes")
        handle = os.open(self.path, os.O_RDONLY)
        try:
            if _stamp(os.fstat(handle)) != self.stamp:
                raise DecodeError("its shard has changed since it was opened")
            content = os.pread(handle, row.size, row.offset)
        finally:
            os.close(handle)
        if len(content) != row.size:
            raise DecodeError("its shard ends before it does")
        return content


def index_shard(path: Path, *, labels: bool = True) -> Shard:
    """Read a tar's headers and its labels. What is whole of one that is cut or damaged is kept, the rest is named.

    labels: whether they are read at all. Raises DataError for what is no file, for compressed tars and for more
    members than a tar may have.
    """
    where = printable(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise DataError(f"{where} is not a regular file; shards are local tar files")
        with path.open("rb", buffering=0) as raw:  # headers are far apart: reading ahead would read all pictures
            shard = Shard(path=path, stamp=_stamp(os.fstat(raw.fileno())))
            magic = raw.read(8)
            raw.seek(0)
            if _is_compressed(path, magic):
                raise DataError(
                    f"{where} is compressed, and no picture in it can be read alone; unpack it to a plain .tar "
                    "(gunzip, bunzip2, unxz or unzstd)"
                )
            samples, last, damage = _samples(raw, shard, where)
            for sample in samples.values():
                _add(sample, shard, raw.fileno(), labels=labels)
    except OSError as error:
        raise DataError(f"the shard {where} cannot be read: {error.strerror}; make it readable") from error
    shard.rows.sort(key=lambda row: row.offset if row.offset >= 0 else shard.stamp[0])
    if damage:
        behind = f" after {last!r}" if last else ""
        shard.rows.append(Row("", -1, 0, None, f"the shard is cut or damaged{behind}: {damage}"))
    return shard


class _File(NamedTuple):
    """Where a member that may be read lies."""

    name: str
    offset: int
    size: int


Sample = dict[str, _File]  # by ending


def _samples(raw: Any, shard: Shard, where: str) -> tuple[dict[str, Sample], str, str]:
    """The members by key and ending, the last one's name, and what is wrong with what follows it, if anything.

    What must not be read is put into the shard's rows at once.
    """
    samples: dict[str, Sample] = {}
    names: set[str] = set()
    last, count, position = "", 0, 0
    try:
        for member in tar_members(raw):
            count += 1
            if count > MEMBERS:
                raise DataError(f"{where} has more than {MEMBERS:,} members; make smaller shards")
            if member.size < 0 or member.offset <= position:
                return samples, last, "a header that leads back"
            position = member.offset
            if member.folder:
                continue
            name = member.name.removeprefix("./")
            last = name
            if any(map(is_stray, PurePosixPath(name).parts)) and problem_of(member) is None:
                shard.strays += 1
                continue
            key, ending = _key(name)
            reason = _refused(member, taken=name in names or ending in samples.get(key, {}), end=shard.stamp[0])
            if reason:
                twin = f" (member {count})" if name in names else ""
                shard.rows.append(Row(f"/{name}{twin}", -1, 0, None, reason))
            else:
                samples.setdefault(key, {})[ending] = _File(name, member.offset, member.size)
            names.add(name)
            if reason == CUT:
                return samples, last, "it ends there"
    except DataError:
        raise
    except (*DAMAGED, ValueError, OverflowError) as error:  # a stranger's headers
        return samples, last, printable(str(error)) or type(error).__name__
    return samples, last, ""


def _refused(member: Member, *, taken: bool, end: int) -> str:
    """Why a member is not read, if it is not."""
    problem = problem_of(member)
    if problem is not None:
        return f"it {problem}"
    if taken:
        return "a second member of this name in its shard"
    if member.offset + member.size > end:
        return CUT
    return ""


def _add(sample: Sample, shard: Shard, handle: int, *, labels: bool) -> None:
    """The rows of one sample: its picture with the label, and what needs a reason. Other files are beside."""
    label = next((sample[ending] for ending in LABELS if ending in sample), None)
    others = {ending: file for ending, file in sample.items() if ending not in LABELS}
    pictures = [file for ending, file in others.items() if ending in PICTURES]
    pictures += [file for ending, file in others.items() if ending not in PICTURES and _claims_a_picture(ending)]
    if not pictures:  # the content decides: at once where nothing labels it, else when it is looked at
        pictures = [file for file in others.values() if label is not None or _is_picture(handle, file)][:1]
    shard.beside += len(others) - len(pictures)
    if label is not None and not pictures:
        shard.rows.append(_row(label, reason=LABEL_ALONE))
        return
    value, reason = None, ""
    if label is not None and labels:
        value, reason = label_of(label.name, _content(handle, label))
    for number, file in enumerate(pictures):
        shard.rows.append(_row(file, value, "a second picture of its sample" if number else reason))


def _row(file: _File, label: Any = None, reason: str = "") -> Row:
    return Row(f"/{file.name}", file.offset, file.size, label, reason)


def _claims_a_picture(ending: str) -> bool:
    return ending.rpartition(".")[2] in PICTURES


def _is_picture(handle: int, file: _File) -> bool:
    return sniff(os.pread(handle, min(file.size, PREFIX_BYTES), file.offset)) is not None


def _content(handle: int, label: _File) -> bytes | None:
    """A label's bytes; None where there are too many."""
    return None if label.size > LABEL_BYTES else os.pread(handle, label.size, label.offset)


def _key(name: str) -> tuple[str, str]:
    """`a/b.seg.png` -> `a/b`, `seg.png`: a key ends at the first dot of the file's own name."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending.lower()


def _is_compressed(path: Path, magic: bytes) -> bool:
    return magic.startswith(_COMPRESSED) or path.suffix.casefold() != ".tar"


def _stamp(about: os.stat_result) -> tuple[int, int]:
    return about.st_size, about.st_mtime_ns
