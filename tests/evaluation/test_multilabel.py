"""Heads with several classes a picture: figures as scikit-learn's, cells that are not known, thresholds."""

import json

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
)

from resnets.base.errors import DataError
from resnets.evaluation.calibration import sigmoid
from resnets.evaluation.multilabel import (
    MultiFigures,
    best_thresholds,
    multi_figures,
    precision_and_loss,
    precision_by_rows,
)
from resnets.labels import Head

N, CLASSES = 300, 5
NAN = float("nan")


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    there = np.random.default_rng(1).random((N, CLASSES)) < np.array([0.5, 0.3, 0.1, 0.05, 0.8])
    return there.astype(np.float32)


@pytest.fixture(scope="module")
def logits(truth: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(N, CLASSES))
    return np.round(noise + 2 * truth - 1, 1).astype(np.float32)  # rounded: many are equal


def a_head(*, thresholds: tuple[float, ...] = ()) -> Head:
    return Head(kind="multi", ids=tuple("abcde"), thresholds=thresholds)


def test_figures_equal_scikit_learns(logits: np.ndarray, truth: np.ndarray) -> None:
    thresholds = (0.5, 0.4, 0.7, 0.2, 0.6)
    figures = multi_figures(logits, truth, head=a_head(thresholds=thresholds))
    probabilities = sigmoid(logits)
    predicted = probabilities >= np.array(thresholds)
    assert figures.n == N
    assert figures.f1_micro == pytest.approx(f1_score(truth, predicted, average="micro"), abs=1e-12)
    assert figures.f1_macro == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-12)
    assert figures.map == pytest.approx(average_precision_score(truth, logits, average="macro"), abs=1e-12)
    assert figures.exact_match == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    each = [log_loss(truth[:, one], probabilities[:, one]) for one in range(CLASSES)]
    assert figures.loss == pytest.approx(sum(each), rel=1e-9)
    for position, name in enumerate("abcde"):
        of, ours = figures.classes[name], (truth[:, position], predicted[:, position])
        assert of.precision == pytest.approx(precision_score(*ours))
        assert of.recall == pytest.approx(recall_score(*ours))
        assert of.f1 == pytest.approx(f1_score(*ours))
        assert of.average_precision == pytest.approx(average_precision_score(ours[0], logits[:, position]))
        assert (of.n, of.threshold) == (int(truth[:, position].sum()), thresholds[position])
    assert precision_and_loss(logits, truth) == pytest.approx((figures.map, figures.loss))


def test_cells_that_are_not_known_count_nowhere(logits: np.ndarray, truth: np.ndarray) -> None:
    partly = truth.copy()
    partly[::3, 1] = NAN
    figures = multi_figures(logits, partly, head=a_head())
    rows = np.arange(N) % 3 != 0
    predicted = sigmoid(logits) >= 0.5
    assert figures.classes["b"].f1 == pytest.approx(f1_score(truth[rows, 1], predicted[rows, 1]))
    assert figures.classes["b"].average_precision == pytest.approx(
        average_precision_score(truth[rows, 1], logits[rows, 1])
    )
    known = ~np.isnan(partly)
    assert figures.f1_micro == pytest.approx(f1_score(truth[known], predicted[known]))
    assert figures.exact_match == pytest.approx(accuracy_score(truth[rows], predicted[rows]))


def test_a_class_that_is_never_there_counts_as_scikit_learn_can_be_told() -> None:
    truth = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=np.float32)
    logits = np.array([[2, -1, 1], [-1, -1, -1], [1, -2, -2]], dtype=np.float32)  # b never, c once, wrongly
    figures = multi_figures(logits, truth, head=Head(kind="multi", ids=("a", "b", "c")))
    expected = f1_score(truth, sigmoid(logits) >= 0.5, average="macro", zero_division=np.nan)
    assert figures.f1_macro == pytest.approx(expected) == 0.5
    assert figures.map == 1.0  # of a alone
    b, c = figures.classes["b"], figures.classes["c"]
    assert (b.precision, b.recall, b.f1, b.average_precision) == (None, None, None, None)
    assert (c.precision, c.recall, c.f1, c.average_precision) == (0.0, None, 0.0, None)


def test_average_precision_by_hand() -> None:
    # by falling logit: there, not, there, with the last two equal: 1/2 * 1 + 1/2 * 2/3
    truth = np.array([[1], [0], [1]], dtype=np.float32)
    logits = np.array([[3], [1], [1]], dtype=np.float32)
    assert precision_and_loss(logits, truth)[0] == pytest.approx(0.5 + 1 / 3)
    taken_twice = precision_by_rows(logits, truth)(np.array([0, 1, 1]))
    assert taken_twice == 1.0  # one picture that has it, above both others


def test_each_interval_holds_its_figure(logits: np.ndarray, truth: np.ndarray) -> None:
    figures = multi_figures(logits, truth, head=a_head())
    for name in ("f1_micro", "f1_macro", "map", "exact_match", "loss"):
        low, high = getattr(figures, f"{name}_interval")
        assert low < getattr(figures, name) < high
        assert high - low < 0.5


def test_the_interval_of_f1_is_that_of_a_plain_bootstrap(logits: np.ndarray, truth: np.ndarray) -> None:
    predicted = sigmoid(logits) >= 0.5
    chance = np.random.default_rng(5)
    values = []
    for _ in range(400):
        rows = chance.integers(0, N, N)
        right = (predicted[rows] & (truth[rows] > 0)).sum()
        values.append(2 * right / (predicted[rows].sum() + truth[rows].sum()))
    expected = np.quantile(values, [0.025, 0.975])
    assert multi_figures(logits, truth, head=a_head()).f1_micro_interval == pytest.approx(expected, abs=0.01)


def test_thresholds_give_the_highest_f1_there_is(logits: np.ndarray, truth: np.ndarray) -> None:
    probabilities = sigmoid(logits)
    thresholds = best_thresholds(logits, truth)
    for one, threshold in enumerate(thresholds):
        best = max(
            f1_score(truth[:, one], probabilities[:, one] >= cut) for cut in np.unique(probabilities[:, one])
        )
        assert f1_score(truth[:, one], probabilities[:, one] >= threshold) == pytest.approx(best)
        assert abs(probabilities[:, one] - threshold).min() > 1e-6  # between two, and so not at the mercy of one


def test_thresholds_by_hand() -> None:
    logits = np.array([[2, 0, 3], [1, 0, 2], [-1, 0, 1], [-2, 0, 0]], dtype=np.float32)
    truth = np.array([[1, 1, 1], [1, 1, NAN], [0, 1, 0], [0, 1, NAN]], dtype=np.float32)
    first, second, third = best_thresholds(logits, truth)
    p = sigmoid(np.array([1.0, -1.0, 3.0, 1.0]))
    assert first == pytest.approx(
        (p[0] + p[1]) / 2
    )  # 0.5: between the last that has it and the first that has not
    assert second == 0.5  # all have it: nothing to choose
    assert third == pytest.approx((p[2] + p[3]) / 2)  # only the two known cells


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken() -> None:
    # cut after the first: 2*1/(1+2) = 2/3; after the fourth: 2*2/(4+2) = 2/3
    logits = np.array([[4], [3], [2.5], [1], [-3]], dtype=np.float32)
    truth = np.array([[1], [0], [0], [1], [0]], dtype=np.float32)
    p = sigmoid(np.array([1.0, -3.0]))
    assert best_thresholds(logits, truth) == pytest.approx(((p[0] + p[1]) / 2,))


def test_figures_are_plain_json_with_the_fixed_keys(logits: np.ndarray, truth: np.ndarray) -> None:
    figures = multi_figures(logits, truth, head=a_head(), listed=[1])
    values = json.loads(json.dumps(figures.to_json(), allow_nan=False))
    assert {"n", "f1_micro", "f1_macro", "map", "exact_match", "loss", "classes"} <= values.keys()
    assert list(values["classes"]) == ["b"]
    assert isinstance(figures, MultiFigures)


def test_huge_logits_give_a_finite_loss() -> None:
    logits, truth = np.array([[1e4], [-1e4]], dtype=np.float32), np.array([[0], [0]], dtype=np.float32)
    assert precision_and_loss(logits, truth) == (0.0, 5e3)


def test_a_head_has_as_many_thresholds_as_classes() -> None:
    assert a_head().cutoffs == (0.5,) * 5
    with pytest.raises(DataError, match="needs as many thresholds, got 2"):
        a_head(thresholds=(0.1, 0.2))
