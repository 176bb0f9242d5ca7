"""Near duplicates: at least 95% of the copies found, at most 0.1% of the pairs false."""

import io
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnets import open_data
from resnets.data.dataset import Data
from resnets.understanding.doctor.facts import look
from resnets.understanding.doctor.near import near_pairs
from resnets.understanding.doctor.twins import find_twins, joined
from tests.understanding.faults import encoded, picture

Pairs = AbstractSet[tuple[int, int]]


def pairs_of(pictures: list[bytes]) -> Pairs:
    """What is found among encoded pictures, by their numbers."""
    data = open_data((pictures, [number % 2 for number in range(len(pictures))]))
    facts = look(data, threads=1)
    records, sides = facts.records, np.stack(data.sizes, axis=1)
    first, second, _ = near_pairs(records["thumb"], sides, records["mean"])
    return set(zip(first.tolist(), second.tolist(), strict=True))


def resized(original: Image.Image, chance: np.random.Generator) -> bytes:
    scale = chance.choice([0.6, 0.75, 0.9, 1.3])
    sides = tuple(round(side * scale) for side in original.size)
    return encoded(original.resize(sides, Image.Resampling(int(chance.integers(2, 4)))))


def recompressed(original: Image.Image, chance: np.random.Generator) -> bytes:
    return encoded(original, "JPEG", quality=int(chance.integers(40, 90)))


def shifted(original: Image.Image, chance: np.random.Generator) -> bytes:
    pixels = np.pad(np.asarray(original), ((1, 1), (1, 1), (0, 0)), "edge")
    down, across = [(0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (2, 2)][int(chance.integers(6))]
    height, width = original.height, original.width
    return encoded(Image.fromarray(pixels[down : down + height, across : across + width]))


CHANGES = (resized, recompressed, shifted)
ALIKE = {(63, 1065)}  # the same cat, seen by eye, in another light


def judged(originals: list[Image.Image], *, copied: int, alike: Pairs = frozenset()) -> tuple[float, float]:
    """The share of planted copies that are found, and of the found pairs that are false.

    alike: originals that are near duplicates themselves.
    """
    chance = np.random.default_rng(3)
    pictures = [encoded(original, compress_level=1) for original in originals]
    known = pairs_of(pictures) | alike
    planted = set()
    for number in range(copied):
        planted.add((number, len(pictures)))
        pictures.append(CHANGES[number % 3](originals[number], chance))
    found = pairs_of(pictures)
    of = [*range(len(originals)), *range(copied)]
    false = {(of[one], of[other]) for one, other in found if of[one] != of[other]}
    false = {pair for pair in false if tuple(sorted(pair)) not in known}
    return len(found & planted) / len(planted), len(false) / max(1, len(found))


@pytest.mark.parametrize("side", [24, 64, 200])
def test_copies_of_clouds_are_found_and_no_others(side: int) -> None:
    chance = np.random.default_rng(side)
    found, false = judged([picture(chance, side) for _ in range(250)], copied=60)
    assert found >= 0.95
    assert false <= 0.001


def test_copies_of_photographs_are_found_and_no_others(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("hymenoptera/train/*/*.jpg"))[::4]
    found, false = judged([Image.open(path).convert("RGB") for path in paths], copied=45)
    assert len(paths) > 55
    assert found >= 0.95
    assert false <= 0.001


def test_copies_of_small_photographs_are_found_and_few_others(shared_data: Path) -> None:
    rows = pq.read_table(shared_data / "cifar10" / "test.parquet")["img"].slice(0, 1500).to_pylist()
    originals = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows]
    found, false = judged(originals, copied=150, alike=ALIKE)
    assert found >= 0.95
    assert false <= 0.001


def with_groups(data: Data) -> list[list[int]]:
    facts = look(data, threads=1)
    contents = data.manifest.table["content"].to_pylist()
    parts = data.manifest.table["split"].to_pylist()
    return find_twins(facts, contents, np.stack(data.sizes, axis=1), parts, even=[]).all


def test_many_groups_at_once_are_found_among_more_pictures_than_are_compared_with_each_other() -> None:
    chance = np.random.default_rng(9)
    thumbs = np.stack([np.asarray(picture(chance, 32).convert("L")) for _ in range(5000)])
    noise = chance.integers(-4, 5, (500, 32, 32))
    copies = np.clip(thumbs[:500].astype(int) + noise, 0, 255).astype(np.uint8)
    every = np.concatenate([thumbs, copies])
    sides = np.full((5500, 2), 100, dtype=np.int32)
    first, second, alike = near_pairs(every, sides, np.full((5500, 3), 0.5, dtype=np.float32))
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    planted = {(number, 5000 + number) for number in range(500)}
    assert len(found & planted) >= 0.98 * len(planted)
    assert found <= planted
    assert alike.min() > 0.9


def test_the_same_drawing_in_another_colour_or_shape_is_no_copy() -> None:
    chance = np.random.default_rng(2)
    grey = picture(chance, 64).convert("L")
    red = Image.merge("RGB", (grey, grey.point(lambda level: level // 4), grey.point(lambda level: level // 4)))
    blue = Image.merge("RGB", tuple(reversed(red.split())))
    others = [picture(chance, 64) for _ in range(40)]
    wide = red.resize((128, 64))
    assert pairs_of([encoded(image) for image in (red, blue, wide, *others)]) == set()


def test_three_copies_make_one_group_with_the_test_picture_first() -> None:
    chance = np.random.default_rng(4)
    one, *others = [picture(chance, 48) for _ in range(61)]
    copies = [encoded(one), encoded(one, "JPEG", quality=70), encoded(one.resize((40, 40)))]
    train = [copies[0], *map(encoded, others[:30])]
    test = [*map(encoded, others[30:60]), copies[1]]
    labels = [number % 2 for number in range(31)]
    val = [copies[2], *train[5:8]]
    data = open_data({"train": (train, labels), "val": (val, labels[:4]), "test": (test, labels)})
    groups = with_groups(data)
    parts = data.manifest.table["split"].to_pylist()
    assert sorted([parts[row] for row in group] for group in groups)[-1] == ["val", "train"]
    assert [parts[row] for row in max(groups, key=len)] == ["test", "val", "train"]


def test_what_pairs_chain_together_is_one_group() -> None:
    assert joined([(1, 2), (5, 6), (2, 9), (6, 7), (9, 1)]) == [[1, 2, 9], [5, 6, 7]]


def test_few_pictures_and_even_ones_are_no_trouble() -> None:
    sides = np.full((3, 2), 50, dtype=np.int32)
    even = np.zeros((3, 32, 32), dtype=np.uint8)
    first, _, _ = near_pairs(even, sides, np.zeros((3, 3), dtype=np.float32))
    assert len(first) == 0
    assert len(near_pairs(even[:1], sides[:1], np.zeros((1, 3), dtype=np.float32))[0]) == 0
