"""From a network's outputs and a data set's labels to figures a head, and to the table of answers."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError, UsageError
from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.source import MISSING
from resnets.evaluation.matching import Match
from resnets.evaluation.metrics import HeadFigures, head_figures
from resnets.evaluation.predict import Outputs
from resnets.evaluation.predictions import Predictions, head_predictions
from resnets.labels import Head


def truth_of(data: Data, match: Match, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n,) true classes of the rows as positions in the model's head, MISSING where there is none."""
    labels = data.labels(match.data)[rows]
    return np.where(labels == MISSING, MISSING, match.positions[labels])


def figures_of(
    outputs: Outputs, data: Data, *, heads: Mapping[str, Head], matches: Sequence[Match]
) -> dict[str, HeadFigures]:
    """The figures of every head that has labels, over the pictures that have one; `heads` are the model's.

    Classes are listed where the data has them. Raises DataError where no picture has a label.
    """
    figures = {}
    for match in matches:
        head = heads[match.model]
        if head.kind != "single":
            raise UsageError(
                f"head {printable(match.model)} has several classes a picture, which is not measured yet"
            )
        truth = truth_of(data, match, outputs.rows)
        labelled = truth != MISSING
        if labelled.any():
            listed = np.sort(match.positions).tolist()
            logits = outputs.logits[match.model][labelled]
            figures[match.model] = head_figures(logits, truth[labelled], head=head, listed=listed)
    if not figures:
        raise DataError(
            f"no picture of {printable(data.name)} could be read and has a label; nothing can be measured"
        )
    return figures


def predictions_of(
    outputs: Outputs, data: Data, *, heads: Mapping[str, Head], matches: Sequence[Match], model: str = ""
) -> Predictions:
    """The table of all answers, in the order of `outputs`; `model` is the hash of the model's tensors."""
    rows = outputs.rows
    columns = {name: data.manifest.table[name].take(rows).to_pylist() for name in ("content", "split")}
    by_model = {match.model: match for match in matches}
    unknown = np.full(len(rows), MISSING, dtype=np.int64)
    return Predictions(
        paths=[data.path(int(row)) for row in rows],
        contents=columns["content"],
        splits=columns["split"],
        heads={
            name: head_predictions(
                outputs.logits[name],
                truth_of(data, by_model[name], rows) if name in by_model else unknown,
                head=head,
            )
            for name, head in heads.items()
            if name in outputs.logits
        },
        model=model,
    )
