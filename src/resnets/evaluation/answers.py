"""What a model says of one file, and how that is written: a table to read, JSON lines, CSV or Parquet.

Names are a stranger's: a terminal gets no control characters, a spreadsheet no formulas. JSON lines are ASCII,
so that names which are not UTF-8 survive as escaped surrogates; CSV has their bytes as they are.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from resnets.base.errors import UsageError
from resnets.base.files import replacing
from resnets.base.text import csv_cell, printable
from resnets.data.names import displayed, name_bytes, stored
from resnets.evaluation.calibration import sigmoid, softmax
from resnets.labels import Head

Format = Literal["table", "jsonl", "csv", "parquet"]
FORMATS = ("table", "jsonl", "csv", "parquet")
COLUMNS = ("path", "head", "rank", "class", "id", "probability", "error")  # of CSV and Parquet: one line a class
KEY = "resnets"  # of a Parquet file's metadata
GROUP = 8192  # lines of a Parquet file that are held in memory


@dataclass(frozen=True)
class Likely:
    """A class and its probability."""

    id: str
    name: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer for one file: head -> classes, the likeliest first; or the reason why there is none.

    heads: of a head with several classes a picture, those above their thresholds, which may be none. scores: all
    classes of such heads, in the head's order.
    views: whose mean the answer is (see `views`).
    path: as it was given, or a given folder and the path below it; names that are not UTF-8 carry surrogates.
    """

    path: str
    heads: dict[str, tuple[Likely, ...]] = field(default_factory=dict)
    scores: dict[str, tuple[Likely, ...]] = field(default_factory=dict)
    error: str | None = None
    views: str = "one"

    def to_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        answer = {
            "path": self.path,
            "heads": {
                name: [{"class": one.name, "id": one.id, "probability": one.probability} for one in likely]
                for name, likely in self.heads.items()
            },
        }
        scores = {name: {one.id: one.probability for one in every} for name, every in self.scores.items()}
        answer |= {"scores": scores} if scores else {}
        return answer | ({"views": self.views} if self.views != "one" else {})


def answer(
    path: str,
    logits: Mapping[str, npt.NDArray[np.float32]],
    heads: Mapping[str, Head],
    *,
    top: int,
    views: str = "one",
) -> Prediction:
    """What one picture's logits (classes,) of each head say; the first of equals before.

    One class a picture: the `top` likeliest. Several: those at or above their thresholds, however many.
    """
    found, scores = {}, {}
    for name, head in heads.items():
        one = logits[name][None, :]
        probabilities = (softmax(one) if head.kind == "single" else sigmoid(one))[0]
        order = np.argsort(-probabilities, kind="stable")
        if head.kind == "single":
            found[name] = _likely(head, probabilities, order[:top])
        else:
            scores[name] = _likely(head, probabilities, range(len(head)))
            cutoffs = head.cutoffs
            above = [place for place in order if probabilities[place] >= cutoffs[place]]
            found[name] = _likely(head, probabilities, above)
    return Prediction(path=path, heads=found, scores=scores, views=views)


def _likely(head: Head, probabilities: npt.NDArray[np.float64], places: Iterable[int]) -> tuple[Likely, ...]:
    return tuple(Likely(head.ids[place], head.names[place], float(probabilities[place])) for place in places)


def write_predictions(predictions: Iterable[Prediction], form: Format, target: Path | BinaryIO) -> None:
    """Write predictions as they come; a file is written whole or not at all, Parquet only to a file."""
    if form not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got {form!r}")
    if form == "parquet":
        if not isinstance(target, Path):
            raise UsageError("--format parquet needs a file to write to: give --out FILE.parquet")
        with replacing(target) as beside, beside.open("wb") as stream:  # Arrow takes no path that is not UTF-8
            _write_parquet(predictions, stream)
    elif isinstance(target, Path):
        with replacing(target) as beside, beside.open("wb") as stream:
            _write_lines(predictions, form, stream)
    else:
        _write_lines(predictions, form, target)


def as_line(prediction: Prediction) -> str:
    """One line for people: `cat.jpg  tabby 83.1%, tiger cat 12.0%`."""
    path = printable(prediction.path)
    if prediction.error is not None:
        return f"{path}  error: {printable(prediction.error)}"
    named = len(prediction.heads) > 1
    answers = [
        (f"{printable(name)}: " if named else "") + ", ".join(_in_words(likely))
        for name, likely in prediction.heads.items()
    ]
    return "  ".join([path, *answers])


def _in_words(likely: tuple[Likely, ...]) -> list[str]:
    """Names that occur twice, as two of ImageNet's do, with their ids."""
    if not likely:
        return ["no class above its threshold"]
    counts = Counter(one.name for one in likely)
    return [
        f"{printable(one.name if counts[one.name] == 1 else f'{one.name} ({one.id})')} {one.probability:.1%}"
        for one in likely
    ]


def _write_lines(predictions: Iterable[Prediction], form: Format, stream: BinaryIO) -> None:
    if form == "csv":
        _write_csv(predictions, stream)
        return
    for prediction in predictions:
        text = json.dumps(prediction.to_json(), allow_nan=False) if form == "jsonl" else as_line(prediction)
        stream.write(text.encode("utf-8") + b"\n")


def _write_csv(predictions: Iterable[Prediction], stream: BinaryIO) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for prediction in predictions:
        for row in _rows(prediction):
            writer.writerow([csv_cell(cell) if isinstance(cell, str) else cell for cell in row])
        _flush(text, stream)
    _flush(text, stream)


def _flush(text: io.StringIO, stream: BinaryIO) -> None:
    stream.write(name_bytes(text.getvalue()))
    text.seek(0)
    text.truncate()


def _write_parquet(predictions: Iterable[Prediction], stream: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        {
            "path": pa.string(),
            "path_bytes": pa.binary(),  # where the name is not UTF-8
            "head": pa.string(),
            "rank": pa.int32(),
            "class": pa.string(),
            "id": pa.string(),
            "probability": pa.float64(),
            "error": pa.string(),
        }
    )
    views: set[str] = set()
    rows = (_parquet_row(row) for prediction in _noting(predictions, views) for row in _rows(prediction))
    with pq.ParquetWriter(stream, schema) as writer:
        while group := list(islice(rows, GROUP)):
            columns = zip(*group, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        writer.add_key_value_metadata({KEY: json.dumps({"views": next(iter(views), "one")})})


def _noting(predictions: Iterable[Prediction], views: set[str]) -> Iterator[Prediction]:
    """The predictions as they come; what their answers are the mean of is collected."""
    for prediction in predictions:
        if prediction.error is None:
            views.add(prediction.views)
        yield prediction


def _rows(prediction: Prediction) -> Iterator[tuple[Any, ...]]:
    """One line of COLUMNS a class, or one with the error; None where there is nothing to say."""
    if prediction.error is not None:
        yield (prediction.path, None, None, None, None, None, prediction.error)
    for name, likely in prediction.heads.items():
        if not likely:
            yield (prediction.path, name, None, None, None, None, None)
        for rank, one in enumerate(likely, 1):
            yield (prediction.path, name, rank, one.name, one.id, one.probability, None)


def _parquet_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*stored(row[0]), *(displayed(cell) if isinstance(cell, str) else cell for cell in row[1:]))
