"""The model file: one safetensors file that stands alone.

Its metadata has one key, `resnets`, a JSON object: format, spec, heads, preprocess, calibration, origin and
tensors_sha256. Nothing in it is code; `describe` reads it without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from resnets.base.errors import ModelFileError, ResnetsError, UsageError
from resnets.base.files import write_bytes
from resnets.base.text import printable
from resnets.labels import Head
from resnets.preprocess import Preprocess
from resnets.weights.header import Header, parse_header, read_header, shown, unreadable

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")

FORMAT = 1
KEY = "resnets"
PARTS = ("spec", "heads", "preprocess", "calibration", "origin", "tensors_sha256")
LICENCE, UNNAMED, RECEIPT = "licence", "unnamed_heads", "receipt"  # keys of a model's origin
DTYPES = {  # of safetensors, by torch's name
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network with all that is needed to use it.

    heads: head name -> classes, in the network's order. calibration: how logits become honest probabilities.
    origin: where it comes from: data and its hash, run, base weights and their licence, versions, figures.
    """

    network: nn.Module
    heads: dict[str, Head]
    preprocess: Preprocess
    calibration: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)


def save(path: Path | str, model: Model) -> None:
    """Write the model file, whole or not at all; equal models give equal bytes.

    A network of this package is rebuilt from its spec when it is loaded; any other `nn.Module` is stored as
    tensors alone, and loading needs `network=module`. Raises UsageError where a network is not as its spec says.
    """
    import safetensors.torch

    path = Path(path)
    spec = _spec_of(model.network)
    tensors = {name: _plain(value) for name, value in model.network.state_dict().items()}
    if spec["kind"] != "foreign":
        misfit = _first_misfit(_shapes(tensors), _expected(spec))
        if misfit:
            raise UsageError(
                f"cannot save {shown(path)}: the network is not what its spec builds: {misfit}; "
                "build it with the layers it should have, in float32"
            )
    record = {
        "format": FORMAT,
        "spec": spec,
        "heads": {name: head.to_json() for name, head in model.heads.items()},
        "preprocess": model.preprocess.to_json(),
        "calibration": model.calibration,
        "origin": model.origin,
        "tensors_sha256": tensors_sha256(tensors),
    }
    try:
        text = json.dumps(record, sort_keys=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"cannot save {shown(path)}: its calibration or origin is not plain JSON: {error}"
        ) from error
    content = safetensors.torch.save(tensors, metadata={KEY: text})
    try:
        write_bytes(path, content)
    except OSError as error:
        raise UsageError(f"cannot write {shown(path)}: {error.strerror}; choose another place") from error


def load(path: Path | str, *, network: nn.Module | None = None) -> Model:
    """Read a model file into a network on the processor, in evaluation mode.

    Everything is checked first: size, format, spec, the name, shape and type of every tensor, then their hash.
    network: for models of other libraries, the module (built the same way) that the tensors are put into.
    Raises ModelFileError, in one line, for anything that is not a whole and unchanged model file.
    """
    import safetensors.torch

    path = Path(path)
    try:
        with path.open("rb") as handle:
            header = parse_header(handle, path)
            record = _record(header, path)
            heads, preprocess, network = _checked(record, header, path, network)
            handle.seek(0)
            content = handle.read(header.size)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"{shown(path)} changed while it was read or is damaged: {error}") from error
    if tensors_sha256(tensors) != record["tensors_sha256"]:
        raise ModelFileError(
            f"{shown(path)} holds other weights than were saved in it (their hash differs): it was damaged or "
            "changed by another program; copy it again from where it was made"
        )
    network.load_state_dict(tensors, strict=True)
    network.eval()
    return Model(
        network=network,
        heads=heads,
        preprocess=preprocess,
        calibration=record["calibration"],
        origin=record["origin"],
    )


def describe(path: Path | str) -> dict[str, Any]:
    """What a model file says of itself, without reading a tensor and without torch. Raises ModelFileError."""
    return _record(read_header(Path(path)), Path(path))


def is_model_file(path: Path) -> bool:
    """Whether this is a safetensors file with our metadata, of whatever version."""
    try:
        return KEY in read_header(path).metadata
    except ModelFileError:
        return False


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the tensors in the order of names: a line `NAME DTYPE SHAPE`, then the bytes, little endian."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {_dtype(value)} {list(value.shape)}\n".encode("utf-8", "surrogatepass"))
        if value.numel():
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _first_misfit(
    found: Mapping[str, tuple[str, tuple[int, ...]]], expected: Mapping[str, tuple[str, tuple[int, ...]]]
) -> str | None:
    """The first difference between two tables of (dtype, shape), in words, or None."""
    for name, (dtype, shape) in expected.items():
        if name not in found:
            return f"tensor {name} {list(shape)} is missing"
        if found[name] != (dtype, shape):
            return f"tensor {name} is {found[name][0]} {list(found[name][1])}, expected {dtype} {list(shape)}"
    extra = next((name for name in found if name not in expected), None)
    return (
        None if extra is None else f"tensor {printable(extra)} {list(found[extra][1])} has no place in the network"
    )


def _record(header: Header, path: Path) -> dict[str, Any]:
    """The `resnets` metadata, with the format checked and every key there."""
    if KEY not in header.metadata:
        raise ModelFileError(
            f"{shown(path)} is a safetensors file without this program's metadata: weights of another program; "
            "resnets.load reads them if it knows their layout"
        )
    try:
        record = json.loads(header.metadata[KEY])
        number = record["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{shown(path)} has damaged metadata ({error}); copy the file again") from error
    if type(number) is not int or number < 1:
        raise ModelFileError(f"{shown(path)} has damaged metadata (format {number!r}); copy the file again")
    if number > FORMAT:
        raise ModelFileError(
            f"{shown(path)} is a model file of format {number}, newer than this version reads ({FORMAT}); "
            "upgrade: pip install -U resnets"
        )
    for key in PARTS:
        if not isinstance(record.get(key), str if key == "tensors_sha256" else dict):
            raise ModelFileError(
                f"{shown(path)} has damaged metadata ({key} is missing or wrong); copy the file again"
            )
    return dict(record)


def _checked(
    record: dict[str, Any], header: Header, path: Path, network: nn.Module | None
) -> tuple[dict[str, Head], Preprocess, nn.Module]:
    """Heads, preprocessing and the network, with every tensor of the file checked against it but none read."""
    spec = record["spec"]
    heads = _inside(path, lambda: {name: Head.from_json(value) for name, value in record["heads"].items()})
    preprocess = _inside(path, lambda: Preprocess.from_json(record["preprocess"]))
    if network is not None:
        expected = _shapes(network.state_dict())
    elif spec.get("kind") in ("resnet", "unet"):
        expected = _inside(path, lambda: _expected(spec))
    else:
        raise _not_built_here(path, spec)
    misfit = _first_misfit({name: (entry.dtype, entry.shape) for name, entry in header.tensors.items()}, expected)
    if misfit:
        raise ModelFileError(f"{shown(path)} does not fit its network ({misfit}): it is damaged or was changed")
    if network is None:
        from resnets.networks.unet import UNetSpec, spec_from_json
        from resnets.weights.blank import blank

        known = spec_from_json(spec)
        network = blank(known)
        outputs = dict.fromkeys(heads, known.classes) if isinstance(known, UNetSpec) else dict(known.heads)
        heads = _in_order(path, outputs, heads)
    return heads, preprocess, network


def _expected(spec: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of the network that a stored spec builds; no memory is taken for it."""
    from resnets.networks.unet import spec_from_json
    from resnets.weights.blank import outline

    return _shapes(outline(spec_from_json(spec)).state_dict())


def _not_built_here(path: Path, spec: dict[str, Any]) -> ModelFileError:
    if spec.get("kind") == "foreign":
        return ModelFileError(
            f"{shown(path)} holds the tensors of {printable(str(spec.get('class')))}, which is not built here; "
            "build that module and give it: resnets.load(path, network=module)"
        )
    return ModelFileError(
        f"{shown(path)} holds a network of the kind {printable(str(spec.get('kind')))}, which this version does "
        "not know; upgrade: pip install -U resnets"
    )


def _in_order(path: Path, outputs: dict[str, int], heads: dict[str, Head]) -> dict[str, Head]:
    """The heads in the network's order; there must be as many classes as outputs."""
    classes = {name: len(head) for name, head in heads.items()}
    if classes != outputs:
        raise ModelFileError(f"{shown(path)} has classes for {classes}, but its network has outputs {outputs}")
    return {name: heads[name] for name in outputs}


def _inside(path: Path, make: Callable[[], T]) -> T:
    """Run `make`; what it refuses is a fault of this file."""
    try:
        return make()
    except (ResnetsError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelFileError(f"{shown(path)} cannot be used: {printable(str(error))}") from error


def _spec_of(network: nn.Module) -> dict[str, Any]:
    from resnets.networks.spec import ResNetSpec
    from resnets.networks.unet import UNetSpec

    spec = getattr(network, "spec", None)
    if isinstance(spec, ResNetSpec | UNetSpec):
        return spec.to_json()
    return {"kind": "foreign", "class": f"{type(network).__module__}.{type(network).__qualname__}"}


def _plain(value: torch.Tensor) -> torch.Tensor:
    """On the processor, in standard layout, with memory of its own (safetensors refuses shared memory)."""
    import torch

    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def _dtype(value: torch.Tensor) -> str:
    name = str(value.dtype).removeprefix("torch.")
    return DTYPES.get(name, name)


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (_dtype(value), tuple(value.shape)) for name, value in tensors.items()}
