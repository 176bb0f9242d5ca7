"""An epoch in which classes come equally often: counts, replay, and copies that are changed anew."""

import numpy as np
import pytest

from resnets.base.streams import order
from resnets.data.augment.settings import Augment
from resnets.data.batches import Batch, Pictures, training_batches
from resnets.data.sampling import balanced_order, rows_of
from resnets.data.source import MISSING
from resnets.preprocess import Preprocess

ROWS = np.arange(10, 110)
CLASSES = np.repeat([7, 2, 5], [70, 27, 3])  # 100 pictures of three classes


def epoch_of(classes: np.ndarray = CLASSES, *, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return balanced_order(ROWS, classes, seed=seed, epoch=epoch)


def test_each_class_comes_equally_often_and_the_epoch_is_as_long_as_ever() -> None:
    for epoch in range(3):
        drawn = CLASSES[rows_of(epoch_of(epoch=epoch)) - 10]
        assert len(drawn) == 100
        assert sorted(np.bincount(drawn)[[7, 2, 5]].tolist()) == [33, 33, 34]


def test_the_pictures_of_a_class_come_equally_often() -> None:
    times = np.bincount(rows_of(epoch_of()) - 10, minlength=100)
    assert set(times[:70]) == {0, 1}  # 33 or 34 of the 70
    assert set(times[70:97]) <= {1, 2}
    assert set(times[97:]) <= {11, 12}


def test_over_epochs_every_picture_of_a_large_class_is_seen() -> None:
    seen = {row for epoch in range(12) for row in rows_of(epoch_of(epoch=epoch)).tolist()}
    assert seen == set(ROWS.tolist())


def test_an_order_is_a_pure_function_of_seed_and_epoch() -> None:
    np.testing.assert_array_equal(epoch_of(seed=3, epoch=4), epoch_of(seed=3, epoch=4))
    assert not np.array_equal(epoch_of(seed=3, epoch=4), epoch_of(seed=3, epoch=5))
    assert not np.array_equal(epoch_of(seed=3, epoch=4), epoch_of(seed=4, epoch=4))


def test_classes_are_mixed_along_the_epoch() -> None:
    drawn = CLASSES[rows_of(epoch_of()) - 10]
    halves = [np.bincount(half, minlength=8)[[7, 2, 5]] for half in (drawn[:50], drawn[50:])]
    assert min(map(min, halves)) >= 8


def test_no_draw_comes_twice_and_the_first_copy_is_the_row_itself() -> None:
    draws = epoch_of()
    assert len(set(draws.tolist())) == 100
    assert set(draws[draws < 1000].tolist()) == set(rows_of(draws).tolist())


def test_pictures_without_a_label_come_once() -> None:
    classes = np.where(np.arange(100) % 10 == 0, MISSING, CLASSES)
    times = np.bincount(rows_of(epoch_of(classes)) - 10, minlength=100)
    assert times[::10].tolist() == [1] * 10
    assert times.sum() == 100
    alone = epoch_of(np.full(100, MISSING))
    np.testing.assert_array_equal(alone, order(ROWS, seed=0, epoch=0))


@pytest.mark.parametrize("augment", [Augment(geometry="rrc", scale=0.2), Augment(flip=0.5)])
def test_balanced_batches_hold_the_order_and_resume_in_the_middle(augment: Augment) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (110, 6, 6), dtype=np.uint8)
    sizes = (np.full(110, 6, dtype=np.int32), np.full(110, 6, dtype=np.int32))
    preprocess = Preprocess(size=(5, 5), channels="grey", mean=(0.5,), std=(0.5,))
    classes = np.concatenate([np.full(10, MISSING), CLASSES])
    pictures = Pictures(
        rows=ROWS, read=noise.__getitem__, preprocess=preprocess, labels={"label": classes}, sizes=sizes
    )

    def epoch(start: int = 0, skip: tuple[int, ...] = ()) -> list[Batch]:
        options = {"batch": 16, "seed": 1, "epoch": 2, "threads": 1}
        return list(
            training_batches(pictures, augment=augment, **options, start_batch=start, skip=skip, balance=classes)
        )

    whole = epoch()
    draws = np.concatenate([batch.draws for batch in whole])
    np.testing.assert_array_equal(draws, balanced_order(ROWS, CLASSES, seed=1, epoch=2))
    for batch in whole:
        np.testing.assert_array_equal(batch.rows, rows_of(batch.draws))
        np.testing.assert_array_equal(batch.labels["label"], classes[batch.rows])
    for one, other in zip(epoch(start=3), whole[3:], strict=True):
        np.testing.assert_array_equal(one.draws, other.draws)
        np.testing.assert_array_equal(one.images, other.images)
    assert 107 not in np.concatenate([batch.rows for batch in epoch(skip=(107,))])


def test_copies_of_a_picture_are_cropped_anew() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (110, 20, 20), dtype=np.uint8)
    sizes = (np.full(110, 20, dtype=np.int32), np.full(110, 20, dtype=np.int32))
    preprocess = Preprocess(size=(5, 5), channels="grey", mean=(0.5,), std=(0.5,))
    pictures = Pictures(rows=ROWS, read=noise.__getitem__, preprocess=preprocess, sizes=sizes)
    classes = np.concatenate([np.full(10, MISSING), CLASSES])
    augment = Augment(geometry="rrc", scale=0.2)
    (batch,) = training_batches(pictures, augment=augment, batch=100, seed=0, epoch=0, balance=classes, threads=1)
    copies = batch.images[batch.rows == 109]
    assert len(copies) >= 11
    assert len({copy.numpy().tobytes() for copy in copies}) == len(copies)
