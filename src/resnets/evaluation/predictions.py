"""The table of a model's answers, one row a picture: `predictions.parquet`.

Columns: path (text; where the name is not UTF-8 its bytes are in path_bytes), content (blake2b-128), split, and
a head: NAME.truth (the class's position in the head, null where it is not known) and NAME.logits (float16, one
a class). A head of more than 1,000 classes has its 100 largest logits, NAME.top with their positions, and
NAME.logsum (float32), the logarithm of the sum of the exponentials of all. A head with several classes a picture
has all its logits, and in NAME.truth whether each class is there (null where that is not known). The metadata has
the key `resnets`, a JSON object: format, heads (as in the model file), model (the hash of its tensors, where it
is known), and views (of a picture, whose mean the logits are: `one`, `flip` or `flip-shift`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from resnets.base.errors import DataError
from resnets.base.files import CONTENT_BYTES, replacing
from resnets.base.text import printable
from resnets.data.names import from_bytes, stored
from resnets.data.source import MISSING
from resnets.labels import Head

FORMAT = 1
KEY = b"resnets"
WHOLE = 1000  # classes up to which every logit is kept
KEPT = 100  # logits that are kept of more classes
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class HeadPredictions:
    """A head's answers to n pictures.

    truth: (n,) positions, MISSING where not known; of a head with several classes a picture (n, classes) of 1, 0
    and NaN. logits: (n, k) float32, read back from float16.
    top: (n, k) positions of the logits where not all classes are kept, else None; the largest first.
    logsum: (n,) float32 beside top, else None.
    """

    head: Head
    truth: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    top: npt.NDArray[np.int64] | None = None
    logsum: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """All rows of the table. contents: 16 bytes each. splits: the part of each picture. model: hash or empty.

    views: of a picture, whose mean its logits are.
    """

    paths: list[str]
    contents: list[bytes]
    splits: list[str]
    heads: dict[str, HeadPredictions]
    model: str = ""
    views: str = "one"


def head_predictions(
    logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64] | npt.NDArray[np.float32], *, head: Head
) -> HeadPredictions:
    """(n, classes) logits as the table keeps them."""
    if logits.shape[1] <= WHOLE or head.kind == "multi":
        return HeadPredictions(head=head, truth=truth, logits=logits)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :KEPT]
    highest = logits.max(axis=1, keepdims=True)
    logsum = np.log(np.exp((logits - highest).astype(np.float64)).sum(axis=1)) + highest[:, 0]
    return HeadPredictions(
        head=head,
        truth=truth,
        logits=np.take_along_axis(logits, order, axis=1),
        top=order,
        logsum=logsum.astype(np.float32),
    )


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table, whole or not at all."""
    names = [stored(name) for name in predictions.paths]
    columns: dict[str, pa.Array] = {
        "path": pa.array([text for text, _ in names], pa.string()),
        "path_bytes": pa.array([raw for _, raw in names], pa.binary()),
        "content": pa.array(predictions.contents, pa.binary(CONTENT_BYTES)),
        "split": pa.array(predictions.splits, pa.string()),
    }
    for name, answers in predictions.heads.items():
        columns[f"{name}.truth"] = _truths(answers.truth)
        if answers.top is not None:
            columns[f"{name}.top"] = _lists(answers.top.astype(np.int32), pa.int32())
            columns[f"{name}.logsum"] = pa.array(answers.logsum, pa.float32())
        halves = np.clip(answers.logits, -LARGEST, LARGEST).astype(np.float16)
        columns[f"{name}.logits"] = _lists(halves, pa.float16())
    about = {
        "format": FORMAT,
        "model": predictions.model,
        "views": predictions.views,
        "heads": {name: answers.head.to_json() for name, answers in predictions.heads.items()},
    }
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(about).encode()})
    with replacing(path) as beside, beside.open("wb") as handle:  # Arrow takes no path that is not UTF-8
        pq.write_table(table, handle)


def load_predictions(path: Path) -> Predictions:
    """Read the table back. Raises DataError where the file is not one of ours, or of a later version."""
    where = printable(str(path))
    try:
        with path.open("rb") as handle:
            table = pq.ParquetFile(handle).read()
        about = json.loads((table.schema.metadata or {})[KEY])
        if about["format"] > FORMAT:
            raise DataError(f"{where} was written by a later version of resnets; update resnets to read it")
        return Predictions(
            paths=[
                text if raw is None else from_bytes(raw)
                for text, raw in zip(table["path"].to_pylist(), table["path_bytes"].to_pylist(), strict=True)
            ],
            contents=table["content"].to_pylist(),
            splits=table["split"].to_pylist(),
            heads={name: _read_head(table, name, Head.from_json(head)) for name, head in about["heads"].items()},
            model=str(about["model"]),
            views=str(about.get("views", "one")),
        )
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"there are no predictions {where}; resnets evaluate --out {where} writes them") from error
    except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        raise DataError(f"{where} holds no predictions that can be read: {printable(str(error))}") from error


def _read_head(table: pa.Table, name: str, head: Head) -> HeadPredictions:
    columns: Mapping[str, Any] = {column: table[column].combine_chunks() for column in table.column_names}
    sparse = f"{name}.top" in columns
    return HeadPredictions(
        head=head,
        truth=_read_truths(columns[f"{name}.truth"], head),
        logits=_matrix(columns[f"{name}.logits"]).astype(np.float32),
        top=_matrix(columns[f"{name}.top"]).astype(np.int64) if sparse else None,
        logsum=columns[f"{name}.logsum"].to_numpy(zero_copy_only=False) if sparse else None,
    )


def _truths(truth: npt.NDArray[np.int64] | npt.NDArray[np.float32]) -> pa.Array:
    if truth.ndim == 1:
        return pa.array(truth, pa.int32(), mask=truth == MISSING)
    cells = truth.reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(cells > 0, pa.bool_(), mask=np.isnan(cells)), truth.shape[1])


def _read_truths(column: Any, head: Head) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
    if head.kind == "single":
        return np.asarray(column.cast(pa.int64()).fill_null(MISSING).to_numpy(zero_copy_only=False))
    cells = column.flatten().cast(pa.int8()).cast(pa.float32()).fill_null(float("nan"))
    return np.asarray(cells.to_numpy(zero_copy_only=False)).reshape(len(column), len(head))


def _lists(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """(n, k) as n lists of k."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), values.shape[1])


def _matrix(lists: Any) -> npt.NDArray[Any]:
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(lists), lists.type.list_size)
