"""Where pictures come from: one file a kind of source, and the one chain that recognises them."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from resnets.base.errors import DataError, UsageError
from resnets.base.text import printable
from resnets.data.manifest import Manifest, is_manifest
from resnets.data.source import Source
from resnets.data.sources.arrays import ArraySource
from resnets.data.sources.digits import DigitsSource
from resnets.data.sources.folder import FolderSource
from resnets.data.sources.idx import IdxSource, idx_files
from resnets.data.sources.manifest import ManifestSource
from resnets.data.sources.named import CATALOGUE, named_source
from resnets.data.sources.named import Progress as DownloadProgress
from resnets.data.sources.parquet import ParquetSource, is_parquet, parquet_files

NAMES = ("digits", *CATALOGUE)


def find_source(spec: Any, *, progress: DownloadProgress | None = None) -> Source:
    """The source that `spec` names.

    spec: a name (NAMES); a folder of class folders, of IDX files or of image Parquet files; an image Parquet file
    or a manifest; (pictures, labels); a map-style dataset; a mapping of train, val, test to such; or a Source.
    Text that is one of NAMES is that name, even where a file or folder is called so too (`shadowed`).
    progress: called while something is downloaded, with what is done, bytes so far and in all.
    Raises UsageError with the nearest names for what does not exist, DataError for what cannot be used.
    """
    if isinstance(spec, str) and spec in NAMES:
        return DigitsSource() if spec == DigitsSource.name else named_source(spec, progress=progress)
    if isinstance(spec, (str, os.PathLike)):
        return _at(Path(spec), str(spec))
    if hasattr(spec, "listing") and hasattr(spec, "read"):
        return cast(Source, spec)
    return ArraySource(spec if isinstance(spec, Mapping) else {None: spec})


def shadowed(spec: Any) -> str | None:
    """A note where a name hides a file or folder that is called the same."""
    if isinstance(spec, str) and spec in NAMES and os.path.exists(spec):
        return f"{spec} is the data set of this name; to use what is called so here give ./{spec}"
    return None


def _at(path: Path, given: str) -> Source:
    if "://" in given:
        raise UsageError(
            f"{printable(given)} is not fetched; download it and give the folder, or one of {', '.join(NAMES)}"
        )
    if path.is_dir():
        if idx_files(path):
            return IdxSource(path)
        return ParquetSource(path) if parquet_files(path) else FolderSource(path)
    if not path.exists():
        raise _missing(path, given)
    if not is_parquet(path):
        raise DataError(
            f"{printable(given)} is no source of pictures: give a folder of class folders, a Parquet file, or one "
            f"of {', '.join(NAMES)}; for single pictures use `resnets predict`"
        )
    return ManifestSource(Manifest.read(path)) if is_manifest(path) else ParquetSource(path)


def _missing(path: Path, given: str) -> UsageError:
    beside = os.listdir(path.parent) if path.parent.is_dir() else []
    near = difflib.get_close_matches(given, NAMES, n=2, cutoff=0.6)
    near += [str(path.parent / name) for name in difflib.get_close_matches(path.name, beside, n=2, cutoff=0.6)]
    meant = f"did you mean {' or '.join(map(printable, near))}? " if near else ""
    return UsageError(
        f"there is no folder or file {printable(given)}; {meant}names that are known: {', '.join(NAMES)}"
    )
