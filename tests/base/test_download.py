"""Downloads against a server on this machine that fails as real ones do."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnets.base import download as module
from resnets.base.download import download
from resnets.base.errors import DownloadError, OutOfSpace
from tests.local_server import LocalServer

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.0,) * 5)
    with LocalServer({"/file.bin": CONTENT}) as running:
        yield running


def test_a_file_is_fetched_checked_and_leaves_nothing_beside_it(server: LocalServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download(
        f"{server.url}/file.bin",
        tmp_path / "new" / "file.bin",
        sha256=SHA256.upper(),
        size=len(CONTENT),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert path.read_bytes() == CONTENT
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".file.bin.lock", "file.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_file_that_is_there_needs_no_network(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    assert download("https://nowhere.invalid/file.bin", path, md5=MD5) == path


def test_dropped_connections_are_gone_on_with_where_they_broke(server: LocalServer, tmp_path: Path) -> None:
    server.drops = [1_000_000, 500_000]
    path = download(f"{server.url}/file.bin", tmp_path / "file.bin", md5=MD5)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_part_left_by_an_earlier_process_is_gone_on_with(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(CONTENT[:2_000_000])
    download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256, size=len(CONTENT))
    assert [asked for _, asked in server.requests] == ["bytes=2000000-"]


@pytest.mark.parametrize("extra", [b"", b"and more"])
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_complete_or_too_long_ends_well(
    server: LocalServer, tmp_path: Path, extra: bytes, size: int | None
) -> None:
    (tmp_path / ".file.bin.part").write_bytes(CONTENT + extra)
    path = download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256, size=size)
    assert path.read_bytes() == CONTENT


def test_a_server_without_range_starts_anew(server: LocalServer, tmp_path: Path) -> None:
    server.ranges, server.drops = False, [1_000_000]
    path = download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000000-"]


def test_a_busy_server_is_asked_again(server: LocalServer, tmp_path: Path) -> None:
    server.statuses = [503, 429, 500]
    assert download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256).exists()


def test_a_server_that_always_drops_is_given_up_on_and_its_part_kept(server: LocalServer, tmp_path: Path) -> None:
    server.drops = [1000] * 6
    path = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=rf"6 tries, the last: the connection ended after 6,000.*{path}"):
        download(f"{server.url}/file.bin", path, sha256=SHA256)
    assert (tmp_path / ".file.bin.part").read_bytes() == CONTENT[:6000]
    assert not path.exists()


def test_connections_that_bring_much_are_no_failures(server: LocalServer, tmp_path: Path) -> None:
    server.files["/large.bin"] = large = CONTENT * 3
    server.drops = [1_100_000] * 8
    path = download(f"{server.url}/large.bin", tmp_path / "large.bin", sha256=hashlib.sha256(large).hexdigest())
    assert path.read_bytes() == large
    assert len(server.requests) == 9


def test_wrong_bytes_name_both_hashes_and_are_deleted(server: LocalServer, tmp_path: Path) -> None:
    server.files["/file.bin"] = wrong = CONTENT[::-1]
    found = hashlib.sha256(wrong).hexdigest()
    with pytest.raises(DownloadError, match=f"wrong bytes: sha256 {found}, not {SHA256}"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256, size=len(CONTENT))
    assert [entry.name for entry in tmp_path.iterdir()] == [".file.bin.lock"]


def test_a_wrong_file_put_there_by_hand_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"something else")
    with pytest.raises(DownloadError, match=f"has the sha256 [0-9a-f]{{64}}, not {SHA256}; remove it"):
        download("https://nowhere.invalid/file.bin", path, sha256=SHA256)
    assert path.read_bytes() == b"something else"


def test_another_size_is_refused_before_the_file_is_fetched(server: LocalServer, tmp_path: Path) -> None:
    server.files["/file.bin"] = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="it has 26 bytes, not 3,000,000"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256, size=len(CONTENT))
    assert not (tmp_path / ".file.bin.part").exists()


def test_a_missing_file_gives_the_way_by_hand_at_once(server: LocalServer, tmp_path: Path) -> None:
    url, path = f"{server.url}/gone.bin", tmp_path / "gone.bin"
    with pytest.raises(DownloadError, match=f"{url} cannot be reached .HTTP 404.*by hand and put it at {path}"):
        download(url, path, sha256=SHA256)
    assert len(server.requests) == 1


def test_without_a_network_one_line_gives_url_and_place(tmp_path: Path) -> None:
    url, path = "https://data.nowhere.invalid/file.bin", tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=f"{url} .*put it at {path}") as error:
        download(url, path, sha256=SHA256)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://example.com/a", "ftp://127.0.0.1/a", "file:///etc/passwd", "https:///a", "http://[bad/a", "a"]
)
def test_only_https_is_downloaded(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="only https is"):
        download(url, tmp_path / "a", sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["http://example.com/a", "ftp://example.com/a", "file:///etc/passwd"])
def test_a_redirect_keeps_to_the_rule(server: LocalServer, tmp_path: Path, there: str) -> None:
    server.redirects["/file.bin"] = there
    with pytest.raises(DownloadError, match=r"leads to|HTTP 302"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256)


def test_a_redirect_on_this_machine_is_followed_with_its_range(server: LocalServer, tmp_path: Path) -> None:
    server.redirects["/old.bin"] = f"{server.url}/file.bin"
    server.drops = [1_500_000]
    assert download(f"{server.url}/old.bin", tmp_path / "file.bin", sha256=SHA256).read_bytes() == CONTENT
    assert server.requests[-1] == ("/file.bin", "bytes=1500000-")


def test_a_download_without_a_hash_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sha256 or md5"):
        download("https://nowhere.invalid/a", tmp_path / "a")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_out_of_space(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").symlink_to("/dev/full")
    with pytest.raises(OutOfSpace, match="no space left on the disk while downloading"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256)


def test_a_file_larger_than_the_disk_is_refused_before_it_is_fetched(server: LocalServer, tmp_path: Path) -> None:
    with pytest.raises(OutOfSpace, match=r"needs 1000000000\.0 GB in .*RESNETS_CACHE"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin", sha256=SHA256, size=10**18)
    assert server.requests == []


def test_a_folder_that_cannot_be_written_is_one_line(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"cannot write .*RESNETS_CACHE"):
        download(f"{server.url}/file.bin", tmp_path / "file" / "file.bin", sha256=SHA256)


def test_two_processes_download_a_file_once(server: LocalServer, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from resnets.base.download import download;"
        "download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])"
    )
    command = [sys.executable, "-c", code, f"{server.url}/file.bin", str(tmp_path / "file.bin"), SHA256]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert len(server.requests) == 1
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
