"""A stranger's bytes: whatever is in a file or a manifest, what comes of it is an answer or one of our errors."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import resnets
from resnets.base.errors import DataError
from resnets.data.decode import decode, header, particulars
from resnets.data.manifest import Manifest
from resnets.data.sources.manifest import ManifestSource
from resnets.understanding.doctor.facts import FACTS, _fill
from tests.understanding.faults import encoded, picture

FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def seeds() -> list[bytes]:
    """A small file of each format and of several modes."""
    chance = np.random.default_rng(0)
    one, two = picture(chance, 9), picture(chance, 9)
    exif = Image.Exif()
    exif[0x0112] = 6
    animated = {"save_all": True, "append_images": [two]}
    return [
        encoded(one, "JPEG", exif=exif),
        encoded(one.convert("CMYK"), "JPEG"),
        encoded(one.convert("L"), "JPEG"),
        encoded(one, "PNG"),
        encoded(one.quantize(8), "PNG"),
        encoded(one.convert("RGBA"), "PNG"),
        encoded(one, "PNG", **animated),
        encoded(one, "GIF", **animated),
        encoded(one, "WEBP", **animated),
        encoded(one, "BMP"),
        encoded(one, "TIFF", **animated),
        encoded(one.convert("RGB"), "TIFF", compression="tiff_lzw"),
    ]


SEEDS = seeds()
changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12)


def refused(call: Callable[[], object]) -> str | None:
    """The reason why something is refused, None where it is not."""
    try:
        call()
    except DataError as error:
        return str(error)
    return None


def changed(content: bytes, places: list[tuple[int, int]], length: float) -> bytes:
    mutable = bytearray(content[: max(1, int(len(content) * length))])
    for place, value in places:
        mutable[place % len(mutable)] = value
    return bytes(mutable)


@FEW
@given(st.sampled_from(SEEDS), changes, st.floats(0.05, 1))
def test_a_changed_picture_gives_facts_or_a_reason(
    content: bytes, places: list[tuple[int, int]], length: float
) -> None:
    file = changed(content, places, length)
    record = np.zeros(1, dtype=FACTS)[0]
    reason = refused(lambda: _fill(record, file))
    if reason is not None:
        assert reason.isprintable()
    else:
        assert 0 <= record["mean"].min() <= record["mean"].max() <= 1.0001
        assert 0 < record["close"].min() <= record["close"].max() <= 1.0001
        assert decode(file).size == header(file)[1:3]


@FEW
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"]),
)
def test_bytes_of_no_picture_give_a_reason(content: bytes, begin: bytes) -> None:
    for look in (header, particulars, decode):
        reason = refused(lambda look=look: look(begin + content))
        assert reason is None or reason.isprintable()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir()
        for number in range(4):
            (root / name / f"{number}.png").write_bytes(encoded(picture(chance)))
    path = root.parent / "manifest.parquet"
    resnets.open_data(root).manifest.write(path)
    return path.read_bytes()


@FEW
@given(places=changes, length=st.floats(0.2, 1))
@example(places=[(25, 128)], length=1.0)  # a path that is not UTF-8, which Arrow reads and cannot give
def test_a_changed_manifest_is_read_or_refused(
    manifest: bytes, tmp_path: Path, places: list[tuple[int, int]], length: float
) -> None:
    path = tmp_path / "manifest.parquet"
    path.write_bytes(changed(manifest, places, length if length > 0.6 else 1.0))
    reason = refused(lambda: ManifestSource(Manifest.read(path)).listing())
    assert reason is None or reason.isprintable()


columns = st.dictionaries(
    st.sampled_from(["split", "left_out", "label", "corrected", "path", "finding", "width"]),
    st.lists(st.sampled_from([None, "a", "b", "c", "train", "val", "", "../x"]), min_size=8, max_size=8),
    max_size=3,
)


@FEW
@given(values=columns)
def test_changed_columns_are_honoured_or_refused(
    manifest: bytes, tmp_path: Path, values: dict[str, list[str | None]]
) -> None:
    table = pq.read_table(io.BytesIO(manifest))
    about = table.schema.metadata
    for name, column in values.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array(column, pa.string()))
    path = tmp_path / "manifest.parquet"
    pq.write_table(table.replace_schema_metadata(about), path)
    reason = refused(lambda: resnets.open_data(path, for_training=False))
    if reason is not None:
        assert reason.isprintable()
    else:
        data = resnets.open_data(path, for_training=False)
        assert set(np.unique(data.labels("label"))) <= {-1, 0, 1}
