"""Checkpoints: all that a run needs to go on exactly, written whole or not at all, two of them kept.

A checkpoint is a folder `checkpoint/step-N`: `network`, `average` (EMA), `optimizer` as safetensors, `best` (the
model file as it stood then) and `state.json` with counters and the hash of every other file. `latest` names one.
"""

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from resnets.base.errors import RunError
from resnets.base.files import sha256_of, sync, write_bytes, write_text

log = logging.getLogger("resnets")

KEPT = 2
STATE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Tensors by role and name, and the counters beside them; `best` is the model file to go back to."""

    step: int
    tensors: dict[str, dict[str, torch.Tensor]]
    state: dict[str, Any]
    best: Path | None


def save_checkpoint(
    run: Path,
    *,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    state: dict[str, Any],
    best: Path | None,
) -> Path:
    """Write `checkpoint/step-N` beside its place, flush it, rename it, let `latest` name it, prune older ones.

    Raises OutOfSpace where the disk is full; the checkpoints before are then as they were.
    """
    root = run / "checkpoint"
    root.mkdir(exist_ok=True)
    beside = root / f".step-{step}.{secrets.token_hex(4)}.part"
    beside.mkdir()
    try:
        for role, named in tensors.items():
            plain = {name: value.detach().cpu().contiguous() for name, value in named.items()}
            write_bytes(beside / f"{role}.safetensors", safetensors.torch.save(plain))
        if best is not None and best.exists():
            _link_or_copy(best, beside / "best.safetensors")
        hashes = {file.name: sha256_of(file) for file in sorted(beside.iterdir())}
        write_text(beside / STATE, json.dumps({"step": step, **state, "sha256": hashes}))
        place = root / f"step-{step}"
        if place.exists():  # a resume that went back has come here again: the new one replaces the old
            shutil.rmtree(place)
        os.replace(beside, place)
        sync(root)
        write_text(root / "latest", place.name + "\n")
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    folders = _folders(root)
    superseded = [folder for folder in folders if _step_of(folder) > step]  # a resume went back behind these
    for old in superseded + folders[: folders.index(place) + 1][:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def load_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None where there is none yet.

    A damaged one is named in a warning and the one before it is used. Raises RunError where all are damaged.
    """
    root = run / "checkpoint"
    if not root.is_dir():
        return None
    for part in root.glob(".step-*.part"):
        shutil.rmtree(part, ignore_errors=True)
    latest = root / "latest"
    named = latest.read_text().strip() if latest.exists() else ""
    newest_first = sorted(
        _folders(root), key=lambda folder: (folder.name == named, _step_of(folder)), reverse=True
    )
    damaged: list[str] = []
    for folder in newest_first:
        problem = _damage(folder)
        if problem is None:
            if damaged:
                log.warning("%s: going back to %s", "; ".join(damaged), folder.name)
            return _read(folder)
        damaged.append(f"checkpoint {folder.name} is damaged ({problem})")
    if damaged:
        raise RunError(f"{run}: {'; '.join(damaged)}; none is left to resume from: start a new run")
    return None


def _read(folder: Path) -> Checkpoint:
    state = json.loads((folder / STATE).read_text())
    roles = [name.removesuffix(".safetensors") for name in state.pop("sha256") if name != "best.safetensors"]
    best = folder / "best.safetensors"
    return Checkpoint(
        step=state.pop("step"),
        tensors={role: _tensors(folder / f"{role}.safetensors") for role in roles},
        state=state,
        best=best if best.exists() else None,
    )


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(path.read_bytes())  # load_file takes no path that is not UTF-8


def _damage(folder: Path) -> str | None:
    try:
        hashes = json.loads((folder / STATE).read_text())["sha256"]
        for name, expected in hashes.items():
            if sha256_of(folder / name) != expected:
                return f"{name} has other bytes than were written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError) as error:
        return f"{STATE} cannot be read: {error}"
    return None


def _folders(root: Path) -> list[Path]:
    return sorted((folder for folder in root.glob("step-*") if _step_of(folder) >= 0), key=_step_of)


def _step_of(folder: Path) -> int:
    match = re.fullmatch(r"step-(\d+)", folder.name)
    return int(match[1]) if match else -1


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link: the model file is only ever replaced by a rename, so the link keeps these bytes."""
    try:
        os.link(source, target)
    except OSError:
        write_bytes(target, source.read_bytes())


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as named tensors: `INDEX.NAME`, the index being the parameter's."""
    return {
        f"{index}.{name}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; hyperparameters stay as the plan made them.

    A tensor of a parameter's shape gets its memory layout too: fused optimisers walk both side by side.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
