"""Batches: order, resume, bad pictures, crops, threads; nothing depends on timing."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.base.errors import DataError
from resnets.base.streams import order
from resnets.data.augment.geometry import crop_boxes
from resnets.data.augment.settings import Augment
from resnets.data.batches import (
    Batch,
    Pictures,
    batches_in_epoch,
    cropped,
    evaluation_batches,
    pictures_of,
    training_batches,
)
from resnets.data.dataset import Data, open_data
from resnets.data.decode import decode
from resnets.data.pack import make_pack, prepared
from resnets.preprocess import Preprocess, fit

SMALL = Preprocess(size=(16, 12))
RRC = Augment(geometry="rrc")
SHIFT = Augment(geometry="pad-crop", pad=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Two classes with 20 noisy JPEG files each, of two sizes; the middle of one is missing."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for number in range(40):
        place = root / ("ants", "bees")[number % 2]
        place.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (40 + number % 2, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number:02d}.jpg")
    cut = root / "bees" / "21.jpg"
    cut.write_bytes(cut.read_bytes()[:1500])
    return open_data(root)


@pytest.fixture
def pictures(data: Data) -> Pictures:
    return pictures_of(data, data.rows("all"), preprocess=SMALL)


def bad_row(data: Data) -> int:
    return next(row for row in data.rows("all") if data.path(row) == "bees/21.jpg")


def epoch(pictures: Pictures, augment: Augment = RRC, **changes: object) -> list[Batch]:
    settings: dict[str, object] = {"batch": 8, "seed": 3, "epoch": 1, "threads": 2} | changes
    with training_batches(pictures, augment=augment, **settings) as batches:  # type: ignore[arg-type]
        return list(batches)


def assert_equal(ones: list[Batch], others: list[Batch]) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        assert torch.equal(one.images, other.images)
        assert one.failed == other.failed
        assert all(torch.equal(one.labels[head], other.labels[head]) for head in one.labels)


@pytest.mark.parametrize(
    ("pictures", "batch", "count"),
    [(40, 8, 5), (41, 8, 5), (42, 8, 6), (7, 8, 1), (1, 8, 1), (0, 8, 0), (5, 1, 5), (9, 8, 1), (3, 2, 1)],
)
def test_a_single_picture_at_the_end_joins_the_batch_before(pictures: int, batch: int, count: int) -> None:
    assert batches_in_epoch(pictures, batch) == count
    pixels = [np.zeros((2, 2), np.uint8)] * pictures
    preprocess = Preprocess(size=(2, 2), channels="grey", mean=(0.5,), std=(0.5,))
    source = Pictures(rows=np.arange(pictures), read=pixels.__getitem__, preprocess=preprocess)
    sizes = [len(one.rows) for one in epoch(source, Augment(), batch=batch)]
    assert len(sizes) == count
    assert sum(sizes) == pictures
    assert batch == 1 or pictures == 1 or 1 not in sizes


def test_an_epoch_has_every_row_once_in_the_stream_order(data: Data, pictures: Pictures) -> None:
    batches = epoch(pictures)
    seen = np.concatenate([batch.rows for batch in batches])
    expected = order(pictures.rows, seed=3, epoch=1)
    np.testing.assert_array_equal(seen, expected[expected != bad_row(data)])
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (len(batch.rows), 3, 16, 12)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(batch.labels["label"], data.labels("label")[batch.rows])


@pytest.mark.parametrize("augment", [RRC, SHIFT])
def test_resuming_in_the_middle_of_an_epoch_gives_the_same_batches(pictures: Pictures, augment: Augment) -> None:
    whole = epoch(pictures, augment)
    for start in (1, 4, 5):
        assert_equal(epoch(pictures, augment, start_batch=start), whole[start:])


def test_neither_threads_nor_prefetch_change_a_pixel(pictures: Pictures) -> None:
    whole = epoch(pictures, threads=1, prefetch=1)
    assert_equal(epoch(pictures, threads=4, prefetch=5), whole)


def test_a_crop_is_the_same_whatever_batch_the_picture_is_in(pictures: Pictures) -> None:
    def by_row(batches: list[Batch]) -> dict[int, torch.Tensor]:
        return {int(row): image for batch in batches for row, image in zip(batch.rows, batch.images, strict=True)}

    one, other = by_row(epoch(pictures, batch=8)), by_row(epoch(pictures, batch=3))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[row], other[row]) for row in one)
    later = by_row(epoch(pictures, epoch=2))
    assert not any(torch.equal(one[row], later[row]) for row in one)


@pytest.mark.parametrize("augment", [RRC, SHIFT])
def test_a_corrupt_picture_makes_its_batch_one_shorter_and_says_why(
    data: Data, pictures: Pictures, augment: Augment
) -> None:
    batches = epoch(pictures, augment)
    [failing] = [batch for batch in batches if batch.failed]
    assert sorted(len(batch.rows) for batch in batches) == [7, 8, 8, 8, 8]
    assert len(failing.rows) == len(failing.images) == len(failing.labels["label"]) == 7
    [(row, reason)] = failing.failed
    assert row == bad_row(data)
    assert "truncated" in reason


def test_a_replay_that_knows_the_bad_picture_gives_the_same_batches(data: Data, pictures: Pictures) -> None:
    first = epoch(pictures)
    replay = epoch(pictures, skip={bad_row(data): "truncated"})
    assert not any(batch.failed for batch in replay)
    for one, other in zip(first, replay, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        assert torch.equal(one.images, other.images)


def test_a_batch_left_empty_keeps_its_place(pictures: Pictures) -> None:
    second = epoch(pictures)[1]
    lost = {*second.rows.tolist(), *(row for row, _ in second.failed)}
    batches = epoch(pictures, skip=lost)
    assert [len(batch.rows) == 0 for batch in batches] == [False, True, False, False, False]
    assert batches[1].images.shape == (0, 3, 16, 12)
    assert batches[1].labels["label"].shape == (0,)


def test_a_file_that_is_gone_is_a_reason_not_an_exception(data: Data) -> None:
    def read(row: int) -> bytes:
        return (Path("/no/such/folder") / str(row)).read_bytes()

    gone = Pictures(rows=np.arange(3), read=read, preprocess=SMALL)
    [batch] = list(evaluation_batches(gone, batch=8, threads=2))
    assert [row for row, _ in batch.failed] == [0, 1, 2]
    assert batch.failed[0][1] == "cannot be read: No such file or directory"


def test_evaluation_decodes_in_full_in_the_order_given(data: Data) -> None:
    rows = data.rows("all")[::-1]
    pictures = pictures_of(data, rows, preprocess=SMALL)
    batches = list(evaluation_batches(pictures, batch=7, threads=3))
    seen = np.concatenate([batch.rows for batch in batches])
    np.testing.assert_array_equal(seen, rows[rows != bad_row(data)])
    for batch in batches:
        for row, image in zip(batch.rows, batch.images, strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0), prepared(data.read(row), SMALL))


def test_a_packed_evaluation_equals_a_streamed_one(data: Data, pictures: Pictures) -> None:
    pack = make_pack(data, data.rows("all"), preprocess=SMALL, threads=2)
    packed = pictures_of(data, data.rows("all"), preprocess=SMALL, pack=pack)
    streamed = list(evaluation_batches(pictures, batch=16, threads=2))
    assert_equal(list(evaluation_batches(packed, batch=16, threads=2)), streamed)
    assert any(batch.failed for batch in streamed)


def test_small_pictures_train_the_same_with_and_without_a_pack(data: Data, pictures: Pictures) -> None:
    pack = make_pack(data, data.rows("all"), preprocess=SMALL, threads=2)
    packed = pictures_of(data, data.rows("all"), preprocess=SMALL, pack=pack)
    for augment in (SHIFT, RRC):
        assert packed.whole == pictures.whole
        assert_equal(epoch(packed, augment), epoch(pictures, augment))


def test_only_small_pictures_of_the_networks_own_size_leave_decoding_whole_for_a_crop_on_the_device() -> None:
    def whole(side: int, *, stored: int) -> bool:
        sizes = np.full(4, stored, np.int32), np.full(4, stored, np.int32)
        read = [np.zeros((stored, stored, 3), np.uint8)] * 4
        preprocess = Preprocess(size=(side, side), crop=1.0)
        pictures = Pictures(rows=np.arange(4), read=read.__getitem__, preprocess=preprocess, sizes=sizes)
        [batch] = epoch(pictures)
        assert batch.images.shape == (4, 3, side, side)
        return pictures.whole

    assert whole(32, stored=32)
    assert not whole(32, stored=40)
    assert not whole(128, stored=128)


def test_a_pack_of_another_preprocessing_is_refused(data: Data) -> None:
    pack = make_pack(data, data.rows("all"), preprocess=SMALL, threads=2)
    with pytest.raises(ValueError, match="another preprocessing"):
        pictures_of(data, data.rows("all"), preprocess=Preprocess(size=(16, 12), crop=1.0), pack=pack)


def test_random_crops_need_sizes(pictures: Pictures) -> None:
    bare = Pictures(rows=pictures.rows, read=pictures.read, preprocess=SMALL)
    with pytest.raises(DataError, match="need the pictures' sizes"):
        epoch(bare)


def encoded(pixels: np.ndarray, form: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **settings)
    return stream.getvalue()


def smooth(height: int, width: int) -> np.ndarray:
    """A picture of slow waves, which JPEG keeps well at any scale."""
    y, x = np.mgrid[0:height, 0:width] / 40.0
    waves = [np.sin(y + phase) * np.cos(x * 0.7 - phase) for phase in (0, 1, 2)]
    return (127 + 120 * np.stack(waves, axis=2)).astype(np.uint8)


def test_a_crop_of_a_lossless_picture_is_pillows_resize_of_the_box() -> None:
    pixels = smooth(90, 120)
    result = cropped(encoded(pixels, "PNG"), np.array([10, 20, 50, 60]), (90, 120), SMALL)
    expected = Image.fromarray(pixels).resize((12, 16), Image.Resampling.BILINEAR, box=(20, 10, 80, 60))
    np.testing.assert_array_equal(result, np.asarray(expected))
    grey = Preprocess(size=(16, 12), channels="grey", mean=(0.5,), std=(0.5,))
    assert cropped(pixels, np.array([10, 20, 50, 60]), (90, 120), grey).shape == (16, 12, 1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_of_a_large_jpeg_comes_from_reduced_scale_and_looks_the_same(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(smooth(640, 800), "JPEG", quality=95, exif=exif)
    upright = decode(content)
    frame = upright.height, upright.width
    assert frame == ((640, 800) if orientation == 1 else (800, 640))
    box = np.array([100, 50, 400, 300])
    result = cropped(content, box, frame, SMALL).astype(int)
    full = np.asarray(upright.resize((12, 16), Image.Resampling.BILINEAR, box=(50, 100, 350, 500))).astype(int)
    assert np.abs(result - full).max() <= 4
    assert (result != full).any()  # the full decode would be equal


@pytest.mark.parametrize(("side", "scale"), [(400, 2), (200, 1), (127, 1)])
def test_reduced_scale_never_goes_below_twice_the_crop(
    monkeypatch: pytest.MonkeyPatch, side: int, scale: int
) -> None:
    """Boxes of 64 x 64 need 128 pixels a side; of 400 half is left, of 200 a half would be too little."""
    sizes = []

    def spy(*given: object, **settings: object) -> Image.Image:
        sizes.append(decode(*given, **settings))  # type: ignore[arg-type]
        return sizes[-1]

    monkeypatch.setattr("resnets.data.batches.decode", spy)
    content = encoded(smooth(800, 800), "JPEG")
    cropped(content, np.array([7, 9, side, side]), (800, 800), Preprocess(size=(64, 64)))
    assert sizes[0].size == (800 // scale, 800 // scale)


def test_large_pictures_that_are_not_cropped_by_chance_come_from_reduced_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The centre crop of 112 at 0.875 is cut from 128 pixels: 256 are enough, so 1,100 may become 275."""
    sizes = []

    def spy(*given: object, **settings: object) -> Image.Image:
        sizes.append(decode(*given, **settings))  # type: ignore[arg-type]
        return sizes[-1]

    monkeypatch.setattr("resnets.data.pack.decode", spy)
    content = encoded(smooth(1100, 1100), "JPEG", quality=95)
    pictures = Pictures(rows=np.arange(1), read=lambda _: content, preprocess=Preprocess(size=(112, 112)))
    [training] = epoch(pictures, Augment())
    [evaluation] = list(evaluation_batches(pictures, batch=1, threads=1))
    assert [picture.size for picture in sizes] == [(275, 275), (1100, 1100)]
    assert (training.images.int() - evaluation.images.int()).abs().max() <= 6


def test_a_crop_of_everything_squashed_is_what_evaluation_squashes() -> None:
    pixels = smooth(60, 200)
    squash = Preprocess(size=(16, 16), resize="squash")
    whole = Augment(geometry="rrc", scale=1.0, ratio=(1.0, 1.0))
    sizes = np.array([200], np.int32), np.array([60], np.int32)
    pictures = Pictures(rows=np.arange(1), read=lambda _: pixels, preprocess=squash, sizes=sizes)
    [batch] = epoch(pictures, whole)
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), fit(Image.fromarray(pixels), squash))


def test_training_crops_are_the_boxes_of_the_stream() -> None:
    pixels = [smooth(50 + number, 70) for number in range(6)]
    sizes = np.full(6, 70, np.int32), 50 + np.arange(6, dtype=np.int32)
    pictures = Pictures(rows=np.arange(6), read=pixels.__getitem__, preprocess=SMALL, sizes=sizes)
    boxes = crop_boxes(np.arange(6), 50 + np.arange(6), np.full(6, 70), settings=RRC, seed=3, epoch=1)
    [batch] = epoch(pictures)
    for row, image in zip(batch.rows, batch.images, strict=True):
        top, left, height, width = boxes[row].tolist()
        box = (left, top, left + width, top + height)
        expected = Image.fromarray(pixels[row]).resize((12, 16), Image.Resampling.BILINEAR, box=box)
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(expected))


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def wait_until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_threads_end_when_the_consumer_stops_early(pictures: Pictures) -> None:
    with training_batches(pictures, augment=RRC, batch=4, seed=0, epoch=0, threads=2) as batches:
        next(batches)
        assert decoders()
    assert wait_until(lambda: not decoders())
    dropped = training_batches(pictures, augment=RRC, batch=4, seed=0, epoch=0, threads=2)
    next(dropped)
    del dropped
    assert wait_until(lambda: not decoders())
    assert len(list(evaluation_batches(pictures, batch=16, threads=2))) == 3
    assert wait_until(lambda: not decoders())


def test_a_fault_in_a_thread_is_raised_where_the_batches_are_used() -> None:
    def read(row: int) -> bytes:
        raise RuntimeError(f"a fault at row {row}")

    pictures = Pictures(rows=np.arange(8), read=read, preprocess=SMALL)
    with evaluation_batches(pictures, batch=4, threads=2) as batches, pytest.raises(RuntimeError, match="row 0"):
        next(batches)
    assert wait_until(lambda: not decoders())


def test_waiting_for_pictures_is_counted() -> None:
    def read(row: int) -> np.ndarray:
        time.sleep(0.05)
        return np.zeros((16, 12, 3), np.uint8)

    pictures = Pictures(rows=np.arange(2), read=read, preprocess=SMALL)
    batches = evaluation_batches(pictures, batch=1, threads=1, prefetch=1)
    assert batches.waited_seconds == 0
    list(batches)
    assert batches.waited_seconds > 0.06
