"""Archives that are as they should be, damaged, or made to do harm."""

import errno
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from resnets.base import archive as module
from resnets.base.archive import unpack
from resnets.base.errors import DataError, OutOfSpace

FILES = {"set/train/a/1.bin": os.urandom(300_000), "set/train/b/2.bin": b"", "set/Zürich \udcff.txt": b"text"}


def tar_of(path: Path, *entries: tarfile.TarInfo | tuple[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode, errors="surrogateescape") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                member = tarfile.TarInfo(entry[0])
                member.size, member.mode = len(entry[1]), 0o777
                tar.addfile(member, io.BytesIO(entry[1]))
    return path


def zip_of(path: Path, *entries: zipfile.ZipInfo | tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            if isinstance(entry, zipfile.ZipInfo):
                archive.writestr(entry, b"target")
            else:
                archive.writestr(*entry)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def refused(archive: Path, match: str, *, declared_size: int = 1_000_000) -> None:
    """The archive raises DataError in one line that matches, and nothing of it is left."""
    folder = archive.parent / "out"
    before = {entry.name for entry in archive.parent.iterdir()}
    with pytest.raises(DataError, match=match) as error:
        unpack(archive, folder, declared_size=declared_size)
    assert "\n" not in str(error.value)
    assert {entry.name for entry in archive.parent.iterdir()} - before <= {".out.lock"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_is_unpacked_with_its_bytes_and_names(tmp_path: Path, mode: str) -> None:
    seen: list[tuple[int, int | None]] = []
    archive = tar_of(tmp_path / "set.tgz", special("set", tarfile.DIRTYPE), *FILES.items(), mode=mode)
    folder = unpack(
        archive, tmp_path / "out", declared_size=300_000, progress=lambda done, total: seen.append((done, total))
    )
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert seen[-1][1] == archive.stat().st_size
    assert 0 < seen[-1][0] <= archive.stat().st_size
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.lock", "out", "set.tgz"]


def test_a_zip_is_unpacked_with_its_bytes(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "set.zip", ("set/", b""), ("set/a/1.txt", b"one"), ("set/b/2.txt", b"two"))
    folder = unpack(archive, tmp_path / "out", declared_size=1000)
    assert (folder / "set/a/1.txt").read_bytes() == b"one"
    assert (folder / "set/b/2.txt").read_bytes() == b"two"


def test_modes_are_not_taken_over(tmp_path: Path) -> None:
    folder = unpack(
        tar_of(tmp_path / "a.tar", ("run.sh", b"#!/bin/sh"), mode="w"), tmp_path / "out", declared_size=10
    )
    assert not (folder / "run.sh").stat().st_mode & stat.S_IXUSR


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert unpack(tmp_path / "no-such.tgz", tmp_path / "out", declared_size=1) == tmp_path / "out"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".out.part" / "half").mkdir(parents=True)
    folder = unpack(tar_of(tmp_path / "a.tgz", ("a", b"a")), tmp_path / "out", declared_size=10)
    assert [entry.name for entry in folder.iterdir()] == ["a"]
    assert not (tmp_path / ".out.part").exists()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (special("set/link", tarfile.SYMTYPE, "/etc/passwd"), "'set/link' is a link"),
        (special("set/link", tarfile.LNKTYPE, "set/a"), "'set/link' is a link"),
        (special("set/null", tarfile.CHRTYPE), "'set/null' is a device"),
        (special("set/disk", tarfile.BLKTYPE), "'set/disk' is a device"),
        (special("set/pipe", tarfile.FIFOTYPE), "'set/pipe' is a device or another special file"),
        (("/tmp/absolute", b"x"), "'/tmp/absolute' has an absolute path"),
        (("C:/windows", b"x"), "'C:/windows' has an absolute path"),
        (("set/../../outside", b"x"), r"'set/\.\./\.\./outside' has a path with '\.\.'"),
        (("set\\..\\outside", b"x"), "has a path with a backslash"),
        (("set/a", b"y"), "'set/a' has the place of another"),
        (("set/a/b", b"y"), "'set/a/b' has the place of another"),
    ],
)
def test_a_harmful_tar_member_is_named_and_nothing_is_kept(
    tmp_path: Path, entry: tarfile.TarInfo | tuple[str, bytes], reason: str
) -> None:
    refused(tar_of(tmp_path / "bad.tgz", ("set/a", b"x"), entry), reason)
    assert not (tmp_path.parent / "outside").exists()


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (zip_entry("link", stat.S_IFLNK | 0o777), "'link' is a link"),
        (zip_entry("pipe", stat.S_IFIFO | 0o666), "'pipe' is a device or another special file"),
        (("/absolute", b"x"), "'/absolute' has an absolute path"),
        (("../outside", b"x"), "has a path with"),
    ],
)
def test_a_harmful_zip_member_is_named(
    tmp_path: Path, entry: zipfile.ZipInfo | tuple[str, bytes], reason: str
) -> None:
    refused(zip_of(tmp_path / "bad.zip", ("a", b"x"), entry), reason)


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_an_archive_may_grow_to_four_times_its_declared_size(tmp_path: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "zeros", ("first", bytes(2000)), ("bomb", bytes(2000)))
    refused(archive, "'bomb' makes it more than 3,996 bytes, 4 times its declared size", declared_size=999)
    assert unpack(archive, tmp_path / "out", declared_size=1000).is_dir()


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.MEMBERS == 3_000_000
    monkeypatch.setattr(module, "MEMBERS", 3)
    refused(tar_of(tmp_path / "many.tgz", *[(f"{i}", b"") for i in range(4)]), "'3' is one more than 3 members")


def test_a_tar_header_that_claims_much_is_refused(tmp_path: Path) -> None:
    refused(tar_of(tmp_path / "name.tgz", ("x" * 2_000_000, b"")), r"a header of 2,000,\d+ bytes")


def test_a_sparse_tar_member_is_refused(tmp_path: Path) -> None:
    header = bytearray(special("sparse", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"  # the real size, in octal
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "sparse.tar").write_bytes(bytes(header) + bytes(1024))
    refused(tmp_path / "sparse.tar", "'sparse' is a sparse file")


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    member = special("back", tarfile.DIRTYPE)
    member.pax_headers = {"size": "-1024"}
    refused(tar_of(tmp_path / "back.tar", member, mode="w"), "'back' has a negative size")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_of(tmp_path / "a.zip", ("a", b"secret")).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(content))
    refused(tmp_path / "a.zip", "'a' is encrypted")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_a_truncated_archive_is_damaged(tmp_path: Path, kept: float, kind: str) -> None:
    path = tmp_path / "cut"
    archive = zip_of(path, *list(FILES.items())[:2]) if kind == "zip" else tar_of(path, *FILES.items(), mode=kind)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * kept)])
    refused(archive, "is damaged at")


def test_a_tar_with_a_bad_header_in_the_middle_is_damaged(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", ("a", b"a" * 512), ("b", b"b" * 512), mode="w")
    content = bytearray(archive.read_bytes())
    content[1024:1030] = b"wrong!"  # the second member's name, which its checksum covers
    archive.write_bytes(bytes(content))
    refused(archive, "is damaged at 'a'")


def test_a_flipped_bit_in_a_zip_or_a_gzip_is_found(tmp_path: Path) -> None:
    for archive in (
        zip_of(tmp_path / "a.zip", *list(FILES.items())[:1]),
        tar_of(tmp_path / "a.tgz", *FILES.items()),
    ):
        content = bytearray(archive.read_bytes())
        content[150_000] ^= 1
        archive.write_bytes(bytes(content))
        refused(archive, "is damaged at")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"not an archive", gzip.compress(b"not a tar", mtime=0), b"\x1f\x8b"]
)
def test_what_is_no_archive_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tgz").write_bytes(content)
    refused(tmp_path / "a.tgz", "is damaged at 'its beginning'")


def test_a_full_disk_is_out_of_space_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.shutil, "copyfileobj", no_space)
    with pytest.raises(OutOfSpace, match="no space left on the disk while unpacking"):
        unpack(tar_of(tmp_path / "a.tgz", ("a", b"a")), tmp_path / "out", declared_size=10)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.lock", "a.tgz"]
