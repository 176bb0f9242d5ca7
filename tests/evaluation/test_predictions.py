from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from resnets.base.errors import DataError
from resnets.evaluation.predictions import HeadPredictions, Predictions, head_predictions, load_predictions
from resnets.evaluation.predictions import save_predictions as save
from resnets.labels import Head


def a_table(heads: dict[str, HeadPredictions], n: int = 2) -> Predictions:
    return Predictions(
        paths=[f"caf\udce9/{number}.png" for number in range(n)],
        contents=[bytes([number]) * 16 for number in range(n)],
        splits=["val"] * n,
        heads=heads,
        model="ab12",
    )


def test_which_of_several_classes_are_there_comes_back_with_what_is_not_known(tmp_path: Path) -> None:
    head = Head(kind="multi", ids=tuple(map(str, range(1001))), thresholds=(0.25,) * 1001)
    truth = np.zeros((2, 1001), dtype=np.float32)
    truth[0, 3], truth[1] = 1, np.nan
    logits = np.arange(2002, dtype=np.float32).reshape(2, 1001)
    save(tmp_path / "p.parquet", a_table({"tags": head_predictions(logits, truth, head=head)}))
    back = load_predictions(tmp_path / "p.parquet").heads["tags"]
    np.testing.assert_array_equal(back.truth, truth)
    np.testing.assert_array_equal(back.logits, logits)  # all of them, however many
    assert (back.head, back.top) == (head, None)
    assert str(pq.read_schema(tmp_path / "p.parquet").field("tags.truth").type) == (
        "fixed_size_list<element: bool>[1001]"
    )


def test_the_table_comes_back_as_it_was(tmp_path: Path) -> None:
    head = Head(ids=("a", "b\udcff", "c"), names=("A", "B", "=C"))
    logits = np.array([[1.5, -2.25, 0.0], [0.5, 3.0, 1e9]], dtype=np.float32)
    table = a_table({"label": head_predictions(logits, np.array([2, -1]), head=head)})
    save(tmp_path / "p.parquet", table)
    back = load_predictions(tmp_path / "p.parquet")
    assert (back.paths, back.contents, back.splits, back.model) == (
        table.paths,
        table.contents,
        table.splits,
        "ab12",
    )
    assert back.heads["label"].head == head
    assert back.heads["label"].truth.tolist() == [2, -1]
    # float16 holds at most 65,504
    assert back.heads["label"].logits.tolist() == [[1.5, -2.25, 0.0], [0.5, 3.0, 65504.0]]


def test_the_columns_are_those_of_the_design(tmp_path: Path) -> None:
    head = Head(ids=("a", "b"))
    logits = np.zeros((2, 2), dtype=np.float32)
    save(tmp_path / "p.parquet", a_table({"root": head_predictions(logits, np.array([0, -1]), head=head)}))
    table = pq.read_table(tmp_path / "p.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "path": "string",
        "path_bytes": "binary",
        "content": "fixed_size_binary[16]",
        "split": "string",
        "root.truth": "int32",
        "root.logits": "fixed_size_list<element: halffloat>[2]",
    }
    assert table["root.truth"].to_pylist() == [0, None]


def test_of_more_than_1000_classes_the_100_largest_are_kept_and_the_sum_of_all(tmp_path: Path) -> None:
    head = Head(ids=tuple(map(str, range(1001))))
    logits = np.random.default_rng(0).normal(size=(3, 1001)).astype(np.float32)
    save(tmp_path / "p.parquet", a_table({"label": head_predictions(logits, np.zeros(3, int), head=head)}, n=3))
    back = load_predictions(tmp_path / "p.parquet").heads["label"]
    assert back.top is not None
    assert back.logsum is not None
    assert back.top.shape == (3, 100)
    assert back.top[:, 0].tolist() == logits.argmax(1).tolist()
    assert np.allclose(back.logits, -np.sort(-logits, axis=1)[:, :100], atol=2e-3)
    assert np.allclose(back.logsum, np.log(np.exp(logits.astype(float)).sum(1)), atol=1e-5)


def test_a_table_without_rows_comes_back_empty(tmp_path: Path) -> None:
    head = Head(ids=("a", "b"))
    empty = head_predictions(np.empty((0, 2), dtype=np.float32), np.empty(0, dtype=np.int64), head=head)
    save(tmp_path / "p.parquet", a_table({"label": empty}, n=0))
    assert load_predictions(tmp_path / "p.parquet").heads["label"].logits.shape == (0, 2)


def test_what_is_no_table_of_predictions_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="resnets evaluate --out"):
        load_predictions(tmp_path / "p.parquet")
    (tmp_path / "p.parquet").write_text("text\n" * 10)
    with pytest.raises(DataError, match="holds no predictions that can be read") as caught:
        load_predictions(tmp_path / "p.parquet")
    assert "\n" not in str(caught.value)
