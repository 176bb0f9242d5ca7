"""Labels that are likely wrong: confident learning (Northcutt et al. 2021) on predictions out of fold.

A classifier is fitted on frozen features of four fifths of the pictures and asked for the rest, in turn, so that
no picture's own label is behind its prediction. cleanlab does the statistics. The features are those of a given
model; else gradients of the thumbnails, and where these do not suffice, of small networks that are trained
briefly, each on the other folds.

n pictures, F features, K classes.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from resnets.base.errors import DataError, UsageError
from resnets.base.extras import require
from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.source import MISSING, TEST, TRAIN, VAL
from resnets.understanding.doctor.facts import Facts
from resnets.understanding.doctor.near import described

if TYPE_CHECKING:
    from types import ModuleType

    from resnets.understanding.doctor.features import Machine
    from resnets.weights.modelfile import Model

FOLDS, NETWORK_FOLDS = 5, 3
CONTRADICTED, UNEXPLAINED = 0.1, 0.03  # up to these shares of the labels gradients suffice, see `_suffice`
DISBELIEVED = 0.05  # the probability of the given class below which a label is listed at all
PENALTY = 0.1  # the inverse strength of the L2 penalty on standardised features
ITERATIONS = 300
LEAST = 2 * FOLDS  # pictures of a class; the labels of smaller ones are not judged

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Give = Callable[
    [Ints, Ints, str], tuple[Ints, npt.NDArray[np.float32]]
]  # trained and judged rows, name -> features


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A label that is likely wrong. own, other: the probabilities of the given class and of the suggested one."""

    row: int
    head: str
    given: str
    suggested: str
    own: float
    other: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """suspects: the likeliest errors first. said: a line a head, of what was judged by what."""

    suspects: tuple[Suspect, ...]
    said: tuple[str, ...]


def cleanlab_filter() -> "ModuleType":
    """cleanlab's filter. Raises MissingExtra."""
    return require("cleanlab.filter", extra="labels", purpose="Looking for wrong labels")


def judge_labels(
    data: Data, facts: Facts, *, split: str | None, model: "Model | None", machine: "Machine"
) -> Judgement:
    """Look for wrong labels in every head with one class a picture.

    split: the part that is judged, by a classifier fitted on all others; None: training and validation pictures.
    Test pictures are neither judged nor used unless they are asked for. Raises UsageError and DataError where
    there is nothing to judge, MissingExtra without cleanlab.
    """
    suspects: list[Suspect] = []
    said = []
    heads = [name for name, head in data.heads.items() if head.kind == "single"]
    if not heads:
        raise DataError("labels are judged where a picture has one class, and here each has several")
    for head in heads:
        found, line = _judge(data, facts, head, split=split, model=model, machine=machine)
        suspects += found
        said.append(f"{printable(head)}: {line}" if len(data.heads) > 1 else line)
    return Judgement(suspects=tuple(sorted(suspects, key=lambda one: one.own)), said=tuple(said))


def _judge(
    data: Data, facts: Facts, head: str, *, split: str | None, model: "Model | None", machine: "Machine"
) -> tuple[list[Suspect], str]:
    labels = data.manifest.labels(head).astype(np.int64)
    rows = np.intersect1d(_rows(data, split), facts.rows())
    rows = rows[labels[rows] != MISSING]
    counts = np.bincount(labels[rows], minlength=len(data.heads[head]))
    small = np.flatnonzero((counts > 0) & (counts < LEAST))
    rows = rows[~np.isin(labels[rows], small)]
    if len(np.unique(labels[rows])) < 2:
        raise DataError(
            f"there are no two classes of {LEAST} pictures at least to judge the labels of {head!r} by; "
            "add pictures, or go without --labels"
        )
    judged = set(data.rows(split).tolist() if split not in (None, "all") else rows.tolist())
    if not judged & set(rows.tolist()):
        raise UsageError(f"{printable(data.name)} has no {split} pictures to judge; choose another --split")
    place = np.array([row in judged for row in rows.tolist()])
    probabilities, words, done = _predicted(data, facts, rows, labels, place, head, model, machine)
    chosen = place & done
    given, guesses = labels[rows[chosen]], probabilities[chosen]
    agreed = float((guesses.argmax(axis=1) == given).mean())
    found = _suspects(rows[chosen], given, guesses, data.heads[head].ids, head)
    unjudged = f"; {len(small)} classes of fewer than {LEAST} pictures are not judged" if len(small) else ""
    return found, (
        f"labels of {len(given):,} pictures judged by {words}, which give {agreed:.1%} of the labels out of fold"
        f"{unjudged}"
    )


def _rows(data: Data, split: str | None) -> Ints:
    """The pictures that are judged, and those that are only learnt from."""
    parts = [TRAIN, VAL] if split in (None, TRAIN, VAL) else [TRAIN, VAL, TEST]
    return np.sort(np.concatenate([data.rows(part) for part in parts]))


def _predicted(
    data: Data,
    facts: Facts,
    rows: Ints,
    labels: Ints,
    judged: npt.NDArray[np.bool_],
    head: str,
    model: "Model | None",
    machine: "Machine",
) -> tuple[Floats, str, npt.NDArray[np.bool_]]:
    """(n, K) probabilities out of fold, what gave them, and (n,) for which rows there are any."""
    contents = data.manifest.table["content"].to_pylist()
    keys = [contents[row] for row in rows.tolist()]
    several = bool(judged.all())

    def folds(count: int) -> Ints:
        """A part that is asked for by name is judged by a classifier of all the others, which are in no fold."""
        drawn = folds_of(labels[rows], keys, count)
        return drawn if several else np.where(judged, 0, -1)

    classes = len(data.heads[head])
    if model is not None:
        from resnets.understanding.doctor.features import model_features

        there, features = model_features(model, data, rows, machine=machine)
        known = np.isin(rows, there)
        probabilities = np.zeros((len(rows), classes))
        probabilities[known] = out_of_fold(features, labels[there], folds(FOLDS)[known], classes)
        return probabilities, "a linear classifier on the features of the given model", known
    every = np.ones(len(rows), dtype=bool)
    gradients = described(facts.records["thumb"][rows])
    machine.progress("judging labels by gradients", 0, None)
    probabilities = out_of_fold(gradients, labels[rows], folds(FOLDS), classes)
    if _suffice(labels[rows[judged]], probabilities[judged]):
        return probabilities, "a linear classifier on the gradients of thumbnails", every
    from resnets.understanding.doctor.features import BriefNetworks

    networks = BriefNetworks(data, facts, rows, head=head, machine=machine)
    of_fold = folds(NETWORK_FOLDS)
    for fold in range(of_fold.max() + 1):
        trained, asked_for = np.flatnonzero(of_fold != fold), np.flatnonzero(of_fold == fold)
        name = f"fold {fold + 1} of {of_fold.max() + 1}"
        there, features = networks.features(rows[trained], rows[asked_for], name=name)
        order = np.concatenate([trained, asked_for])
        if len(there) != len(order):  # a file has gone since it was decoded
            raise DataError(f"{printable(data.name)} has changed while it was looked at; try again")
        joined = np.concatenate([features, gradients[order]], axis=1)
        probabilities[asked_for] = _fitted(
            joined[: len(trained)], labels[rows[trained]], joined[len(trained) :], classes
        )
    return probabilities, f"{networks.words()} and the gradients of thumbnails", every


def out_of_fold(features: npt.NDArray[np.float32], labels: Ints, folds: Ints, classes: int) -> Floats:
    """(n, K) probabilities of each row from a classifier fitted on the rows of other folds; zeros in fold -1."""
    probabilities = np.zeros((len(labels), classes))
    for fold in range(folds.max() + 1):
        asked = folds == fold
        probabilities[asked] = _fitted(features[~asked], labels[~asked], features[asked], classes)
    return probabilities


def _fitted(
    features: npt.NDArray[np.float32], labels: Ints, asked: npt.NDArray[np.float32], classes: int
) -> Floats:
    """Logistic regression on standardised features: (asked, K) probabilities, 0 of classes it has not seen."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    classifier = LogisticRegression(C=PENALTY, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is enough to rank labels by
        classifier.fit((features - mean) / deviation, labels)
    probabilities = np.zeros((len(asked), classes))
    probabilities[:, classifier.classes_] = classifier.predict_proba((asked - mean) / deviation)
    return probabilities


def folds_of(labels: Ints, contents: Sequence[bytes], count: int) -> Ints:
    """(n,) the fold of each picture: every class spread over all, equal pictures of a class in one fold."""
    folds = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_content: dict[bytes, list[int]] = {}
        for place in np.flatnonzero(labels == label).tolist():
            of_content.setdefault(contents[place], []).append(place)
        for number, content in enumerate(sorted(of_content)):  # hashes: their order is as good as chance
            folds[of_content[content]] = number % count
    return folds


def _suspects(rows: Ints, given: Ints, probabilities: Floats, ids: Sequence[str], head: str) -> list[Suspect]:
    guesses = probabilities.argmax(axis=1)
    return [
        Suspect(
            row=int(rows[place]),
            head=head,
            given=ids[given[place]],
            suggested=ids[guesses[place]],
            own=float(probabilities[place, given[place]]),
            other=float(probabilities[place, guesses[place]]),
        )
        for place in _listed(given, probabilities)
    ]


def _suffice(given: Ints, probabilities: Floats) -> bool:
    """Whether predictions contradict few labels, and nearly all of these are listed as likely wrong."""
    contradicted = int((probabilities.argmax(axis=1) != given).sum())
    if contradicted > CONTRADICTED * len(given):
        return False
    return contradicted - len(_listed(given, probabilities)) <= UNEXPLAINED * len(given)


def _listed(given: Ints, probabilities: Floats) -> list[int]:
    """cleanlab's list, likeliest first: of each class as many as it estimates to be wrong, the least believed.

    Where classes are hard to tell apart, its estimate counts the classifier's own errors too; so those are dropped
    whose label is not all but ruled out.
    """
    guesses = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(given)), given]
    present = np.unique(np.concatenate([given, guesses]))
    shares = probabilities[:, present] + 1e-9
    found: Any = cleanlab_filter().find_label_issues(
        np.searchsorted(present, given),
        shares / shares.sum(axis=1, keepdims=True),
        filter_by="prune_by_class",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    places = np.asarray(found, dtype=np.int64)
    chosen: list[int] = places[(own[places] < DISBELIEVED) & (guesses[places] != given[places])].tolist()
    return chosen
