"""Tensors into a network, each accounted for: loaded, renamed, adapted, re-initialised, ignored or refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from resnets.base.errors import ModelFileError
from resnets.base.text import printable
from resnets.networks.stems import fold_channels
from resnets.weights.header import shown
from resnets.weights.layouts import COUNTER, STEMS, Named, head_of, is_head
from resnets.weights.receipt import IN_WORDS, Entry

SUMMED = "{} channels summed to grey"
CYCLED = "{0} channels cycled to {1} and scaled by {0}/{1}"


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a load may do beside copying.

    partial: leave parts of the body as they were initialised. strict: nothing but copying and renaming.
    """

    partial: bool = False
    strict: bool = False


def transfer(
    network: nn.Module,
    named: Named,
    path: Path,
    *,
    allowed: Allowed = Allowed(),
    other_classes: Mapping[str, str] | None = None,
) -> tuple[list[Entry], list[str]]:
    """Put the tensors into the network; returns one entry a tensor, and notes.

    other_classes: head name -> why the file's head must not be used though it may fit.
    Raises ModelFileError, before the network is touched, where a tensor does not fit or the body is not covered.
    """
    state = network.state_dict(keep_vars=True)
    entries: list[Entry] = []
    copies: list[tuple[Tensor, Tensor]] = []
    missing: list[str] = []
    for name, target in state.items():
        if name.endswith(COUNTER) and name not in named.tensors:
            continue
        reason = _refused_head(name, target, named, other_classes or {})
        if name not in named.tensors or reason:
            if not is_head(name):
                missing.append(name)
            why = reason or ("the file has no such head" if is_head(name) else "not in the file")
            entries.append(_entry("reinitialised", name, "", target, why))
            continue
        value, how = _fitted(name, named.tensors[name], target, path, named.sources[name])
        copies.append((target, value))
        renamed = named.sources[name] != name
        entries.append(
            _entry(
                "adapted" if how else "renamed" if renamed else "loaded", name, named.sources[name], target, how
            )
        )
    unused = [name for name in named.tensors if name not in state]
    _check(state, missing, unused, named, path, allowed)
    entries += [_ignored(name, named) for name in unused if not name.endswith(COUNTER)]
    entries += _replaced_heads(entries, state, named)
    _check_strict(entries, path, allowed)
    with torch.no_grad():
        for target, value in copies:
            target.copy_(value)
    return entries, _notes(state, named)


def folded_batch_norm(network: nn.Module) -> bool:
    """Whether all batch norms hold mean 0 and variance 1 with scales that are not the initial ones."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    norms = [norm for norm in norms if norm.running_mean is not None and norm.running_var is not None]
    if not norms:
        return False
    plain = all(bool((n.running_mean == 0).all()) and bool((n.running_var == 1).all()) for n in norms)  # type: ignore[union-attr]
    fresh = all(bool(((n.weight == 1) | (n.weight == 0)).all()) and not bool(n.bias.any()) for n in norms)
    return plain and not fresh


def _fitted(name: str, value: Tensor, target: Tensor, path: Path, source: str) -> tuple[Tensor, str]:
    """The tensor for its place, and how it was changed; empty for not at all."""
    how = []
    stem_differs = name in STEMS and value.ndim == target.ndim == 4 and value.shape[1] != target.shape[1]
    if stem_differs and value.shape[0] == target.shape[0] and value.shape[2:] == target.shape[2:]:
        given, channels = value.shape[1], target.shape[1]
        value = fold_channels(value.float(), channels)
        how.append((SUMMED if channels == 1 else CYCLED).format(given, channels))
    if value.shape != target.shape:
        raise ModelFileError(
            f"{shown(path)}: tensor {printable(source)} is {list(value.shape)}, the network's {name} is "
            f"{list(target.shape)}; choose the network that these weights are of (model=)"
        )
    if value.dtype != target.dtype:
        if not value.dtype.is_floating_point or not target.dtype.is_floating_point:
            raise ModelFileError(
                f"{shown(path)}: tensor {printable(source)} is {value.dtype}, the network's {name} is "
                f"{target.dtype}; save the weights as floating point"
            )
        how.append(f"{value.dtype} to {target.dtype}".replace("torch.", ""))
    return value, ", ".join(how)


def _refused_head(name: str, target: Tensor, named: Named, other_classes: Mapping[str, str]) -> str:
    """Why a head of the file is not used: other classes, or another number of them."""
    head = head_of(name)
    if head is None:
        return ""
    if head in other_classes:
        return other_classes[head]
    value = named.tensors.get(name.rpartition(".")[0] + ".weight")
    classes = target.shape[0]
    if value is not None and value.shape[0] != classes:
        return f"{classes:,} classes instead of {value.shape[0]:,}"
    return ""


def _replaced_heads(entries: list[Entry], state: Mapping[str, Tensor], named: Named) -> list[Entry]:
    """The file's own heads where the network's were initialised anew."""
    fresh = {entry.tensor for entry in entries if entry.action == "reinitialised"}
    return [_ignored(name, named) for name in named.tensors if name in fresh and name in state]


def _check(
    state: Mapping[str, Tensor],
    missing: list[str],
    unused: list[str],
    named: Named,
    path: Path,
    allowed: Allowed,
) -> None:
    """Refuse a load that leaves parts of the body out, on either side."""
    if allowed.partial and not allowed.strict:
        return
    body = [name for name in state if not is_head(name) and not name.endswith(COUNTER)]
    if missing:
        first = missing[0]
        raise ModelFileError(
            f"{shown(path)} covers {len(body) - len(missing)} of the {len(body)} tensors of the network's body: "
            f"{first} {list(state[first].shape)} is not in it; choose the network that these weights are of, "
            "or allow it with partial=True"
        )
    left = [name for name in unused if not is_head(name) and not name.endswith(COUNTER)]
    if left:
        first = left[0]
        raise ModelFileError(
            f"{shown(path)} has {len(left)} tensors that the network has no place for, such as "
            f"{printable(named.sources[first])} {list(named.tensors[first].shape)}; choose the network that these "
            "weights are of, or allow it with partial=True"
        )


def _check_strict(entries: list[Entry], path: Path, allowed: Allowed) -> None:
    other = next((entry for entry in entries if entry.action not in ("loaded", "renamed")), None)
    if allowed.strict and other is not None:
        name = printable(other.tensor or other.source)
        why = f" ({other.why})" if other.why else ""
        raise ModelFileError(
            f"{shown(path)}: strict loading copies and renames only, but {name} would be "
            f"{IN_WORDS[other.action]}{why}; leave strict out to allow it"
        )


def _entry(action: str, name: str, source: str, target: Tensor, why: str) -> Entry:
    parameters = target.numel() if isinstance(target, nn.Parameter) else 0
    return Entry(
        action=action,  # type: ignore[arg-type]
        tensor=name,
        source=source,
        shape=tuple(target.shape),
        parameters=parameters,
        why=why,
    )


def _ignored(name: str, named: Named) -> Entry:
    value = named.tensors[name]
    counts = name.endswith((".weight", ".bias"))
    return Entry(
        action="ignored",
        tensor="",
        source=named.sources[name],
        shape=tuple(value.shape),
        parameters=value.numel() if counts else 0,
        why="the head is new" if is_head(name) else "no place in the network",
    )


def _notes(state: Mapping[str, Tensor], named: Named) -> list[str]:
    absent = sum(name.endswith(COUNTER) and name not in named.tensors for name in state)
    notes = [f"{absent} batch-norm counters are not in the file; nothing depends on them"] if absent else []
    if named.others:
        notes.append(f"{len(named.others):,} tensors outside the network were not used")
    return notes
