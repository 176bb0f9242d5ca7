"""Classes of unequal size: weights as scikit-learn has them, rows that come more often, the note on rare ones."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from resnets.base.errors import UsageError
from resnets.data.dataset import Data, open_data
from resnets.labels import Head
from resnets.training.imbalance import balanced_head, class_weights, times_drawn, warn_of_rare

LABELS = np.repeat([0, 1, 3], [60, 30, 10])
HEAD = Head(ids=("a", "b", "c", "d"))


def data_of(labels: object, count: int) -> Data:
    noise = np.random.default_rng(0).integers(0, 255, (count, 3, 3), dtype=np.uint8)
    return open_data({"train": (noise, labels), "val": (noise, labels)})


def test_balanced_weights_are_scikit_learns_and_one_in_the_mean() -> None:
    weights = class_weights(LABELS, HEAD, times=np.ones(100))
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=LABELS)
    assert weights[[0, 1, 3]] == pytest.approx(expected)
    assert weights[2] == 0  # nothing has it
    assert weights[LABELS].mean() == pytest.approx(1)


def test_missing_labels_do_not_count_in_the_weights() -> None:
    labels = np.where(np.arange(100) % 4 == 0, -1, LABELS)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels[labels >= 0])
    assert class_weights(labels, HEAD, times=np.ones(100))[[0, 1, 3]] == pytest.approx(expected)


def test_a_class_that_some_pictures_have_weighs_as_much_in_all_as_its_absence() -> None:
    labels = np.zeros((10, 2), dtype=np.float32)
    labels[:2, 0] = 1
    labels[5:, 1] = np.nan
    labels[0, 1] = 1
    weights = class_weights(labels, Head(kind="multi", ids=("a", "b")), times=np.ones(10))
    assert weights == pytest.approx(np.array([[10 / (2 * 8), 10 / (2 * 2)], [5 / (2 * 4), 5 / (2 * 1)]]))


def test_weights_of_a_balanced_order_see_how_often_rows_come() -> None:
    labels = {"root": LABELS, "vowel": np.tile([0, 1], 50)}
    data = data_of(labels, 100)
    times = times_drawn(data, data.rows("train"))
    assert balanced_head(data) == "root"
    assert times.sum() == pytest.approx(100)
    assert [times[one == LABELS].sum() for one in (0, 1, 3)] == pytest.approx([100 / 3] * 3)
    head = data.heads["root"]
    assert class_weights(data.labels("root")[:100], head, times=times) == pytest.approx(np.ones(3))


def test_a_balanced_order_needs_one_class_a_picture() -> None:
    with pytest.raises(UsageError, match="--sampling balanced needs labels with one class a picture"):
        balanced_head(data_of(np.eye(6, 2, dtype=np.int64), 6))


def test_classes_with_a_handful_of_pictures_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    labels = {"root": [0] * 30 + [1] * 3 + [2] * 7, "vowel": [0, 1] * 19 + [2, 2]}
    data = data_of(labels, 40)
    caplog.clear()
    warn_of_rare(data)
    assert len(caplog.records) == 1
    assert "fewer than 5 training pictures: '2' of vowel (2), '1' of root (3); " in caplog.text


def test_of_many_rare_classes_the_rarest_are_named_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = data_of([0] * 20 + [1, 2, 3, 4, 5, 6, 7, 7], 28)
    caplog.clear()
    warn_of_rare(data)
    assert ": '1' (1), '2' (1), '3' (1), '4' (1), '5' (1) and 2 more; " in caplog.text


def test_where_no_class_is_rare_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    data = data_of([0, 1] * 5, 10)
    caplog.clear()
    warn_of_rare(data)
    assert caplog.text == ""
