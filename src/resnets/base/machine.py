"""Facts of this machine: what may be used, and what a run's numbers depend on."""

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

from resnets.base.errors import UsageError
from resnets.base.world import world

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}
GIVING_BACK = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 * 1024}  # glibc's defaults


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """All processors for a process that is alone, an equal share for each of several on this machine."""
    return max(1, cores() // world().local_size)


def pick_device(asked: str | None) -> str:
    """The device's name: what was asked for if it is there, else CUDA, MPS or the processor, in this order.

    Raises UsageError where the device that was asked for is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked is None:
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind, _, number = asked.partition(":")
    if kind not in there or (number and not number.isdigit()):
        raise UsageError(f"--device must be cpu, cuda, cuda:N or mps, got {asked!r}")
    if not there[kind]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise UsageError(f"--device {asked}: this torch ({torch.__version__}) finds none; there is: {found}")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"--device {asked}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return asked


MATRIX_UNITS = "bf16 matrix units (AMX)"


TINY = 16  # pixels a side of pictures, up to which bf16 is no faster


def has_bf16_units(device: str) -> bool:
    """Whether bf16 products are computed by the hardware (AVX512-BF16 or AMX; NVIDIA from Ampere on)."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _processor_flag("avx512_bf16", "amx_bf16")
    return False


def _processor_flag(*names: str) -> bool:
    flags = _processor_fact("flags").split()
    return any(name in flags for name in names)


def _processor_fact(key: str) -> str:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as handle:
            line = next((line for line in handle if line.partition(":")[0].strip() == key), "")
    except OSError:
        return ""
    return line.partition(":")[2].strip()


def processor_name() -> str:
    """As its maker calls it where the system says so, else its kind."""
    return _processor_fact("model name") or platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Main memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory_bytes(root: Path = Path("/")) -> int:
    """Main memory that this process can still get: what the system has to give, and its control groups leave.

    root: the folder that /proc and /sys are in. All of the machine's memory where the system says nothing.
    """
    available = _numbers(root / "proc/meminfo").get("MemAvailable:")
    free = memory_bytes() if available is None else available * 1024
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            mount, limit, used, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            limit, used, cache = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        else:
            continue
        group = mount / path.lstrip("/")  # not there where a container sees its own group as the mount
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount) and _text(folder / limit).strip().isdigit():
                statistics = _numbers(folder / "memory.stat")
                files = sum(statistics.get(f"{cache}{kind}_file", 0) for kind in ("inactive", "active"))
                free = min(free, int(_text(folder / limit)) - int(_text(folder / used) or 0) + files)
    return max(0, free)


def _numbers(path: Path) -> dict[str, int]:
    """Name -> number, of a file with a name and a number in each line."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _text(path: Path) -> str:
    """What the system says there; nothing where it has no such file."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def bf16_units_in_words() -> str:
    """For the record beside a figure: matrix units (AMX), vector units (AVX512-BF16), or none."""
    if _processor_flag("amx_bf16"):
        return MATRIX_UNITS
    if _processor_flag("avx512_bf16"):
        return "bf16 vector units (AVX512-BF16)"
    return "no bf16 units"


class Allocator:
    """Of this process."""

    keeps_freed_memory = False


def keep_freed_memory() -> bool:
    """Let this process keep large blocks that it frees, where the C library is glibc; whether it does.

    By default every large tensor is given back to the system when it is freed and faulted in again, zeroed, when
    the next is made, which costs a training step 10 to 25%. To be called before torch is imported, by a program
    of its own: a library leaves its host's allocator alone. RESNETS_ALLOCATOR=off leaves it alone too.
    """
    if sys.platform.startswith("linux") and os.environ.get("RESNETS_ALLOCATOR") != "off":
        Allocator.keeps_freed_memory = _set_allocator(KEEPING)
    return Allocator.keeps_freed_memory


def give_back_freed_memory() -> None:
    """Undo `keep_freed_memory`, for work that needs much of the memory."""
    if Allocator.keeps_freed_memory:
        Allocator.keeps_freed_memory = not _set_allocator(GIVING_BACK)


def _set_allocator(options: dict[int, int]) -> bool:
    """Whether the C library is one that has them."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, value) for option, value in options.items())


def numeric_environment(*, device: str, threads: int, precision: str, kernels: str) -> dict[str, Any]:
    """All that the bits of a run depend on beside its data and options; equal here means an exact resume."""
    import PIL
    import torch

    return {
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_units": bf16_units_in_words(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": threads,
        "processes": world().size,
        "precision": precision,
        "kernels": kernels,
    }
