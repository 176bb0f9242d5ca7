"""Where pictures come from: one file a kind of source, and the one chain that recognises them."""

import difflib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from resnets.base.errors import DataError, UsageError
from resnets.base.text import printable
from resnets.data.manifest import Manifest, is_manifest
from resnets.data.options import DataOptions
from resnets.data.source import Source
from resnets.data.sources.arrays import ArraySource
from resnets.data.sources.bengali import BengaliSource, bengali_files
from resnets.data.sources.digits import DigitsSource
from resnets.data.sources.folder import FolderSource
from resnets.data.sources.idx import IdxSource, idx_files
from resnets.data.sources.manifest import ManifestSource
from resnets.data.sources.named import CATALOGUE, named_source
from resnets.data.sources.named import Progress as DownloadProgress
from resnets.data.sources.parquet import ParquetSource, describes_itself, is_parquet, parquet_files, used_files
from resnets.data.sources.shard_names import is_pattern, is_shard, shard_files
from resnets.data.sources.shards import ShardSource
from resnets.data.sources.table import TableSource
from resnets.data.sources.table_file import is_table
from resnets.labels import Head

NAMES = ("digits", *CATALOGUE)


def find_source(
    spec: Any,
    *,
    options: DataOptions | None = None,
    expected: Mapping[str, Head] | None = None,
    progress: DownloadProgress | None = None,
) -> Source:
    """The source that `spec` names.

    spec: a name (NAMES); a folder of class folders, of IDX files, of image Parquet files, of tar files (WebDataset
    shards) or in Kaggle's Bengali layout; a tar file, or a pattern of such; a table (CSV, TSV, Parquet) or a
    manifest; (pictures, labels); a map-style dataset; a mapping of train, val, test to such; or a Source.
    Text that is one of NAMES is that name, even where a file or folder is called so too (`shadowed`).
    options: the columns of a table. expected: the heads that a table is expected to have labels for.
    progress: called while something is downloaded or ingested, with what is done, how far and of how much.
    Raises UsageError with the nearest names for what does not exist, and for options of tables where there is
    none; DataError for what cannot be used.
    """
    options = options or DataOptions()
    source: Source
    if isinstance(spec, str) and spec in NAMES:
        source = DigitsSource() if spec == DigitsSource.name else named_source(spec, progress=progress)
    elif isinstance(spec, (str, os.PathLike)):
        source = _at(Path(spec), str(spec), options, expected, progress)
    elif hasattr(spec, "listing") and hasattr(spec, "read"):
        source = cast(Source, spec)
    else:
        source = ArraySource(spec if isinstance(spec, Mapping) else {None: spec})
    flags = options.given_of_tables()
    if flags and not isinstance(source, (TableSource, BengaliSource)):
        raise UsageError(f"{flags[0]} belongs to tables, and {source.origin} is none; leave it out")
    return source


def shadowed(spec: Any) -> str | None:
    """A note where a name hides a file or folder that is called the same."""
    if isinstance(spec, str) and spec in NAMES and os.path.exists(spec):
        return f"{spec} is the data set of this name; to use what is called so here give ./{spec}"
    return None


def _at(
    path: Path,
    given: str,
    options: DataOptions,
    expected: Mapping[str, Head] | None,
    progress: DownloadProgress | None,
) -> Source:
    """What stands at a path.

    Parquet as Hugging Face writes it (pictures as bytes, one label) says by itself what its columns are; where
    columns are named by hand, and for every other table, the columns are chosen (TableSource).
    """
    if "://" in given:
        raise UsageError(
            f"{printable(given)} is not fetched; download it and give the folder, or one of {', '.join(NAMES)}"
        )
    if path.is_dir():
        if idx_files(path):
            return IdxSource(path)
        if bengali_files(path):
            return BengaliSource(path, options=options, progress=progress)
        if shard_files(path):
            return ShardSource(path)
        files, _ = used_files(parquet_files(path))
        if not files:
            return FolderSource(path)
    elif is_shard(path) and (path.is_file() or (not path.exists() and is_pattern(given))):
        return ShardSource(path)
    elif not path.exists():
        raise _missing(path, given)
    elif not stat.S_ISREG(path.stat().st_mode) or not is_table(path):
        raise DataError(
            f"{printable(given)} is no source of pictures: give a folder of class folders, a table (CSV, TSV or "
            f"Parquet), or one of {', '.join(NAMES)}; for single pictures use `resnets predict`"
        )
    elif is_parquet(path) and is_manifest(path):
        return ManifestSource(Manifest.read(path))
    else:
        files = [path] if is_parquet(path) else []
    if files and not options.given_of_tables() and all(map(describes_itself, files)):
        return ParquetSource(path)
    return TableSource(path, options=options, expected=expected)


def _missing(path: Path, given: str) -> UsageError:
    beside = os.listdir(path.parent) if path.parent.is_dir() else []
    near = difflib.get_close_matches(given, NAMES, n=2, cutoff=0.6)
    near += [str(path.parent / name) for name in difflib.get_close_matches(path.name, beside, n=2, cutoff=0.6)]
    meant = f"did you mean {' or '.join(map(printable, near))}? " if near else ""
    return UsageError(
        f"there is no folder or file {printable(given)}; {meant}names that are known: {', '.join(NAMES)}"
    )
