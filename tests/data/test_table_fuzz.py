"""Whatever stands in a table, it is read or refused in one line; nothing else is raised."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from resnets.base.errors import ResnetsError
from resnets.data.dataset import open_data
from resnets.data.options import DataOptions
from resnets.data.sources.table import TableSource
from resnets.data.sources.table_paths import READINGS, picture_paths
from tests.data.test_table import picture

FUZZED = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
NAMES = st.sampled_from(["image", "path", "label", "split", "group", "a", "b", "", " image", "é", "tags"])
CELLS = st.one_of(
    st.sampled_from(
        ["a.png", "b.png", "", "0", "1", "2.0", "train", "val", "x;y", "x|", "../a.png", "/", "\0", '"']
    ),
    st.text(max_size=6),
)
COLUMNS = st.one_of(st.none(), NAMES)
OPTIONS = st.builds(
    lambda image, labels, split, group, multi, outside: {
        "image_column": image,
        "label_column": tuple(dict.fromkeys(labels)),
        "split_column": split,
        "group_column": group,
        "multi_label": tuple(dict.fromkeys(multi)),
        "allow_outside": outside,
    },
    COLUMNS,
    st.lists(NAMES, max_size=2),
    COLUMNS,
    COLUMNS,
    st.lists(st.one_of(NAMES, st.sampled_from(["none", "h=a,b", "h=", "=a", "h=a,a"])), max_size=2),
    st.booleans(),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    for number, name in enumerate(("a.png", "b.png")):
        (root / name).write_bytes(picture(number))
    return root


def refused_or_read(path: Path, **options: Any) -> None:
    said = ""
    try:
        data = open_data(path, options=DataOptions(**options), for_training=False)
        assert len(set(data.manifest.paths())) == len(data)
        for row in data.rows("all"):
            data.read(row)
    except ResnetsError as error:
        said = str(error)
    assert said.isprintable()


@FUZZED
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
)
def test_any_bytes_are_a_table_or_are_refused(folder: Path, content: bytes) -> None:
    (folder / "any.csv").write_bytes(content)
    refused_or_read(folder / "any.csv")


@FUZZED
@given(
    names=st.lists(NAMES, min_size=1, max_size=5),
    rows=st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=12),
    delimiter=st.sampled_from([",", ";", "\t"]),
    options=OPTIONS,
)
def test_any_cells_are_read_or_refused(
    folder: Path, names: list[str], rows: list[list[str]], delimiter: str, options: dict[str, Any]
) -> None:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if set(cell) & {'"', ",", ";", "\t", "\n", "\r"} else cell

    lines = [delimiter.join(map(quoted, cells[: len(names)])) for cells in (names, *rows)]
    (folder / "cells.csv").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    refused_or_read(folder / "cells.csv", **options)


VALUES: dict[str, Any] = {
    "text": st.one_of(st.none(), CELLS),
    "number": st.one_of(st.none(), st.integers(-3, 3)),
    "fraction": st.one_of(st.none(), st.floats(width=32)),
    "flag": st.one_of(st.none(), st.booleans()),
    "bytes": st.one_of(st.none(), st.binary(max_size=8), st.just(picture(1))),
    "list": st.one_of(st.none(), st.lists(st.one_of(st.none(), CELLS), max_size=3)),
}
TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "number": pa.int64(),
    "fraction": pa.float64(),
    "flag": pa.bool_(),
    "bytes": pa.binary(),
    "list": pa.list_(pa.string()),
}


@FUZZED
@given(data=st.data(), options=OPTIONS)
def test_any_parquet_table_is_read_or_refused(folder: Path, data: st.DataObject, options: dict[str, Any]) -> None:
    names = data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    rows = data.draw(st.integers(0, 6))
    kinds = [data.draw(st.sampled_from(sorted(TYPES))) for _ in names]
    columns = {
        name: pa.array(data.draw(st.lists(VALUES[kind], min_size=rows, max_size=rows)), TYPES[kind])
        for name, kind in zip(names, kinds, strict=True)
    }
    features = data.draw(
        st.sampled_from([None, {"label": {"names": ["p", "q"], "_type": "ClassLabel"}}, {"label": 3}, []])
    )
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    try:
        pq.write_table(table, folder / "x.parquet")
    except (UnicodeEncodeError, pa.ArrowException):
        assume(False)
    refused_or_read(folder / "x.parquet", **options)


@FUZZED
@given(position=st.floats(0, 1), junk=st.binary(min_size=1, max_size=40))
def test_a_damaged_parquet_table_is_read_or_refused(folder: Path, position: float, junk: bytes) -> None:
    good = folder / "good.parquet"
    if not good.exists():
        pq.write_table(pa.table({"image": ["a.png", "b.png"] * 20, "label": ["x", "y"] * 20}), good)
    content = good.read_bytes()
    at = int(position * (len(content) - 1))
    (folder / "damaged.parquet").write_bytes(content[:at] + junk + content[at + len(junk) :])
    refused_or_read(folder / "damaged.parquet")


@FUZZED
@given(
    cells=st.lists(
        st.one_of(st.none(), CELLS, st.sampled_from(["a.png#2", "row 1", "row 1#2", "./a.png"])), max_size=12
    )
)
def test_every_row_has_a_name_of_its_own(folder: Path, cells: list[str | None]) -> None:
    found = picture_paths(cells, folder, READINGS[0], allow_outside=True, where="it")
    assert len(set(found.names)) == len(found.names) == len(cells)
    assert all((row in found.left_out) == (file is None) for row, file in enumerate(found.files))


def test_the_fuzzed_folder_itself_is_good(folder: Path) -> None:
    (folder / "good.csv").write_text("image,label\na.png,x\nb.png,y\n")
    assert TableSource(folder / "good.csv").listing().paths == ["a.png", "b.png"]
