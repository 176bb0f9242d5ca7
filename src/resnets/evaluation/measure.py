"""From a network's outputs and a data set's labels to figures a head, one score, and the table of answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError
from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.source import MISSING
from resnets.evaluation.matching import Match
from resnets.evaluation.metrics import HeadFigures, head_figures, macro_recall
from resnets.evaluation.multilabel import MultiFigures, multi_figures, precision_by_rows, resamples_for
from resnets.evaluation.predict import Outputs
from resnets.evaluation.predictions import Predictions, head_predictions
from resnets.evaluation.score import Score, combined
from resnets.evaluation.statistics import RESAMPLES, Rows, bootstrap
from resnets.labels import Head

Figures = HeadFigures | MultiFigures
Truth = npt.NDArray[Any]  # int64 (n,), MISSING where not known; float32 (n, classes) of 1, 0 and NaN


def truth_of(data: Data, match: Match, rows: Rows, *, head: Head) -> Truth:
    """What is true of the rows, in the order of the model's `head`.

    One class a picture: (n,) positions, MISSING where there is none. Several: (n, classes) of 1, 0 and NaN.
    """
    labels: Truth = data.labels(match.data)[rows]
    if head.kind == "single":
        return np.where(labels == MISSING, MISSING, match.positions[labels])
    truth = unknown_truth(len(rows), head)
    truth[:, match.positions] = labels
    return truth


def unknown_truth(n: int, head: Head) -> Truth:
    """As `truth_of` gives it where nothing is known."""
    if head.kind == "single":
        return np.full(n, MISSING, dtype=np.int64)
    return np.full((n, len(head)), np.nan, dtype=np.float32)


def labelled(truth: Truth) -> npt.NDArray[np.bool_]:
    """(n,) where something is known."""
    return np.asarray((truth != MISSING) if truth.ndim == 1 else ~np.isnan(truth).all(axis=1))


def figures_of(
    outputs: Outputs, data: Data, *, heads: Mapping[str, Head], matches: Sequence[Match]
) -> dict[str, Figures]:
    """The figures of every head that has labels, over the pictures that have one; `heads` are the model's.

    Classes are listed where the data has them. Raises DataError where no picture has a label.
    """
    figures: dict[str, Figures] = {}
    for match in matches:
        head = heads[match.model]
        truth = truth_of(data, match, outputs.rows, head=head)
        known = labelled(truth)
        if known.any():
            measured = head_figures if head.kind == "single" else multi_figures
            listed = np.sort(match.positions).tolist()
            figures[match.model] = measured(
                outputs.logits[match.model][known], truth[known], head=head, listed=listed
            )
    if not figures:
        raise DataError(
            f"no picture of {printable(data.name)} could be read and has a label; nothing can be measured"
        )
    return figures


def score_of(
    outputs: Outputs,
    data: Data,
    figures: Mapping[str, Figures],
    *,
    heads: Mapping[str, Head],
    matches: Sequence[Match],
    weights: Mapping[str, float],
) -> Score | None:
    """The combined score of the heads that have figures; None where there is one alone.

    Its interval resamples pictures with all their labels, within the classes of the head that weighs most.
    """
    if len(figures) < 2:
        return None
    weights = {name: weights.get(name, 1.0) for name in figures}
    parts: dict[str, Callable[[Rows], float]] = {}
    strata: Truth = np.zeros(len(outputs.rows), dtype=np.int64)
    resamples = RESAMPLES
    weightiest = -1.0
    for match in matches:
        name, head = match.model, heads[match.model]
        if name not in figures:
            continue
        truth, logits = truth_of(data, match, outputs.rows, head=head), outputs.logits[name]
        if head.kind == "multi":
            parts[name] = precision_by_rows(logits, truth)
            resamples = min(resamples, resamples_for(truth))
            continue
        parts[name] = _recall_by_rows(logits, truth)
        if weights[name] > weightiest:
            strata, weightiest = truth, weights[name]

    def score(rows: Rows) -> npt.NDArray[np.float64]:
        return np.array([combined({name: part(rows) for name, part in parts.items()}, weights)])

    values = {name: one.macro_recall if isinstance(one, HeadFigures) else one.map for name, one in figures.items()}
    theirs = {name: one.macro_recall_sklearn for name, one in figures.items() if isinstance(one, HeadFigures)}
    return Score(
        value=combined(values, weights),
        interval=bootstrap(strata, score, resamples=resamples)[0],
        sklearn=combined(values | theirs, weights),
        weights=weights,
    )


def _recall_by_rows(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> Callable[[Rows], float]:
    """Macro recall over the classes in the truth, as a function of the rows it is taken over; 0 of no label."""
    predicted, known = logits.argmax(axis=1), labelled(truth)

    def recall(rows: Rows) -> float:
        there = rows[known[rows]]
        return macro_recall(truth[there], predicted[there]) if len(there) else 0.0

    return recall


def predictions_of(
    outputs: Outputs, data: Data, *, heads: Mapping[str, Head], matches: Sequence[Match], model: str = ""
) -> Predictions:
    """The table of all answers, in the order of `outputs`; `model` is the hash of the model's tensors."""
    rows = outputs.rows
    columns = {name: data.manifest.table[name].take(rows).to_pylist() for name in ("content", "split")}
    by_model = {match.model: match for match in matches}
    return Predictions(
        paths=[data.path(int(row)) for row in rows],
        contents=columns["content"],
        splits=columns["split"],
        heads={
            name: head_predictions(
                outputs.logits[name],
                truth_of(data, by_model[name], rows, head=head)
                if name in by_model
                else unknown_truth(len(rows), head),
                head=head,
            )
            for name, head in heads.items()
            if name in outputs.logits
        },
        model=model,
    )
