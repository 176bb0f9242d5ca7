"""`open_data`: any source becomes `Data`: what there is, what is kept, its classes and its parts."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError, UsageError
from resnets.base.text import printable, some
from resnets.data.classes import read_class_names, with_names
from resnets.data.division import divided
from resnets.data.imagenet import with_imagenet_names
from resnets.data.manifest import Facts, Manifest, Progress, build_table, examine
from resnets.data.options import DataOptions
from resnets.data.source import MISSING, PARTS, TRAIN, Labels, Listing, Picture, Source, Traits
from resnets.data.sources import find_source, shadowed
from resnets.data.sources.folder import FolderSource, or_table
from resnets.data.sources.manifest import ManifestSource
from resnets.data.sources.named import Progress as DownloadProgress
from resnets.labels import Head

logger = logging.getLogger("resnets")

LOGGED = 10  # left-out files that are named in the log; after them only their count is
RARE = 0.02  # a format's share of the pictures up to which it is named: it may be no picture of the subject


@dataclass(frozen=True, kw_only=True, repr=False)
class Data:
    """Pictures with their classes and parts. A row is a row of the manifest; n counts rows, left-out ones too.

    notes: one-line warnings, already logged.
    """

    source: Source
    manifest: Manifest
    notes: list[str]

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def origin(self) -> str:
        return self.manifest.origin

    @property
    def traits(self) -> Traits:
        return self.manifest.traits

    @property
    def heads(self) -> dict[str, Head]:
        return self.manifest.heads

    @property
    def parts_stated(self) -> bool:
        """Whether the parts are the source's own; False where pictures were drawn for them."""
        return self.manifest.split_seed is None

    def __len__(self) -> int:
        return len(self.manifest)

    def __repr__(self) -> str:
        return f"<Data {self.summary()}>"

    def rows(self, part: str) -> npt.NDArray[np.int64]:
        """Kept rows of `train`, `val`, `test`, or `all`, ascending."""
        if part == "all":
            return np.flatnonzero(self._kept)
        if part not in PARTS:
            raise UsageError(f"a part is one of {', '.join(PARTS)} or all, got {part!r}")
        return np.flatnonzero(self._parts == PARTS.index(part))

    def labels(self, head: str) -> npt.NDArray[Any]:
        """Int64 (n,) class positions, MISSING where there is none; read only.

        Of a head with several classes a picture float32 (n, classes): 1 there, 0 not there, NaN not known.
        """
        if head not in self._labels:
            labels: npt.NDArray[Any] = self.manifest.labels(head)
            if labels.ndim == 2:
                labels = np.where(labels == MISSING, np.float32(np.nan), labels).astype(np.float32)
            labels.setflags(write=False)
            self._labels[head] = labels
        return self._labels[head]

    def labelled(self, head: str) -> npt.NDArray[np.bool_]:
        """(n,) whether anything is known of a row's label."""
        return _known(self.manifest.labels(head))

    def read(self, row: int) -> Picture:
        """One picture as it is stored. Raises OSError where the file cannot be read. Safe in threads."""
        return self.source.read(int(row))

    def path(self, row: int) -> str:
        """Relative to the source's root; a name that is not UTF-8 carries surrogates (see `names.displayed`)."""
        return self._paths[int(row)]

    @cached_property
    def sizes(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """(n,) widths and (n,) heights in pixels, upright, from the headers; 0 where left out."""
        return self.manifest.numbers("width"), self.manifest.numbers("height")

    @cached_property
    def channels(self) -> dict[str, int]:
        """How many kept pictures are stored as grey, rgb, rgba (with any transparency)."""
        return self._counts("channels")

    @cached_property
    def formats(self) -> dict[str, int]:
        """How many kept pictures there are of each format."""
        return self._counts("format")

    @property
    def kept(self) -> int:
        return len(self) - len(self._left_out)

    @property
    def left_out(self) -> dict[int, str]:
        """row -> reason."""
        return dict(self._left_out)

    @property
    def strays(self) -> int:
        return self.manifest.strays

    @property
    def beside(self) -> int:
        return self.manifest.beside

    def summary(self) -> str:
        """One line of counts."""
        parts = ", ".join(f"{len(self.rows(part)):,} {part}" for part in PARTS if len(self.rows(part)))
        heads = [
            f"{len(head)} classes" + f" of {name}" * (len(self.heads) > 1) for name, head in self.heads.items()
        ]
        others = {"left out": len(self._left_out), "beside": self.beside, "stray": self.strays}
        seen = [f"{count:,} {word}" for word, count in others.items() if count]
        return f"{printable(self.name)}: " + ", ".join([f"{self.kept:,} pictures ({parts})", *heads, *seen])

    @cached_property
    def _paths(self) -> list[str]:
        return self.manifest.paths()

    @cached_property
    def _labels(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    @cached_property
    def _left_out(self) -> dict[int, str]:
        return self.manifest.left_out()

    @cached_property
    def _kept(self) -> npt.NDArray[np.bool_]:
        kept = np.ones(len(self), dtype=bool)
        kept[list(self._left_out)] = False
        return kept

    @cached_property
    def _parts(self) -> npt.NDArray[np.int8]:
        code = {name: number for number, name in enumerate(PARTS)}
        parts = [code.get(name, MISSING) for name in self.manifest.table["split"].to_pylist()]
        return np.where(self._kept, np.array(parts, dtype=np.int8), np.int8(MISSING))

    def _counts(self, column: str) -> dict[str, int]:
        values = self.manifest.table[column].to_pylist()
        return dict(Counter(values[row] for row in np.flatnonzero(self._kept)).most_common())


def open_data(
    source: Any,
    *,
    classes: Path | None = None,
    strict: bool = False,
    all_train: bool = False,
    for_training: bool = True,
    options: DataOptions | None = None,
    expected: Mapping[str, Head] | None = None,
    progress: Progress | None = None,
    download_progress: DownloadProgress | None = None,
) -> Data:
    """Look at every file of a source once, decide what is kept, and divide what is not yet divided.

    source: a name, a folder, a file, arrays, a dataset, or a Source (see `sources.find_source`).
    classes: a file of class ids and shown names (see `classes.read_class_names`).
    strict: every picture is decoded in full, and any file that would be left out is a DataError. all_train: keep
    no training pictures back for validation where the source has none. for_training: False lets one class, or no
    training part, pass.
    options: the columns of a table, and what is held out of training. expected: heads whose columns are looked for
    in a table before any is guessed.
    progress: called with (rows done, rows in all); download_progress with (what is done, bytes so far, in all).
    Raises UsageError for what does not exist, DataError where nothing can be used; both say what to try.
    """
    options = options or DataOptions()
    opened = find_source(source, options=options, expected=expected, progress=download_progress)
    listing = opened.listing()
    listing = replace(listing, heads=with_imagenet_names(listing.heads))
    if classes is not None:
        listing = replace(listing, heads=with_names(listing.heads, read_class_names(classes), where=str(classes)))
    facts = examine(opened, listing, in_full=strict, progress=progress)
    _leave_out_unlabelled(listing, facts)
    _refuse_left_out(opened, listing, facts, strict=strict)
    holdout = options.holdout_combinations
    parts, seed, said = divided(opened, listing, facts, all_train=all_train, holdout=holdout)
    stated = [None if row in facts.left_out else part for row, part in enumerate(parts)]
    if for_training:
        _refuse_untrainable(opened, listing, stated)
    manifest = Manifest(
        table=build_table(listing, facts, stated),
        name=opened.name,
        origin=opened.origin,
        traits=opened.traits,
        address=opened.address(),
        heads=listing.heads,
        strays=listing.strays,
        beside=listing.beside,
        split_seed=seed,
    )
    shadow = shadowed(source)
    notes = [*([shadow] if shadow else []), *listing.notes, *said, *_notes(opened, listing, facts, stated)]
    _log(listing.paths, facts.left_out, notes)
    return Data(source=opened, manifest=manifest, notes=notes)


def reopen(manifest: Manifest, source: Source | None = None) -> Data:
    """Data as a manifest says it is, without reading a picture: what a resumed run works with.

    source: what the manifest was made from, where it lives in memory and cannot be opened again.
    Raises DataError where the source is gone or lacks a row.
    """
    return Data(source=ManifestSource(manifest, source), manifest=manifest, notes=[])


def _leave_out_unlabelled(listing: Listing, facts: Facts) -> None:
    labelled = np.zeros(len(listing.paths), dtype=bool)
    for labels in listing.labels.values():
        labelled |= _known(labels)
    for row in np.flatnonzero(~labelled):
        facts.left_out.setdefault(int(row), "no class is stated for it")


def _known(labels: Labels) -> npt.NDArray[np.bool_]:
    """(n,) whether anything is known of a row's label."""
    there = np.not_equal(labels, MISSING)
    return np.asarray(there if labels.ndim == 1 else there.any(axis=1), dtype=np.bool_)


def _refuse_left_out(source: Source, listing: Listing, facts: Facts, *, strict: bool) -> None:
    """No picture is left, or one was left out although none may be."""
    if not listing.paths:
        raise DataError(f"{source.origin} holds no picture; check that the right data was given")
    count = len(facts.left_out)
    every = count == len(listing.paths)
    if not every and not (strict and count):
        return
    row, reason = min(facts.left_out.items())
    first = f"the first is '{printable(listing.paths[row])}' ({reason})"
    if every:
        raise DataError(
            f"no readable picture in {source.origin}: what is there ({count}) was left out, {first}; check that "
            "the right folder was given"
        )
    raise DataError(
        f"{source.origin} has files to be left out ({count}), {first}; mend or move them, or go without "
        "--strict-data"
    )


def _refuse_untrainable(source: Source, listing: Listing, parts: Sequence[str | None]) -> None:
    table = or_table(source.root) if isinstance(source, FolderSource) else ""
    for name, head in listing.heads.items():
        if head.kind == "single" and len(head) < 2:
            raise DataError(
                f"{source.origin} has one class, {some(list(head.ids))}, for {name!r}; two at least are "
                f"needed: put each class into a folder of its own and give the folder that holds them{table}"
            )
    if TRAIN not in parts:
        has = " and ".join(part for part in PARTS if part in parts)
        raise DataError(
            f"{source.origin} has only a {has} part, nothing to train on; give the data that holds `train`"
        )


def _notes(source: Source, listing: Listing, facts: Facts, parts: Sequence[str | None]) -> list[str]:
    """What is worth a warning once every file was looked at."""
    kept = [row for row, part in enumerate(parts) if part is not None]
    notes = [
        *_lacking_classes(listing, parts),
        *_rare_formats(listing, facts, kept),
        *_equal(listing, facts, parts),
    ]
    if isinstance(source, ManifestSource):
        before = source.manifest.table["content"].to_pylist()
        changed = [listing.paths[row] for row in kept if before[row] != facts.content[row]]
        if changed:
            notes.append(
                f"files that have changed since the manifest was written: {len(changed)} ({some(changed)})"
            )
    return notes


def _lacking_classes(listing: Listing, parts: Sequence[str | None]) -> list[str]:
    of = np.array([MISSING if part is None else PARTS.index(part) for part in parts])
    notes = []
    for head, labels in listing.labels.items():
        for number in np.unique(of[of != MISSING]):
            held = labels[of == number]
            there = set((np.unique(held) if held.ndim == 1 else np.flatnonzero((held == 1).any(axis=0))).tolist())
            lacking = [name for position, name in enumerate(listing.heads[head].ids) if position not in there]
            if lacking:
                where = f" of {printable(head)}" * (len(listing.labels) > 1)
                notes.append(f"{PARTS[number]} has no picture of the class {some(lacking)}{where}")
    return notes


def _rare_formats(listing: Listing, facts: Facts, kept: Sequence[int]) -> list[str]:
    counts = Counter(facts.format[row] for row in kept).most_common()
    notes = []
    for name, count in counts[1:]:
        if count <= RARE * len(kept):
            paths = [listing.paths[row] for row in kept if facts.format[row] == name]
            notes.append(f"{count} {name} among {counts[0][1]} {counts[0][0]} files, kept: {some(paths)}")
    return notes


def _equal(listing: Listing, facts: Facts, parts: Sequence[str | None]) -> list[str]:
    """Equal pictures that stand in two classes, or in two parts."""
    rows_of: dict[bytes | None, list[int]] = {}
    for row, part in enumerate(parts):
        if part is not None:
            rows_of.setdefault(facts.content[row], []).append(row)
    equal = [rows for rows in rows_of.values() if len(rows) > 1]
    notes = []
    for head, labels in listing.labels.items():
        where = "two classes" if len(listing.labels) == 1 else f"two classes of {head}"
        values = labels.tolist() if labels.ndim == 1 else [row.tobytes() for row in labels]
        notes += _apart(
            listing, equal, where, {row: values[row] for row in np.flatnonzero(_known(labels)).tolist()}
        )
    return notes + _apart(listing, equal, "two parts", dict(enumerate(parts)))


def _apart(listing: Listing, equal: list[list[int]], where: str, value_of: dict[int, Any]) -> list[str]:
    """A note on the groups of equal pictures whose values differ, each shown by two that do."""
    pairs = []
    for rows in equal:
        known = [row for row in rows if row in value_of]
        other = next((row for row in known if value_of[row] != value_of[known[0]]), None)
        if other is not None:
            pairs.append(f"{listing.paths[known[0]]} = {listing.paths[other]}")
    return [f"equal pictures that stand in {where}: {len(pairs)} ({some(pairs)})"] if pairs else []


def _log(paths: list[str], left_out: dict[int, str], notes: list[str]) -> None:
    for row, reason in sorted(left_out.items())[:LOGGED]:
        logger.warning("left out: %s (%s)", printable(paths[row]), reason)
    if len(left_out) > LOGGED:
        logger.warning("left out: %d more files; the manifest names them all", len(left_out) - LOGGED)
    for note in notes:
        logger.warning("%s", note)
