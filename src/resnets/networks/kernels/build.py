"""The kernels' machine code: compiled from this folder's C++ when it is first wanted, kept, loaded.

It shares torch's threads: the functions that start them are looked up in the library torch itself has loaded.
"""

import ctypes
import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from resnets.base.files import cache_folder, replacing
from resnets.base.machine import MATRIX_UNITS, bf16_units_in_words

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.cpp")))
HEADERS = tuple(sorted(Path(__file__).parent.glob("*.h")))
COMPILERS = ("g++", "c++", "clang++")
BASE_FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-Wno-psabi")
AVX512_FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512")
AVX2_FLAGS = ("-mavx2", "-mfma")
SECONDS = 120  # after which a compiler is given up

POINTER, INT, LONG, DOUBLE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_double


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The loaded functions, and what they are, for the plan line.

    step: how many elements the norms take at a time. matrix_units: whether the convolutions can run.
    """

    norm_forward: "ctypes._NamedFuncPointer"
    norm_backward: "ctypes._NamedFuncPointer"
    convolve: "ctypes._NamedFuncPointer"
    input_gradient: "ctypes._NamedFuncPointer"
    filter_gradient: "ctypes._NamedFuncPointer"
    pool_forward: "ctypes._NamedFuncPointer"
    pool_backward: "ctypes._NamedFuncPointer"
    make_ready: "ctypes._NamedFuncPointer"
    step: int
    matrix_units: bool
    name: str


ARGUMENTS = {  # as the sources have them at their ends
    "norm_forward": (INT, INT, LONG, LONG, INT, INT, DOUBLE, DOUBLE, *[POINTER] * 9),
    "norm_backward": (INT, INT, LONG, LONG, INT, INT, *[POINTER] * 10),
    "convolve": (INT, *[POINTER] * 4),
    "input_gradient": (INT, *[POINTER] * 5),
    "filter_gradient": (INT, *[POINTER] * 4),
    "pool_forward": (INT, INT, *[POINTER] * 4),
    "pool_backward": (INT, INT, *[POINTER] * 4),
    "make_ready": (INT, INT, *[POINTER] * 6),
}


class _Missing(Exception):
    """Why there are no kernels here, in a few words."""


@functools.cache
def load() -> Kernels | str:
    """The kernels, or why there are none; compiled at the first call that finds none in the cache."""
    try:
        if os.environ.get("RESNETS_KERNELS", "").lower() in ("off", "0"):
            raise _Missing("RESNETS_KERNELS=off")
        threads = _thread_functions()
        instructions, flags = _instructions()
        compiler, version = _compiler()
        library = ctypes.CDLL(str(_compiled(compiler, version, flags)))
    except (_Missing, ValueError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    library.use_threads.argtypes = [POINTER] * 3
    library.use_threads(*threads)
    functions = {name: getattr(library, name) for name in ARGUMENTS}
    for name, function in functions.items():
        function.argtypes, function.restype = ARGUMENTS[name], None
    matrix_units = bf16_units_in_words() == MATRIX_UNITS and bool(library.matrix_units())
    source = hashlib.sha256(_source()).hexdigest()[:6]  # another source may make other bits
    units = ", AMX" if matrix_units else ""
    name = f"{instructions}{units}, {_short(compiler, version)}, source {source}"
    return Kernels(**functions, step=library.step(), matrix_units=matrix_units, name=name)


def _source() -> bytes:
    return b"".join(path.read_bytes() for path in (*HEADERS, *SOURCES))


def _thread_functions() -> list[int | None]:
    """Where torch's OpenMP has: start a team; my number in it; its size."""
    try:
        torch_library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        return [ctypes.cast(getattr(torch_library, name), POINTER).value for name in names]
    except (OSError, AttributeError):
        raise _Missing("this torch has no OpenMP threads to share") from None


def _instructions() -> tuple[str, tuple[str, ...]]:
    """The instruction set that torch itself has chosen, in words and as flags."""
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512":
        if bf16_units_in_words() == "no bf16 units":
            return "AVX512", AVX512_FLAGS
        return "AVX512-BF16", (*AVX512_FLAGS, "-mavx512bf16")  # whatever has AMX has these too
    if capability == "AVX2":
        return "AVX2", AVX2_FLAGS
    return capability, ()


def _compiler() -> tuple[list[str], str]:
    """The command ($CXX, or the first of COMPILERS that is installed) and what it says of itself."""
    asked = shlex.split(os.environ.get("CXX", ""))
    for command in [asked] if asked else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            told = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=SECONDS)
            if told.returncode == 0 and told.stdout:
                return command, told.stdout.splitlines()[0]
    raise _Missing(f"no C++ compiler found ({shlex.join(asked) if asked else ', '.join(COMPILERS)})")


def _short(compiler: list[str], version: str) -> str:
    number = re.search(r"\d+(\.\d+)+", version)
    return f"{Path(compiler[0]).name} {number.group() if number else version}"


def _compiled(compiler: list[str], version: str, flags: tuple[str, ...]) -> Path:
    """The shared library of this source, compiler, flags and torch: from the cache, or made under a lock."""
    folder = cache_folder("kernels")
    _check_private(folder)
    facts = (_source(), compiler, version, BASE_FLAGS, flags, torch.__version__)
    path = folder / f"kernels-{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.so"
    if not path.exists():
        with _locked(folder / "lock"):
            if not path.exists():
                _compile([*compiler, *BASE_FLAGS, *flags], path)
    return path


def _compile(command: list[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, replacing(path) as beside:
        environment = {**os.environ, "LC_ALL": "C", "TMPDIR": scratch}
        made = subprocess.run(
            [*command, *map(str, SOURCES), "-o", str(beside)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env=environment,
        )
        if made.returncode:
            lines = [line for line in made.stderr.splitlines() if "error" in line] or [f"status {made.returncode}"]
            raise _Missing(f"{command[0]} failed: {lines[0][:200]}")


def _check_private(folder: Path) -> None:
    """What is loaded from the folder runs as this user, so nobody else may write there."""
    facts = folder.stat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise _Missing(f"others can write to {folder}; chmod 700 it, or set RESNETS_CACHE to a private folder")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl  # not on Windows, where torch brings no GOMP_parallel and nothing comes this far

    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
