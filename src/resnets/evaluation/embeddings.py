"""What a network makes of a picture before any head: its features, one row a file, as Parquet or JSON lines.

F features. Parquet has path, path_bytes (as in `predictions.parquet`), features (a list of F float32, null where
there is an error) and error. Its metadata has the key `resnets`, a JSON object: format, features (F), model (the
hash of its tensors), precision and views.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from resnets.base.files import replacing
from resnets.data.names import displayed, stored

FORMAT = 1
KEY = "resnets"
FEATURES = "features"  # the column, and the name of a network's output that has no heads
GROUP_NUMBERS = 2**22  # of a row group: 16 MiB


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """The features of one file, (F,); or the reason why there are none."""

    path: str
    features: npt.NDArray[np.float32] | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        if self.features is None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, FEATURES: self.features.tolist()}


def write_embeddings(
    embeddings: Iterable[Embedding],
    form: Literal["jsonl", "parquet"],
    target: Path | BinaryIO,
    *,
    about: Mapping[str, Any],
) -> None:
    """Write embeddings as they come; a file is written whole or not at all.

    about: for the metadata of Parquet, with `features`, how many there are.
    """
    write = _write_lines if form == "jsonl" else _write_parquet
    if isinstance(target, Path):
        with replacing(target) as beside, beside.open("wb") as stream:  # Arrow takes no path that is not UTF-8
            write(embeddings, stream, about)
    else:
        write(embeddings, target, about)


def _write_lines(embeddings: Iterable[Embedding], stream: BinaryIO, about: Mapping[str, Any]) -> None:
    for one in embeddings:
        stream.write(json.dumps(one.to_json(), allow_nan=False).encode() + b"\n")


def _write_parquet(embeddings: Iterable[Embedding], stream: BinaryIO, about: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = int(about[FEATURES])
    schema = pa.schema(
        {
            "path": pa.string(),
            "path_bytes": pa.binary(),  # where the name is not UTF-8
            FEATURES: pa.list_(pa.float32(), width),
            "error": pa.string(),
        },
        metadata={KEY: json.dumps({"format": FORMAT, **about})},
    )
    rows: Iterator[Embedding] = iter(embeddings)
    packed = dict.fromkeys(("path", "path_bytes", "error"), "zstd")  # floats have little in common
    with pq.ParquetWriter(stream, schema, use_dictionary=False, compression=packed) as writer:
        while group := list(islice(rows, max(1, GROUP_NUMBERS // width))):
            writer.write_table(_table(group, schema, width))


def _table(group: list[Embedding], schema: Any, width: int) -> Any:
    import pyarrow as pa

    nothing = np.zeros(width, dtype=np.float32)
    numbers = pa.array(np.stack([nothing if one.features is None else one.features for one in group]).reshape(-1))
    lacking = pa.array([one.features is None for one in group])
    names = [stored(one.path) for one in group]
    arrays = [
        pa.array([text for text, _ in names], pa.string()),
        pa.array([raw for _, raw in names], pa.binary()),
        pa.FixedSizeListArray.from_arrays(numbers, type=schema.field(FEATURES).type, mask=lacking),
        pa.array([None if one.error is None else displayed(one.error) for one in group], pa.string()),
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
