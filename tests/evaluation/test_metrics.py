import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score, top_k_accuracy_score

from resnets.evaluation.calibration import calibration_error, sigmoid, softmax
from resnets.evaluation.metrics import head_figures, per_picture
from resnets.labels import Head

N, CLASSES = 6000, 9  # more rows than one chunk


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(N, CLASSES)) * 2).astype(np.float32)


@pytest.fixture(scope="module")
def truth(logits: np.ndarray) -> np.ndarray:
    noisy = logits + np.random.default_rng(1).gumbel(size=logits.shape) * 2
    return np.where(noisy.argmax(1) == 8, 0, noisy.argmax(1)).astype(np.int64)  # class 8 has no picture


def test_figures_equal_scikit_learns(logits: np.ndarray, truth: np.ndarray) -> None:
    head = Head(ids=tuple("abcdefghi"))
    figures = head_figures(logits, truth, head=head)
    predicted, labels = logits.argmax(1), list(range(CLASSES))
    probabilities = softmax(logits)
    assert figures.n == N
    assert figures.top1 == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    assert figures.top5 == pytest.approx(top_k_accuracy_score(truth, logits, k=5, labels=labels), abs=1e-12)
    assert figures.loss == pytest.approx(log_loss(truth, probabilities, labels=labels), abs=1e-9)
    assert figures.macro_recall_sklearn == pytest.approx(
        recall_score(truth, predicted, average="macro", zero_division=0)
    )  # class 8 is predicted and has no picture: 0
    present = list(range(8))
    assert figures.macro_recall == pytest.approx(recall_score(truth, predicted, labels=present, average="macro"))
    precision = precision_score(truth, predicted, labels=labels, average=None)
    recall = recall_score(truth, predicted, labels=present, average=None)
    for position, name in enumerate("abcdefghi"):
        assert figures.classes[name].precision == pytest.approx(precision[position])
        assert figures.classes[name].n == int((truth == position).sum())
        if position < 8:
            assert figures.classes[name].recall == pytest.approx(recall[position])


def test_a_class_without_pictures_has_no_recall_and_a_class_never_predicted_no_precision() -> None:
    figures = head_figures(
        np.array([[3, 1, 0], [2, 0, 1]], dtype=np.float32), np.array([0, 1]), head=Head(ids=("x", "y", "z"))
    )
    assert (figures.classes["z"].recall, figures.classes["z"].n) == (None, 0)
    assert (figures.classes["y"].precision, figures.classes["y"].recall) == (None, 0.0)
    assert figures.macro_recall == 0.5  # x 1, y 0; z does not count


def test_top5_is_given_only_where_there_are_more_than_five_classes() -> None:
    five = head_figures(np.eye(5, dtype=np.float32), np.arange(5), head=Head(ids=tuple("abcde")))
    six = head_figures(np.eye(6, dtype=np.float32), np.arange(6), head=Head(ids=tuple("abcdef")))
    assert (five.top5, five.top5_interval) == (None, None)
    assert six.top5 == 1.0


def test_equal_logits_count_for_the_first_class_as_argmax_does() -> None:
    flat = np.zeros((6, 6), dtype=np.float32)
    found = per_picture(flat, np.arange(6))
    assert found.predicted.tolist() == [0] * 6
    assert found.rank.tolist() == [0, 1, 2, 3, 4, 5]


def test_huge_logits_give_a_finite_loss_and_confidence_one() -> None:
    found = per_picture(np.array([[1e4, -1e4]], dtype=np.float32), np.array([1]))
    assert found.loss.tolist() == [2e4]
    assert found.confidence.tolist() == [1.0]


def test_calibration_error_by_hand() -> None:
    # bin (0.6, 0.667]: two pictures at 0.65, one right: gap 0.15; bin (0.933, 1]: one at 1.0, right: gap 0
    confidence, right = np.array([0.65, 0.65, 1.0]), np.array([True, False, True])
    assert calibration_error(confidence, right) == pytest.approx(abs(1 - 1.3) / 3)


def test_calibration_error_puts_an_edge_into_the_bin_below() -> None:
    # 3/15 belongs to (2/15, 3/15], with 0.15; above it they would be two bins whose gaps add up
    confidence, right = np.array([0.15, 3 / 15]), np.array([True, False])
    assert calibration_error(confidence, right) == pytest.approx((0.85 - 0.2) / 2)


def test_each_interval_holds_its_figure(logits: np.ndarray, truth: np.ndarray) -> None:
    figures = head_figures(logits[:500], truth[:500], head=Head(ids=tuple("abcdefghi")))
    for name in ("top1", "top5", "loss", "macro_recall"):
        low, high = getattr(figures, f"{name}_interval")
        assert low < getattr(figures, name) < high
        assert high - low < 0.5


def test_figures_are_plain_json_with_the_fixed_keys() -> None:
    figures = head_figures(
        np.eye(6, dtype=np.float32), np.arange(6), head=Head(ids=tuple("abcdef")), listed=[0, 2]
    )
    values = json.loads(json.dumps(figures.to_json(), allow_nan=False))
    fixed = {"n", "top1", "top1_interval", "top5", "loss", "macro_recall", "calibration_error", "classes"}
    assert fixed <= values.keys()
    assert values["classes"] == {
        "a": {"name": "a", "precision": 1.0, "recall": 1.0, "n": 1},
        "c": {"name": "c", "precision": 1.0, "recall": 1.0, "n": 1},
    }


def test_sigmoid_saturates_without_overflow() -> None:
    assert sigmoid(np.array([-1e5, 0.0, 1e5])).tolist() == [0.0, 0.5, 1.0]
