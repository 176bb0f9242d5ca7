"""Work in parts: every item in one part, every part of one process, and whose folder it is."""

import json
from pathlib import Path

import pytest

from resnets.base.errors import UsageError
from resnets.base.world import World
from resnets.evaluation.parts import RECORD, Parts, agree, part_size, wants_folder


@pytest.mark.parametrize("items", [0, 1, 255, 256, 1000, 1_000_003])
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_every_item_is_in_one_part_and_every_part_of_one_process(items: int, size: int, tmp_path: Path) -> None:
    places = [World(rank=rank, size=size) for rank in range(size)]
    parts = Parts(folder=tmp_path, items=items, each=part_size(items, places[0]), ending=".jsonl")
    spans = [parts.span(number) for number in range(len(parts))]
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])][: len(spans)]
    assert sum(map(len, spans)) == items
    assert sorted(number for place in places for number in parts.of(place)) == list(range(len(parts)))


def test_parts_keep_every_process_busy_and_are_whole_batches() -> None:
    assert part_size(100, World(size=4)) == 25
    assert part_size(10_000, World(size=4)) == 256
    assert part_size(100_000_000, World(size=8)) == 10_000
    assert part_size(100, World(size=4), multiple=64) == 64
    assert part_size(10_000, World(size=1), multiple=100) == 300


def test_a_part_that_is_there_is_not_to_do(tmp_path: Path) -> None:
    parts = Parts(folder=tmp_path, items=10, each=2, ending=".jsonl")
    assert parts.path(2).name == "part-00002-of-00005.jsonl"
    parts.path(2).touch()
    assert parts.to_do(World(rank=0, size=2)) == [0, 4]
    assert parts.to_do(World(rank=1, size=2)) == [1, 3]


def test_several_processes_need_a_folder(tmp_path: Path) -> None:
    one, two = World(), World(rank=1, size=2)
    assert not wants_folder(None, one)
    assert not wants_folder("answers.csv", one)
    assert not wants_folder("answers", one)
    assert wants_folder("answers/", one)
    assert wants_folder(tmp_path, one)
    assert wants_folder("answers", two)
    for out in (None, "answers.csv"):
        with pytest.raises(
            UsageError, match="several processes write their answers in parts: give --out a folder"
        ):
            wants_folder(out, two)


def test_the_first_command_decides_and_another_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    assert agree(folder, {"model": "a", "top": 5}, each=7, place=World(size=4)) == 7
    assert agree(folder, {"model": "a", "top": 5}, each=9, place=World(size=2)) == 7
    assert agree(folder, {"model": "a", "top": 5}, each=9, place=World(rank=1, size=2)) == 7
    with pytest.raises(UsageError, match="another command, with another 'top'; choose another --out"):
        agree(folder, {"model": "a", "top": 6}, each=7, place=World())
    with pytest.raises(UsageError, match="another command, with another 'model'"):
        agree(folder, {"model": "b", "top": 5}, each=7, place=World(rank=1, size=2))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match=r"holds other files \('photo.jpg'\); give --out a new folder"):
        agree(tmp_path, {}, each=1, place=World())
    with pytest.raises(UsageError, match="the folder above it is not there"):
        agree(tmp_path / "no" / "such", {}, each=1, place=World())


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"format": 2, "each": 1, "model": "a"})])
def test_a_record_that_cannot_be_used_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(UsageError, match=r"work\.json cannot be used"):
        agree(tmp_path, {"model": "a"}, each=1, place=World())
