"""How much memory can be had, as the files of Linux say it."""

from pathlib import Path

import pytest

from resnets.base.machine import free_memory_bytes, memory_bytes


def write(root: Path, **files: str) -> None:
    """Files by their paths, with `__` for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_the_system_has_to_give_is_free(tmp_path: Path) -> None:
    write(tmp_path, proc__meminfo="MemTotal:    24684424 kB\nMemAvailable:   10000 kB\nHugePages_Total:   0\n")
    assert free_memory_bytes(tmp_path) == 10_000 * 1024


def test_a_control_groups_limit_holds_for_all_groups_below_it(tmp_path: Path) -> None:
    write(tmp_path, proc__meminfo="MemAvailable: 9000000 kB\n", proc__self__cgroup="0::/job/part\n")
    group = tmp_path / "sys/fs/cgroup/job"
    write(group, **{"memory.max": "4000000\n", "memory.current": "3000000\n", "part__memory.max": "max\n"})
    assert free_memory_bytes(tmp_path) == 1_000_000
    write(group, **{"memory.stat": "anon 2400000\nfile 600000\ninactive_file 500000\nactive_file 100000\n"})
    assert free_memory_bytes(tmp_path) == 1_600_000  # the cache of files is given up when it is needed


def test_a_container_that_sees_its_own_group_as_the_mount_is_held_to_it(tmp_path: Path) -> None:
    write(tmp_path, proc__meminfo="MemAvailable: 9000000 kB\n")
    write(tmp_path, proc__self__cgroup="8:pids:/docker/1\n4:cpu,memory:/docker/1\n0::/docker/1\n")
    group = {"memory.limit_in_bytes": "4000000", "memory.usage_in_bytes": "3900000"}
    write(tmp_path / "sys/fs/cgroup/memory", **group, **{"memory.stat": "total_inactive_file 5000\n"})
    assert free_memory_bytes(tmp_path) == 105_000


def test_all_memory_is_taken_for_free_where_the_system_says_nothing(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path) == memory_bytes()
    assert 0 < free_memory_bytes() <= memory_bytes()


@pytest.mark.parametrize("used", ["5000000", ""])
def test_a_group_over_its_limit_or_without_a_count_leaves_none_or_its_limit(tmp_path: Path, used: str) -> None:
    write(tmp_path, proc__meminfo="MemAvailable: 9000000 kB\n", proc__self__cgroup="0::/\n")
    write(tmp_path / "sys/fs/cgroup", **{"memory.max": "4000000", "memory.current": used})
    assert free_memory_bytes(tmp_path) == (0 if used else 4_000_000)
