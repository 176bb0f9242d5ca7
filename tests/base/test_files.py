"""Files that are never half-written, their hashes, and the cache folder."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from resnets.base.errors import OutOfSpace, UsageError
from resnets.base.files import cache_folder, content_hash, replacing, sha256_of, sync, write_bytes, write_text


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    write_text(path, "old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
        assert beside.parent == path.parent
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["run.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    write_text(path, "old")

    def write_half() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_and_keeps_the_old_file(tmp_path: Path, code: int) -> None:
    path = tmp_path / "run.txt"
    write_text(path, "old")

    def fill() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(OutOfSpace, match=r"no space left on the disk while writing .*run\.txt") as caught:
        fill()
    assert caught.value.exit_status == 3
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device_raises_the_same(tmp_path: Path) -> None:
    def fill() -> None:
        with replacing(tmp_path / "run.txt"), open("/dev/full", "wb", buffering=0) as device:
            device.write(b"x")

    with pytest.raises(OutOfSpace):
        fill()
    assert os.listdir(tmp_path) == []


def test_other_failures_of_the_disk_are_not_called_full(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "no such folder" / "run.txt", b"x")


def test_a_suffix_lets_writers_see_the_ending_they_want(tmp_path: Path) -> None:
    with replacing(tmp_path / "table", suffix=".parquet") as beside:
        assert beside.suffix == ".parquet"
        beside.write_bytes(b"x")
    assert os.listdir(tmp_path) == ["table"]


def test_names_that_are_not_utf8_can_be_written_as_text(tmp_path: Path) -> None:
    write_text(tmp_path / "list.txt", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "list.txt").read_bytes() == rb"caf\udce9"


def test_folders_can_be_flushed(tmp_path: Path) -> None:
    sync(tmp_path)


def test_hashes_are_those_of_the_standard(tmp_path: Path) -> None:
    # RFC 7693 gives blake2b-512; the 128-bit one is its own function, so two peers: hashlib and b2sum -l 128
    assert content_hash(b"abc").hex() == "cf4ab791c62b8d2b2109c90275287816"
    assert content_hash(memoryview(b"abc")) == content_hash(b"abc")
    write_bytes(tmp_path / "abc", b"abc")
    assert sha256_of(tmp_path / "abc") == hashlib.sha256(b"abc").hexdigest()


def test_the_cache_is_private_and_where_it_was_asked_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "mine"))
    folder = cache_folder("downloads")
    assert folder == tmp_path / "mine" / "downloads"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="the XDG rules are Linux's")
def test_an_empty_xdg_cache_home_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNETS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "resnets"


def test_a_cache_that_cannot_be_made_names_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set RESNETS_CACHE to a folder that can be written"):
        cache_folder("downloads")


@pytest.mark.parametrize("place", ["folder", ".", ".."])
def test_a_folder_in_the_files_place_is_refused_before_anything_is_done(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError), replacing(Path(place)):
        pytest.fail("the block was entered")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
