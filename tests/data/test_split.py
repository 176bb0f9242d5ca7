import hashlib

import numpy as np
import pytest

from resnets.data.division import class_numbers
from resnets.data.split import OF_TRAIN, THREE_WAY, TWO_WAY, divide, divide_several


def contents(count: int, salt: str = "") -> list[bytes]:
    return [hashlib.blake2b(f"{salt}{row}".encode(), digest_size=16).digest() for row in range(count)]


def count(parts: list[str], classes: np.ndarray | None = None) -> dict[object, int]:
    names = parts if classes is None else list(zip(parts, classes.tolist(), strict=True))
    return {name: names.count(name) for name in sorted(set(names))}


def test_shares_are_kept_in_all_and_in_every_class() -> None:
    classes = np.repeat([0, 1, 2], [100, 50, 10])
    parts = divide(classes, contents(160), shares=THREE_WAY)
    assert count(parts) == {"test": 32, "train": 102, "val": 26}  # ceil(0.2 * 160), ceil(0.16 * 160)
    assert count(parts, classes) == {
        ("test", 0): 20,
        ("test", 1): 10,
        ("test", 2): 2,
        ("train", 0): 64,
        ("train", 1): 32,
        ("train", 2): 6,
        ("val", 0): 16,
        ("val", 1): 8,
        ("val", 2): 2,
    }


def test_the_largest_remainders_get_what_whole_numbers_leave() -> None:
    classes = np.repeat(np.arange(10), 3)  # 0.6 of each class: 6 pictures in all, not 10 and not 0
    assert count(divide(classes, contents(30), shares=TWO_WAY)) == {"train": 24, "val": 6}


def test_the_order_of_files_does_not_matter() -> None:
    classes, names = np.arange(200) % 4, contents(200)
    parts = dict(zip(names, divide(classes, names, shares=TWO_WAY), strict=True))
    shuffled = np.random.default_rng(0).permutation(200)
    again = divide(classes[shuffled], [names[row] for row in shuffled], shares=TWO_WAY)
    assert dict(zip([names[row] for row in shuffled], again, strict=True)) == parts


def test_another_split_seed_draws_another_part() -> None:
    classes, names = np.zeros(100, dtype=np.int64), contents(100)
    first, second = (divide(classes, names, shares=TWO_WAY, seed=seed) for seed in (0, 1))
    assert first == divide(classes, names, shares=TWO_WAY)
    assert first != second
    assert count(first) == count(second) == {"train": 80, "val": 20}


def test_adding_pictures_moves_few() -> None:
    names = contents(1010)
    before = divide(np.zeros(1000, dtype=np.int64), names[:1000], shares=TWO_WAY)
    after = divide(np.zeros(1010, dtype=np.int64), names, shares=TWO_WAY)
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 10


def test_equal_pictures_stay_together() -> None:
    names = contents(50) * 4
    parts = divide(np.zeros(200, dtype=np.int64), names, shares=TWO_WAY)
    assert all(len({parts[row] for row in range(place, 200, 50)}) == 1 for place in range(50))
    assert count(parts) == {"train": 160, "val": 40}


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("shares", [TWO_WAY, THREE_WAY, OF_TRAIN])
def test_every_class_has_a_picture_for_training(size: int, shares: dict[str, float]) -> None:
    classes = np.repeat(np.arange(7), size)
    parts = divide(classes, contents(len(classes)), shares=shares)
    assert {int(name) for name, part in zip(classes, parts, strict=True) if part == "train"} == set(range(7))


def test_a_class_of_equal_pictures_trains() -> None:
    assert divide(np.zeros(9, dtype=np.int64), contents(1) * 9, shares=THREE_WAY) == ["train"] * 9


def test_no_share_leaves_all_for_training() -> None:
    assert divide(np.zeros(5, dtype=np.int64), contents(5), shares={}) == ["train"] * 5


# Several labels, and groups


def test_groups_stay_together_and_so_does_what_they_chain_together() -> None:
    names = contents(120)
    names[5] = names[115]  # an equal picture of writers 0 and 11
    writers = [row // 10 for row in range(120)]
    parts = divide_several(np.arange(120)[:, None] % 3, names, shares=TWO_WAY, groups=writers)
    of_writer = [set(parts[10 * writer : 10 * writer + 10]) for writer in range(12)]
    assert all(len(found) == 1 for found in of_writer)
    assert of_writer[0] == of_writer[11]
    assert count(parts) == {"train": 100, "val": 20}


@pytest.mark.parametrize("writers", [2, 3, 5, 8])
def test_a_few_writers_of_every_class_are_divided(writers: int) -> None:
    groups = np.repeat(np.arange(writers), 30)
    parts = divide_several(
        np.arange(len(groups))[:, None] % 10, contents(len(groups)), shares=TWO_WAY, groups=groups.tolist()
    )
    held = {int(writer) for writer, part in zip(groups, parts, strict=True) if part == "val"}
    assert len(held) == (0 if writers == 2 else round(0.2 * writers))  # half a writer's share is too small for two


def test_pictures_without_a_group_go_their_own_way() -> None:
    parts = divide_several(np.zeros((100, 1), dtype=np.int64), contents(100), shares=TWO_WAY, groups=[None] * 100)
    assert count(parts) == {"train": 80, "val": 20}


def test_shares_are_kept_in_every_label() -> None:
    drawn = np.random.default_rng(0)
    columns = [drawn.integers(0, classes, 2000) for classes in (40, 11, 7)]
    parts = np.array(divide_several(class_numbers(columns), contents(2000), shares=THREE_WAY))
    for column in columns:
        for part, share in (("test", 0.2), ("val", 0.16)):
            found = np.bincount(column[parts == part], minlength=column.max() + 1)
            assert np.abs(found - share * np.bincount(column)).max() <= 0.35 * share * np.bincount(column).max()
    assert np.abs(np.bincount(columns[0][parts == "test"]) - 0.2 * np.bincount(columns[0])).max() <= 1.5
    assert {part: pytest.approx((parts == part).sum(), abs=15) for part in ("test", "val")} == {
        "test": 400,
        "val": 320,
    }


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("shares", [TWO_WAY, THREE_WAY, OF_TRAIN])
def test_every_class_of_every_label_has_a_picture_for_training(size: int, shares: dict[str, float]) -> None:
    classes = np.stack([np.repeat(np.arange(7), 3 * size), 7 + np.tile(np.arange(3 * size), 7)], axis=1)
    parts = divide_several(classes, contents(len(classes)), shares=shares)
    trained = classes[[part == "train" for part in parts]]
    assert set(trained.ravel()) == set(classes.ravel())


def test_the_order_of_files_does_not_matter_to_several_labels() -> None:
    names = contents(200)
    classes = np.stack([np.arange(200) % 4, 4 + np.arange(200) % 5], axis=1)
    parts = dict(zip(names, divide_several(classes, names, shares=TWO_WAY), strict=True))
    shuffled = np.random.default_rng(0).permutation(200)
    again = divide_several(classes[shuffled], [names[row] for row in shuffled], shares=TWO_WAY)
    assert dict(zip([names[row] for row in shuffled], again, strict=True)) == parts


def test_classes_are_numbered_over_all_labels() -> None:
    single = np.array([1, -1, 0])
    multi = np.array([[1, 0], [-1, -1], [0, 0]], dtype=np.int8)
    assert class_numbers([single, multi]).tolist() == [[1, 2, -1, -1], [-1, -1, -1, -1], [0, -1, -1, 4]]
