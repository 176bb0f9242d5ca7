"""How features are written: Parquet and JSON lines, with every name, and nulls where there is an error."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resnets.evaluation import embeddings as module
from resnets.evaluation.embeddings import Embedding, write_embeddings

ABOUT = {"features": 3, "model": "abc", "precision": "fp32", "views": "one"}
ODD = b"names/\xff.png".decode("utf-8", errors="surrogateescape")
ROWS = [
    Embedding(path="a.png", features=np.array([1, 0.1, -2], dtype=np.float32)),
    Embedding(path="notes.png", error="not a picture: text"),
    Embedding(path=ODD, features=np.array([0, 3e-38, 3e38], dtype=np.float32)),
]


def test_parquet_has_the_floats_as_they_are_and_null_for_an_error(tmp_path: Path) -> None:
    write_embeddings(ROWS, "parquet", tmp_path / "f.parquet", about=ABOUT)
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.schema.field("features").type == pa.list_(pa.float32(), 3)
    assert table["path"].to_pylist() == ["a.png", "notes.png", "names/\\xff.png"]
    assert table["path_bytes"].to_pylist() == [None, None, b"names/\xff.png"]
    assert table["error"].to_pylist() == [None, "not a picture: text", None]
    first, second, third = table["features"].to_pylist()
    assert second is None
    assert np.array_equal(np.array([first, third], dtype=np.float32), [ROWS[0].features, ROWS[2].features])
    assert json.loads(table.schema.metadata[b"resnets"]) == {"format": 1, **ABOUT}


def test_row_groups_hold_so_many_numbers_and_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_NUMBERS", 6)  # two rows of three
    write_embeddings(ROWS, "parquet", tmp_path / "f.parquet", about=ABOUT)
    file = pq.ParquetFile(tmp_path / "f.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [2, 1]
    assert file.read()["path"].to_pylist()[1] == "notes.png"
    columns = [file.metadata.row_group(0).column(number) for number in range(4)]
    assert [column.compression for column in columns] == ["ZSTD", "ZSTD", "UNCOMPRESSED", "ZSTD"]


def test_json_lines_are_ascii_and_give_the_same_floats() -> None:
    stream = io.BytesIO()
    write_embeddings(ROWS, "jsonl", stream, about=ABOUT)
    assert stream.getvalue().isascii()
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert second == {"path": "notes.png", "error": "not a picture: text"}
    assert third["path"] == ODD
    assert np.array_equal(np.array(first["features"], dtype=np.float32), ROWS[0].features)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[Embedding]:
        yield ROWS[0]
        raise KeyboardInterrupt

    for form in ("parquet", "jsonl"):
        with pytest.raises(KeyboardInterrupt):
            write_embeddings(broken(), form, tmp_path / "f", about=ABOUT)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
