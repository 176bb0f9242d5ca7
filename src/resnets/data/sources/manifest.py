"""A manifest as a source: rows, classes and parts as it states them, pictures from where they lie."""

from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from resnets.base.errors import DataError
from resnets.base.text import some
from resnets.data.manifest import Manifest, head_column
from resnets.data.multi import Presence, presence_of
from resnets.data.source import TRAIN, Labels, Listing, Picture, Source
from resnets.data.sources.bengali import BengaliSource
from resnets.data.sources.digits import DigitsSource
from resnets.data.sources.folder import FolderSource
from resnets.data.sources.idx import IdxSource
from resnets.data.sources.named import named_source
from resnets.data.sources.parquet import ParquetSource
from resnets.data.sources.shards import ShardSource
from resnets.data.sources.table import TableSource, table_from
from resnets.labels import Head

_KINDS: dict[str, Callable[[Path], Source]] = {
    "bengali": BengaliSource,
    "folder": FolderSource,
    "idx": IdxSource,
    "parquet": ParquetSource,
}
CORRECTED = "corrected"  # the column, or its ending where there are several heads


class ManifestSource:
    """What a manifest lists. base: the source it was made from; None: it is opened again from its address."""

    def __init__(self, manifest: Manifest, base: Source | None = None) -> None:
        self.manifest = manifest
        self.name = manifest.name
        self.origin = manifest.origin
        self.traits = manifest.traits
        self._base = base or _opened(manifest)
        self._paths = manifest.paths()
        self._rows = _rows(self._base, self._paths, manifest.origin)

    def listing(self) -> Listing:
        manifest = self.manifest
        left_out = manifest.left_out()
        parts = manifest.table["split"].to_pylist()
        for row, part in enumerate(parts):
            if part is None:
                left_out.setdefault(row, "the manifest states no part for it")
        labels, notes = _corrected(manifest)
        return Listing(
            paths=list(self._paths),
            heads=manifest.heads,
            labels=labels,
            parts=[part or TRAIN for part in parts],
            left_out=left_out,
            strays=manifest.strays,
            beside=manifest.beside,
            notes=notes,
        )

    def read(self, row: int) -> Picture:
        if isinstance(self._base, FolderSource):
            return self._base.read_path(self._paths[row])
        return self._base.read(int(self._rows[row]))

    def address(self) -> dict[str, Any] | None:
        return self.manifest.address


def corrected_column(head: str, heads: Collection[str]) -> str:
    """The manifest's column of class ids that stand in for those of a head, where it has any."""
    return CORRECTED if len(heads) == 1 else f"{head_column(head)}.{CORRECTED}"


def _corrected(manifest: Manifest) -> tuple[dict[str, Labels], list[str]]:
    """The labels of every head as they were corrected, and how many were. Raises DataError for an unknown id."""
    found, notes = {}, []
    for name, head in manifest.heads.items():
        labels = found[name] = manifest.labels(name)
        column = corrected_column(name, manifest.heads)
        if column in manifest.heads or column not in manifest.table.column_names:
            continue
        cells = manifest.table[column].combine_chunks()
        new = np.flatnonzero(cells.is_valid().to_numpy(zero_copy_only=False))
        if not len(new):
            continue
        if head.kind == "multi":
            labels[new] = _lists(cells, head, column)[new]
        else:
            labels[new] = _positions(cells.drop_null().to_pylist(), head, name, column)
        where = f" of {name}" * (len(manifest.heads) > 1)
        notes.append(f"labels{where} that the manifest corrects: {len(new)} (its column {column!r})")
    return found, notes


def _positions(ids: list[Any], head: Head, name: str, column: str) -> list[int]:
    """Of a column's ids. Raises DataError for what is no id of the head."""
    position = head.index()
    unknown = next((one for one in ids if not isinstance(one, str) or one not in position), None)
    if unknown is not None:
        raise DataError(
            f"the manifest's column {column!r} has {unknown!r}, which is no class of {name!r}; write "
            "the id of one, or leave it empty"
        )
    return [position[one] for one in ids]


def _lists(cells: pa.Array, head: Head, column: str) -> Presence:
    """(n, classes) of a column of lists of ids: all that a picture has."""
    where = f"the manifest's column {column!r}"
    try:
        return presence_of(cells.cast(pa.list_(pa.string())), head.ids, where=where)
    except pa.ArrowException as error:
        raise DataError(f"{where} is of several classes a picture; it must hold lists of their ids") from error


def _opened(manifest: Manifest) -> Source:
    address = manifest.address
    if address is None:
        raise DataError(
            f"this manifest is of {manifest.origin}, which no file can bring back; give the data itself"
        )
    if address.get("kind") == "digits":
        return DigitsSource()
    if address.get("kind") == "named":
        return named_source(str(address.get("name")))
    root = Path(str(address.get("root")))
    if address.get("kind") == "shards" and root.is_absolute():
        return ShardSource(root)  # perhaps a pattern, which no file is called by
    if address.get("kind") == "table" and root.is_absolute():
        place = Path(str(address.get("table")))
        if not place.exists() or not root.exists():
            raise DataError(
                f"this manifest is of {manifest.origin}, which is not there; put it back and try again"
            )
        return table_from(address)
    if address.get("kind") not in _KINDS or not root.is_absolute():
        raise DataError(
            f"the manifest's source {address!r:.100} is not of a known kind; write it again from its source"
        )
    if not root.exists():
        raise DataError(f"this manifest is of {manifest.origin}, which is not there; put it back and try again")
    return _KINDS[address["kind"]](root)


def _rows(base: Source, paths: list[str], origin: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The base's row of each path; a folder's pictures are read by their path alone, which must stay inside."""
    if isinstance(base, FolderSource):
        outside = [
            path for path in paths if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts
        ]
        if outside:
            raise DataError(f"the manifest names files outside its folder: {some(outside)}")
        return np.arange(len(paths))
    there = base.paths() if isinstance(base, (TableSource, BengaliSource)) else base.listing().paths
    position = {path: row for row, path in enumerate(there)}
    lacking = [path for path in paths if path not in position]
    if lacking:
        raise DataError(f"{origin} lacks what the manifest names: {some(lacking)}; it has changed since")
    return np.array([position[path] for path in paths], dtype=np.int64)
