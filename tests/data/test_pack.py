"""Packs: equal to streamed pictures, made once, remade when anything that matters changes, never in the way."""

import json
import logging
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.base.files import cache_folder
from resnets.data import pack as packs
from resnets.data.augment.settings import Augment
from resnets.data.dataset import Data, open_data
from resnets.data.pack import list_packs, make_pack, prepared, remove_packs, suits_packing
from resnets.preprocess import Preprocess

SMALL = Preprocess(size=(16, 12), crop=0.9)


@pytest.fixture(autouse=True)
def own_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with 70 pictures each, JPEG and PNG of several sizes; one PNG is cut short."""
    generator = np.random.default_rng(0)
    for number in range(140):
        place = tmp_path / "data" / ("ants", "bees")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + number % 5, 30 + number % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number:03d}.{('jpg', 'png')[number % 3 == 0]}")
    cut = tmp_path / "data" / "ants" / "090.png"
    cut.write_bytes(cut.read_bytes()[:-700])
    return tmp_path / "data"


@pytest.fixture
def data(folder: Path) -> Data:
    return open_data(folder)


def test_a_packed_picture_is_what_evaluation_decodes(data: Data) -> None:
    rows = data.rows("all")
    seen: list[tuple[int, int]] = []
    pack = make_pack(data, rows, preprocess=SMALL, threads=2, progress=lambda *done: seen.append(done))
    assert pack is not None
    assert pack.pixels.shape == (140, 16, 12, 3)
    [(bad, reason)] = pack.failed.items()
    assert data.path(bad) == "ants/090.png"
    assert "truncated" in reason
    some = rows[[3, 77, 139, 0]]
    some = some[some != bad]
    out = np.empty((len(some), 16, 12, 3), np.uint8)
    pack.gather(some, out)
    for row, pixels in zip(some, out, strict=True):
        np.testing.assert_array_equal(pixels, prepared(data.read(row), SMALL))
    assert seen[-1] == (140, 140)


def test_a_pack_is_made_once_and_remembers_what_failed(data: Data) -> None:
    rows = data.rows("all")
    first = make_pack(data, rows, preprocess=SMALL, threads=2)
    assert first is not None
    assert first.path is not None
    made = first.path.stat().st_mtime_ns
    again = make_pack(
        data,
        rows,
        preprocess=replace(SMALL, mean=(0, 0, 0)),
        threads=1,
        progress=lambda *_: pytest.fail("decoded"),
    )
    assert again is not None
    assert again.path == first.path
    assert first.path.stat().st_mtime_ns == made
    assert again.failed == first.failed
    np.testing.assert_array_equal(again.pixels, first.pixels)


def test_other_pictures_preprocessing_or_versions_give_another_pack(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = data.rows("all")
    keys = [
        packs.pack_key(data, rows, SMALL),
        packs.pack_key(data, rows[1:], SMALL),
        packs.pack_key(data, rows[::-1], SMALL),
        *(
            packs.pack_key(data, rows, replace(SMALL, **change))
            for change in (
                {"size": (12, 16)},
                {"crop": 1.0},
                {"resize": "squash"},
                {"interpolation": "bicubic"},
                {"channels": "grey", "mean": (0.5,), "std": (0.5,)},
            )
        ),
    ]
    monkeypatch.setattr("PIL.__version__", "99.0")
    keys.append(packs.pack_key(data, rows, SMALL))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("damage", ["cut", "record", "no record", "a pixel"])
def test_a_damaged_pack_is_made_again(data: Data, damage: str) -> None:
    rows = data.rows("all")
    pack = make_pack(data, rows, preprocess=SMALL, threads=2)
    assert pack is not None
    assert pack.path is not None
    whole = pack.path.read_bytes()
    del pack
    [path] = cache_folder("packs").glob("*.pixels")
    if damage == "cut":
        path.write_bytes(whole[:-1])
    elif damage == "a pixel":
        path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    elif damage == "record":
        path.with_suffix(".json").write_text("[1]")
    else:
        path.with_suffix(".json").unlink()
    again = make_pack(data, rows, preprocess=SMALL, threads=2)
    assert again is not None
    assert path.read_bytes() == whole
    assert json.loads(path.with_suffix(".json").read_text())["name"] == data.name


def test_pictures_are_streamed_where_a_pack_takes_over_a_quarter_of_the_free_space(
    data: Data, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="resnets")
    needed = 140 * 16 * 12 * 3
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 0, 4 * needed - 1))
    assert make_pack(data, data.rows("all"), preprocess=SMALL, threads=2) is None
    assert "quarter of the free space" in caplog.text
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 0, 4 * needed))
    assert make_pack(data, data.rows("all"), preprocess=SMALL, threads=2) is not None


def test_a_cache_that_cannot_be_written_is_a_warning(
    data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "file"))
    assert make_pack(data, data.rows("all"), preprocess=SMALL, threads=2) is None
    assert "decoded as they are needed" in caplog.text


def test_an_interrupted_pack_leaves_nothing(data: Data) -> None:
    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_pack(data, data.rows("all"), preprocess=SMALL, threads=2, progress=interrupt)
    assert list(cache_folder("packs").iterdir()) == []


def test_packs_are_listed_and_removed(data: Data) -> None:
    assert list_packs() == []
    make_pack(data, data.rows("all"), preprocess=SMALL, threads=2)
    make_pack(data, data.rows("train"), preprocess=SMALL, threads=2)
    listed = list_packs()
    assert [(pack.name, pack.size) for pack in listed] == [("data", (16, 12))] * 2
    assert sorted(pack.pictures for pack in listed) == [len(data.rows("train")), 140]
    assert listed[0].bytes == listed[0].pictures * 16 * 12 * 3
    assert remove_packs() > sum(pack.bytes for pack in listed)
    assert list_packs() == []


def test_pictures_in_memory_are_packed_in_memory_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    data = open_data((pixels, [number % 2 for number in range(20)]))
    grey = Preprocess(size=(8, 8), crop=1.0, channels="grey", mean=(0.5,), std=(0.5,))
    rows = data.rows("all")
    pack = make_pack(data, rows, preprocess=grey, threads=1)
    assert pack is not None
    assert pack.path is None
    np.testing.assert_array_equal(pack.pixels[..., 0], pixels[rows])
    assert list_packs() == []
    coloured = make_pack(data, rows, preprocess=replace(SMALL, size=(8, 8)), threads=1)
    assert coloured is not None
    np.testing.assert_array_equal(coloured.pixels[5], prepared(pixels[rows[5]], replace(SMALL, size=(8, 8))))


def test_pixels_too_large_for_memory_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data((np.zeros((20, 8, 8), np.uint8), [number % 2 for number in range(20)]))
    grey = Preprocess(size=(8, 8), channels="grey", mean=(0.5,), std=(0.5,))
    monkeypatch.setattr(packs, "MEMORY_LIMIT", 20 * 64 - 1)
    assert make_pack(data, data.rows("all"), preprocess=grey, threads=1) is None


def test_rows_that_a_pack_lacks_are_a_fault(data: Data) -> None:
    pack = make_pack(data, data.rows("val"), preprocess=SMALL, threads=2)
    assert pack is not None
    with pytest.raises(ValueError, match="lacks some of these rows"):
        pack.gather(data.rows("train")[:2], np.empty((2, 16, 12, 3), np.uint8))


def test_photographs_are_packed_only_where_no_crop_needs_more_than_is_stored() -> None:
    crop, shift = Augment(geometry="rrc"), Augment(geometry="pad-crop", pad=4)
    small, large = Preprocess(size=(32, 32)), Preprocess(size=(224, 224))
    assert suits_packing(small, shift, same_size=False)
    assert suits_packing(small, crop, same_size=True)
    assert not suits_packing(small, crop, same_size=False)
    assert not suits_packing(large, shift, same_size=True)
