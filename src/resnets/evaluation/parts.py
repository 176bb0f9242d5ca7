"""Work that several processes share through a folder: parts, each written whole by one process or not at all.

A part is a range of the items that are to be done. Of N processes, the one of rank r does the parts r, r + N, …
that are not there. So nothing is done twice and nothing is lost, whoever dies and however many processes go on:
the same command does what is missing. `work.json` says whose parts they are; another command is refused.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.base.errors import UsageError
from resnets.base.files import write_text
from resnets.base.machine import pick_device
from resnets.base.text import printable, some
from resnets.base.world import World
from resnets.weights.modelfile import Model, tensors_sha256

RECORD, MANIFEST = "work.json", "manifest.parquet"
FORMAT = 1
POLL_SECONDS = 0.1  # between two looks at what other processes have written
PARTS_EACH = 64  # parts a process has, so that a death costs little and processes end together
FEWEST, MOST = 256, 10_000  # items of a part: neither files without number nor long parts

log = logging.getLogger("resnets")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of `items` items, `each` a part, as files of a folder that end in `ending`."""

    folder: Path
    items: int
    each: int
    ending: str

    def __len__(self) -> int:
        return -(-self.items // self.each)

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}-of-{len(self):05d}{self.ending}"

    def paths(self) -> list[Path]:
        return [self.path(number) for number in range(len(self))]

    def span(self, number: int) -> range:
        """The items of a part."""
        return range(number * self.each, min(self.items, (number + 1) * self.each))

    def of(self, place: World) -> range:
        """The parts of one process."""
        return range(place.rank, len(self), place.size)

    def to_do(self, place: World) -> list[int]:
        """Those of them that are not there."""
        return [number for number in self.of(place) if not self.path(number).exists()]

    def wait(self) -> None:
        """Until every part is there; what killed processes left behind is removed then.

        A launcher such as torchrun ends this process where another one has failed.
        """
        lacking = [path for path in self.paths() if not path.exists()]
        if lacking:
            log.info("waiting for %d parts of other processes", len(lacking))
        for path in lacking:
            while not path.exists():
                time.sleep(POLL_SECONDS)
        for left in self.folder.glob(".part-*.part"):
            left.unlink(missing_ok=True)


def wants_folder(out: Path | str | None, place: World) -> bool:
    """Whether answers go into a folder, part by part: where one was given, and always for several processes.

    Raises UsageError where several processes have no folder to write to.
    """
    folder = out is not None and (str(out).endswith(("/", os.sep)) or os.path.isdir(out))
    if place.size > 1 and not folder and (out is None or Path(out).suffix or os.path.exists(out)):
        raise UsageError("several processes write their answers in parts: give --out a folder, such as answers/")
    return folder or place.size > 1


def part_size(items: int, place: World, *, multiple: int = 1) -> int:
    """How many items a part has: a multiple of `multiple`, and no more than keeps every process busy."""
    share = -(-items // place.size)
    wanted = min(share, MOST, max(FEWEST, -(-share // PARTS_EACH)))
    return max(1, -(-wanted // multiple)) * multiple


def agree(folder: Path, asked: Mapping[str, Any], *, each: int, place: World) -> int:
    """How many items a part of this folder has: as its record says, which the first process writes if need be.

    asked: what the answers depend on. each: what the record gets where the work begins here. Raises UsageError
    where the folder has other files, or the parts of another command.
    """
    if place.leads and not (folder / RECORD).exists():
        refuse_other_files(folder)
        folder.mkdir(exist_ok=True)
        about = {"format": FORMAT, **asked, "processes": place.size, "each": each}
        write_text(folder / RECORD, json.dumps(about, indent=2) + "\n")
    return int(check(folder, asked, wait=True)["each"])


def check(folder: Path, asked: Mapping[str, Any], *, wait: bool = False) -> dict[str, Any]:
    """The record of a folder. Raises UsageError where it is another command's. wait: until it is there."""
    record = folder / RECORD
    while wait and not record.exists():
        time.sleep(POLL_SECONDS)
    try:
        found = json.loads(record.read_text("utf-8"))
        different = [key for key, value in asked.items() if found.get(key) != value]
        if found["format"] > FORMAT or found["each"] < 1:
            raise ValueError("it was written by a later version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{printable(str(record))} cannot be used; choose another --out") from error
    if different:
        raise UsageError(
            f"{printable(str(folder))} has the answers of another command, with another {some(different)}; choose "
            "another --out, or repeat that command"
        )
    return dict(found)


def refuse_other_files(folder: Path) -> None:
    """Raise UsageError where a folder cannot be made, or holds something else than answers in parts."""
    where = printable(str(folder))
    if not folder.parent.is_dir():
        raise UsageError(f"cannot write {where}: the folder above it is not there; choose another --out")
    there = os.listdir(folder) if folder.exists() else []
    others = sorted(name for name in there if not name.startswith(".") and name != MANIFEST)
    if others:
        raise UsageError(f"{where} holds other files ({some(others)}); give --out a new folder")


def identity(model: Model) -> str:
    """Hexadecimal digest of all that a model's answers depend on."""
    heads = {name: head.to_json() for name, head in model.heads.items()}
    about = json.dumps([heads, model.preprocess.to_json()], sort_keys=True)
    return hashlib.sha256((tensors_sha256(model.network.state_dict()) + about).encode()).hexdigest()


def own_device(asked: str | None, place: World) -> str:
    """The device of one process: of several GPUs each takes its own."""
    device = pick_device(asked)
    if device != "cuda" or place.size == 1:
        return device
    import torch

    return f"cuda:{place.local_rank % torch.cuda.device_count()}"
