"""The head of a safetensors file: what tensors it says it has, checked before one byte of them is read.

A safetensors file is: 8 bytes (little endian) N; N bytes of JSON, tensor name -> dtype, shape, data_offsets, and
`__metadata__` with text; then the tensors' bytes. This module imports no torch.
"""

import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from resnets.base.errors import ModelFileError
from resnets.base.text import printable

LARGEST_HEADER = 16 * 2**20  # bytes
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
KINDS = (  # how files begin that are often given by mistake
    (b"PK\x03\x04", "a zip archive, as torch.save writes them"),
    (b"\x80", "a pickle, as old versions of torch.save write them"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer: the weights themselves were not downloaded"),
    (b"<", "a web page or XML"),
)


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tensor as the header describes it; start and end count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """A checked header: `tensors` cover the rest of the file exactly, `size` is the whole file's in bytes."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    size: int


def read_header(path: Path) -> Header:
    """Read and check the header. Raises ModelFileError where the file is missing, cut short or something else."""
    try:
        with path.open("rb") as handle:
            return parse_header(handle, path)
    except OSError as error:
        raise unreadable(path, error) from error


def parse_header(handle: BinaryIO, path: Path) -> Header:
    """The header of an open file; `path` is for the messages."""
    size = os.fstat(handle.fileno()).st_size
    start = handle.read(32)
    if not looks_like_safetensors(start):
        raise ModelFileError(
            f"{shown(path)} is not a model file: it is {what_it_is(start)}; "
            "give a model.safetensors of a run, or weights in a layout that resnets.load reads"
        )
    (length,) = struct.unpack("<Q", start[:8])
    if length > LARGEST_HEADER:
        raise ModelFileError(
            f"{shown(path)} is not a usable model file: its header says {length:,} bytes, "
            f"at most {LARGEST_HEADER:,} are read; the file is damaged or was not written by this program"
        )
    if 8 + length > size:
        raise _cut_short(path, f"the header alone needs {8 + length:,} bytes, the file has {size:,}")
    handle.seek(8)
    try:
        values = json.loads(handle.read(length))
        metadata = values.pop("__metadata__", {})
        tensors = {name: _entry(name, value) for name, value in values.items()}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata that is not text")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ModelFileError(
            f"{shown(path)} has a damaged header ({printable(str(error))}); copy or download the file again"
        ) from error
    _check_extent(path, tensors, data_bytes=size - 8 - length)
    return Header(tensors=tensors, metadata=metadata, size=size)


def looks_like_safetensors(start: bytes) -> bool:
    """Whether a file that begins with these bytes is safetensors: a length, then an opening brace."""
    return len(start) >= 9 and start[8:9] == b"{" and start[:4] != b"PK\x03\x04"


def what_it_is(start: bytes) -> str:
    """What a file that begins with these bytes seems to be."""
    if not start:
        return "empty"
    for magic, kind in KINDS:
        if start.startswith(magic):
            return kind
    text = all(32 <= byte < 127 or byte in b"\t\n\r" for byte in start)
    return "a text file" if text else "of an unknown kind"


def unreadable(path: Path, error: OSError) -> ModelFileError:
    """The error for a file that cannot be opened."""
    if isinstance(error, IsADirectoryError):
        return ModelFileError(f"{shown(path)} is a folder; give the model file in it")
    return ModelFileError(f"cannot read {shown(path)}: {error.strerror}; check the path")


def shown(path: Path) -> str:
    """A path for a message."""
    return printable(str(path))


def _entry(name: str, value: Any) -> TensorEntry:
    dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    if dtype not in DTYPE_BITS:
        raise ValueError(f"unknown dtype {dtype!r} of {name!r}")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError(f"impossible shape or place of {name!r}")
    if (end - start) * 8 != math.prod(shape) * DTYPE_BITS[dtype]:
        raise ValueError(f"shape {list(shape)} of {name!r} does not fit its {end - start} bytes")
    return TensorEntry(dtype=dtype, shape=shape, start=start, end=end)


def _check_extent(path: Path, tensors: dict[str, TensorEntry], *, data_bytes: int) -> None:
    """Tensors lie one after another and end where the file ends."""
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            raise ModelFileError(
                f"{shown(path)} has a damaged header ({printable(name)} begins at byte {entry.start}, "
                f"expected {position}); copy or download the file again"
            )
        position = entry.end
    if position > data_bytes:
        raise _cut_short(path, f"its tensors need {position:,} bytes, it has {data_bytes:,}")
    if position < data_bytes:
        raise ModelFileError(
            f"{shown(path)} has {data_bytes - position:,} bytes more than its tensors need; "
            "the file is damaged: copy or download it again"
        )


def _cut_short(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"{shown(path)} is cut short: {why}; copy or download the file again")
