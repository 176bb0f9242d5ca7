"""The combined score of several heads: by hand, against scikit-learn, and its weights."""

import numpy as np
import pytest
from sklearn.metrics import recall_score

from resnets.base.errors import UsageError
from resnets.data.dataset import Data, open_data
from resnets.evaluation.matching import match_heads
from resnets.evaluation.measure import figures_of, score_of
from resnets.evaluation.predict import Outputs
from resnets.evaluation.score import Score, combined, head_weights, written
from resnets.labels import Head

N = 400
CHANCE = np.random.default_rng(0)
TRUTH = {name: CHANCE.integers(0, classes, N) for name, classes in (("root", 7), ("vowel", 4), ("mark", 3))}
LOGITS = {
    name: (CHANCE.normal(size=(N, 9)) + 2 * np.eye(9)[truth])[:, : truth.max() + 2].astype(np.float32)
    for name, truth in TRUTH.items()
}  # each head of the network has one class that no picture has
WEIGHTS = {"root": 2.0, "vowel": 1.0, "mark": 1.0}


def measured(data: Data, logits: dict[str, np.ndarray], weights: dict[str, float]) -> Score | None:
    heads = {
        name: Head(ids=tuple(map(str, range(values.shape[1]))), kind=data.heads[name].kind)
        for name, values in logits.items()
    }
    outputs = Outputs(rows=np.arange(len(data)), logits=logits, failed={})
    matches = match_heads(heads, data.heads)
    figures = figures_of(outputs, data, heads=heads, matches=matches)
    return score_of(outputs, data, figures, heads=heads, matches=matches, weights=weights)


def pictures(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), dtype=np.uint8)


@pytest.fixture(scope="module")
def data() -> Data:
    noise = np.random.default_rng(1).integers(0, 255, (N, 4, 4), dtype=np.uint8)
    return open_data((noise, TRUTH), for_training=False)


def test_the_score_is_the_weighted_mean_of_the_recalls_of_classes_that_are_there(data: Data) -> None:
    score = measured(data, LOGITS, WEIGHTS)
    assert score is not None
    present, theirs = (
        {
            name: recall_score(truth, LOGITS[name].argmax(1), average="macro", labels=labels, zero_division=0)
            for name, truth in TRUTH.items()
            for labels in ([*range(truth.max() + 1)] if only else None,)
        }
        for only in (True, False)
    )
    assert score.value == pytest.approx((2 * present["root"] + present["vowel"] + present["mark"]) / 4)
    assert score.sklearn == pytest.approx((2 * theirs["root"] + theirs["vowel"] + theirs["mark"]) / 4)
    assert score.sklearn < score.value  # some pictures were taken for the class that is not there
    low, high = score.interval
    assert low < score.value < high
    assert high - low < 0.1
    assert score.weights == WEIGHTS


def test_missing_labels_count_in_their_own_head_alone() -> None:
    labels = {"a": [0, 1, None, 1], "b": [0, 1, 0, None]}
    data = open_data((pictures(4), labels), for_training=False)
    logits = {
        "a": np.array([[1, 0], [0, 1], [0, 1], [1, 0]], dtype=np.float32),  # right, right, ?, wrong
        "b": np.array([[1, 0], [1, 0], [1, 0], [1, 0]], dtype=np.float32),  # right, wrong, right, ?
    }
    score = measured(data, logits, {})
    assert score is not None
    assert score.value == pytest.approx((0.75 + 0.5) / 2)  # a: 1 and 1/2; b: 1 and 0


def test_a_head_with_several_classes_a_picture_counts_by_its_mean_average_precision() -> None:
    labels = {"kind": [0, 1, 0, 1], "tags": np.array([[1, 0], [0, 1], [1, 0], [0, 0]])}
    data = open_data((pictures(4), labels), for_training=False)
    logits = {
        "kind": np.eye(2, dtype=np.float32)[[0, 1, 0, 0]],
        "tags": np.array([[3, 0], [1, 3], [2, 1], [0, 2]], dtype=np.float32),
    }
    score = measured(data, logits, {"kind": 1.0, "tags": 3.0})
    assert score is not None
    assert score.value == pytest.approx((0.75 + 3 * 1.0) / 4)


def test_one_head_alone_has_no_score() -> None:
    data = open_data((pictures(4), [0, 1, 0, 1]), for_training=False)
    assert measured(data, {"label": np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]}, {}) is None


def test_weights_are_given_by_name_and_are_one_by_default() -> None:
    heads = ("root", "vowel", "a=b")
    weights = head_weights(["root=2", "a=b=0.25"], heads, flag="--score-weight")
    assert weights == {"root": 2.0, "vowel": 1.0, "a=b": 0.25}
    assert written(weights) == ("root=2", "vowel=1", "a=b=0.25")
    assert head_weights(written(weights), heads, flag="--score-weight") == weights
    assert head_weights([], ["label"], flag="--score-weight") == {"label": 1.0}
    assert written({"label": 1.0}) == ()


@pytest.mark.parametrize(
    ("given", "useful"),
    [
        (["rot=2"], "did you mean root"),
        (["root"], "must be NAME=X .* such as root=2, got 'root'"),
        (["root=-1"], "at least 0"),
        (["root=nan"], "at least 0"),
        (["root=0", "vowel=0"], "one weight at least must be above 0"),
    ],
)
def test_wrong_weights_are_refused(given: list[str], useful: str) -> None:
    with pytest.raises(UsageError, match=useful):
        head_weights(given, ["root", "vowel"], flag="--loss-weight")


def test_weights_are_refused_where_there_is_one_label() -> None:
    with pytest.raises(UsageError, match="--loss-weight is for several label columns"):
        head_weights(["label=2"], ["label"], flag="--loss-weight")


def test_a_head_that_was_not_measured_leaves_the_others_their_weights() -> None:
    assert combined({"root": 0.5, "vowel": 0.8}, {"root": 2.0, "vowel": 1.0, "mark": 7.0}) == pytest.approx(0.6)
    assert combined({"vowel": 0.8}, {"root": 2.0, "vowel": 0.0}) == 0.8
    assert combined({}, {"root": 1.0}) == 0.0
