"""Tensors from files of other programs: safetensors, and of what torch.save writes the tensors alone."""

import argparse
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from resnets.base.errors import ModelFileError
from resnets.base.files import sha256_of
from resnets.base.text import printable, some
from resnets.weights.header import looks_like_safetensors, read_header, shown, unreadable, what_it_is

# where programs keep the tensors, the averaged ones first: they are what was evaluated and published
CONTAINERS = (
    "state_dict_ema", "model_ema", "ema", "ema_state_dict",
    "state_dict", "model", "model_state_dict", "model_state", "net", "network", "params", "weights", "module",
)  # fmt: skip
LICENCE_KEYS = ("license", "licence", "notice")
WORDS_KEYS = ("arch", "architecture", "model_name")


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """What a weights file holds.

    tensors: name -> tensor on the processor, by the names of the file. container: the keys that were opened to
    get at them. beside: other keys of the file. arch: the network's name where the file states one.
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    sha256: str
    container: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    licence: str | None = None
    arch: str | None = None


def read_tensors(path: Path) -> TensorFile:
    """Read a weights file. Raises ModelFileError where it holds code, is damaged or is something else."""
    try:
        with path.open("rb") as handle:
            start = handle.read(64)
    except OSError as error:
        raise unreadable(path, error) from error
    if looks_like_safetensors(start):
        return _from_safetensors(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _from_torch(path)
    raise ModelFileError(
        f"{shown(path)} is not a weights file: it is {what_it_is(start)}; give a .safetensors file or what "
        "torch.save(model.state_dict(), path) writes"
    )


def _from_safetensors(path: Path) -> TensorFile:
    header = read_header(path)
    try:
        tensors = safetensors.torch.load(path.read_bytes())  # load_file takes no path that is not UTF-8
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{shown(path)} cannot be read: {printable(str(error))}; download it again"
        ) from error
    words = {key.lower(): value for key, value in header.metadata.items()}
    return TensorFile(
        path=path,
        tensors=tensors,
        sha256=sha256_of(path),
        licence=next((words[key] for key in LICENCE_KEYS if key in words), None),
        arch=next((words[key] for key in WORDS_KEYS if key in words), None),
    )


def _from_torch(path: Path) -> TensorFile:
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of pickle protocols: what matters is said below
            torch.serialization.safe_globals(
                [argparse.Namespace]
            ),  # timm's and torchvision's scripts store theirs
        ):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{shown(path)} holds more than tensors, and unpickling that could run code, so it is not opened"
            f"{_refused_name(error)}; where the file was made, save the tensors alone: "
            "torch.save(model.state_dict(), path)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        if "TorchScript" in str(error):
            reason = "it is a TorchScript archive, which is code; save model.state_dict() instead"
        else:
            reason = "it is damaged, cut short or not written by torch.save; copy or download it again"
        raise ModelFileError(f"{shown(path)} cannot be read: {reason}") from error
    tensors, container, beside = _opened(content, path)
    words = {key: value for key, value in content.items() if isinstance(value, str)} if container else {}
    return TensorFile(
        path=path,
        tensors=tensors,
        sha256=sha256_of(path),
        container=container,
        beside=beside,
        licence=next((words[key] for key in LICENCE_KEYS if key in words), None),
        arch=next((words[key] for key in WORDS_KEYS if key in words), None),
    )


def _opened(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...], tuple[str, ...]]:
    """The tensors, the keys opened on the way to them, and the keys left beside."""
    opened: list[str] = []
    beside: list[str] = []
    while isinstance(content, Mapping):
        tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
        inner = [key for key in CONTAINERS if _holds_tensors(content.get(key))]
        if len(tensors) > 1 or not inner:
            beside += [str(key) for key in content if key not in tensors]
            if tensors:
                return {str(key): value for key, value in tensors.items()}, tuple(opened), tuple(beside)
            break
        beside += [str(key) for key in content if key != inner[0]]
        opened.append(inner[0])
        content = content[inner[0]]
    held = f"its keys are {some(list(map(str, content)), 5)}" if isinstance(content, Mapping) else "no table"
    raise ModelFileError(
        f"{shown(path)} holds no table of tensors ({held if content else 'it is empty'}); "
        "save one with torch.save(model.state_dict(), path)"
    )


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(inner, torch.Tensor) or _holds_tensors(inner) for inner in value.values()
    )


def _refused_name(error: pickle.UnpicklingError) -> str:
    """The class that torch refused, from its message."""
    words = str(error).split("GLOBAL ", 1)
    return f" (it names {printable(words[1].split()[0])})" if len(words) == 2 and words[1].split() else ""
