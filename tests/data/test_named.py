"""Data sets by name, from a server on this machine that serves small ones of the same layouts."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.base.errors import DataError, DownloadError, UsageError
from resnets.data.sources.named import CATALOGUE, NamedData, RemoteFile, named_source
from tests.local_server import LocalServer

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)  # CIFAR's planes


def tar_gz(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return content.getvalue()


def served(server: LocalServer, name: str, files: dict[str, bytes]) -> dict[str, NamedData]:
    """A catalogue of one row: the layout of `name`, with these files at the server."""
    server.files |= {f"/{file}": content for file, content in files.items()}
    remote = tuple(
        RemoteFile(url=f"{server.url}/{file}", sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for file, content in files.items()
    )
    row = CATALOGUE[name]
    return {
        name: NamedData(
            layout=row.layout, files=remote, traits=row.traits, class_names=row.class_names, unpacked_size=10**6
        )
    }


def cifar10_files() -> dict[str, bytes]:
    """Two records a file; the label of record n is n mod 10, its pixels PIXELS[n]."""
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    records = [bytes([n % 10]) + PIXELS[n].tobytes() for n in range(12)]
    words = "airplane automobile bird cat deer dog frog horse ship truck"
    return {
        **{f"cifar-10-batches-bin/{name}": b"".join(records[2 * n : 2 * n + 2]) for n, name in enumerate(names)},
        "cifar-10-batches-bin/batches.meta.txt": (words.replace(" ", "\n") + "\n\n").encode(),
        "cifar-10-batches-bin/readme.html": b"<html>",
    }


def imagenette_files(pictures: int = 2) -> dict[str, bytes]:
    files = {"imagenette2-320/noisy_imagenette.csv": b"path,noisy\n"}
    for part in ("train", "val"):
        for identity in CATALOGUE["imagenette"].class_names:
            for number in range(pictures):
                content = io.BytesIO()
                Image.fromarray(RANDOM.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(content, "JPEG")
                files[f"imagenette2-320/{part}/{identity}/{identity}_{number}.JPEG"] = content.getvalue()
    return files


def idx_files() -> dict[str, bytes]:
    files = {}
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(
            struct.pack(">4I", 0x0803, count, 28, 28) + images.tobytes(), mtime=0
        )
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(
            struct.pack(">2I", 0x0801, count) + labels.tobytes(), mtime=0
        )
    return files


def test_every_row_of_the_catalogue_can_be_downloaded_and_checked() -> None:
    for row in CATALOGUE.values():
        for file in row.files:
            assert file.url.startswith("https://")
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 4000
    hashes = [file.sha256 for row in {id(row): row for row in CATALOGUE.values()}.values() for file in row.files]
    assert len(set(hashes)) == len(hashes) == 2 + 2 * 4 + 2 * 3


def test_fashion_mnists_checksums_are_those_of_the_real_files(shared_data: Path) -> None:
    for file in CATALOGUE["fashion-mnist"].files:
        content = (shared_data / "fashion-mnist" / file.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)


def test_imagenettes_names_are_imagenets(shared_data: Path) -> None:
    lines = (shared_data / "imagenet-samples" / "classes.csv").read_text().splitlines()[1:]
    imagenet = {line.split(",")[1]: line.split(",")[2].replace("_", " ") for line in lines}
    for name in ("imagenette", "imagewoof"):
        named = CATALOGUE[name].class_names
        assert len(named) == 10
        assert named == {identity: imagenet[identity] for identity in named}


def test_cifar10_is_read_from_its_binary_records(server: LocalServer) -> None:
    catalogue = served(server, "cifar10", {"cifar-10-binary.tar.gz": tar_gz(cifar10_files())})
    source = named_source("cifar10", catalogue=catalogue)
    listing = source.listing()
    assert listing.parts == ["train"] * 10 + ["test"] * 2
    assert listing.paths[:2] + listing.paths[-1:] == ["train/00000", "train/00001", "test/00001"]
    assert listing.heads["label"].ids[:3] == ("airplane", "automobile", "bird")
    assert listing.labels["label"].tolist() == [*range(10), 0, 1]
    for row in range(12):
        picture = source.read(row)
        assert isinstance(picture, np.ndarray)
        assert picture.shape == (32, 32, 3)
        assert np.array_equal(picture[:, :, 1], PIXELS[row, 1])
    assert source.name == "cifar10"
    assert source.traits.mirror is True
    assert catalogue["cifar10"].files[0].sha256 in source.origin


def test_cifar100_has_its_fine_labels(server: LocalServer) -> None:
    names = [f"fine{number:03d}" for number in range(100)]
    records = [bytes([n, 90 + n]) + PIXELS[n].tobytes() for n in range(4)]
    files = {
        "cifar-100-binary/train.bin": b"".join(records[:3]),
        "cifar-100-binary/test.bin": records[3],
        "cifar-100-binary/fine_label_names.txt": "\n".join(names).encode(),
        "cifar-100-binary/coarse_label_names.txt": b"coarse\n",
    }
    source = named_source("cifar100", catalogue=served(server, "cifar100", {"c100.tar.gz": tar_gz(files)}))
    listing = source.listing()
    assert listing.heads["label"].ids == tuple(names)
    assert listing.labels["label"].tolist() == [90, 91, 92, 93]
    assert listing.parts == ["train", "train", "train", "test"]
    picture = source.read(3)
    assert isinstance(picture, np.ndarray)
    assert np.array_equal(picture[:, :, 2], PIXELS[3, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cifar-10-batches-bin/data_batch_2.bin": bytes(3072)}, "3,072 bytes, not whole 3073-byte"),
        ({"cifar-10-batches-bin/test_batch.bin": bytes([10]) + bytes(3072)}, "has the label 10, but there are 10"),
        ({"cifar-10-batches-bin/test_batch.bin": b""}, "0 bytes, not whole"),
        ({"cifar-10-batches-bin/batches.meta.txt": b"\xff"}, "which names the classes, cannot be read"),
    ],
)
def test_cifar_files_that_are_not_as_they_should_be_are_named(
    server: LocalServer, change: dict[str, bytes], message: str
) -> None:
    catalogue = served(server, "cifar10", {"c10.tar.gz": tar_gz({**cifar10_files(), **change})})
    with pytest.raises(DataError, match=message):
        named_source("cifar10", catalogue=catalogue).listing()


def test_a_missing_cifar_file_is_named(server: LocalServer) -> None:
    files = cifar10_files()
    del files["cifar-10-batches-bin/data_batch_3.bin"]
    source = named_source("cifar10", catalogue=served(server, "cifar10", {"c10.tar.gz": tar_gz(files)}))
    with pytest.raises(DataError, match=r"data_batch_3\.bin cannot be read"):
        source.listing()


def test_imagenette_has_its_parts_ids_and_names(server: LocalServer) -> None:
    files = imagenette_files()
    seen: list[tuple[str, int, int | None]] = []
    source = named_source(
        "imagenette",
        catalogue=served(server, "imagenette", {"imagenette2-320.tgz": tar_gz(files)}),
        progress=lambda text, done, total: seen.append((text, done, total)),
    )
    listing = source.listing()
    head = listing.heads["label"]
    assert head.ids[0] == "n01440764"
    assert head.names == tuple(CATALOGUE["imagenette"].class_names.values())
    assert listing.parts is not None
    assert {part: listing.parts.count(part) for part in set(listing.parts)} == {"train": 20, "val": 20}
    assert listing.beside == 1
    assert source.read(0) == files[f"imagenette2-320/{listing.paths[0]}"]
    assert {text for text, _, _ in seen} == {"downloading imagenette2-320.tgz", "unpacking imagenette2-320.tgz"}
    assert source.address() == {"kind": "named", "name": "imagenette"}


def test_what_is_cached_needs_no_server_and_the_archive_is_not_kept(server: LocalServer, tmp_path: Path) -> None:
    catalogue = served(server, "imagenette", {"imagenette2-320.tgz": tar_gz(imagenette_files(1))})
    first = named_source("imagenette", catalogue=catalogue).listing()
    again = named_source("imagenette", catalogue=catalogue).listing()
    assert again.paths == first.paths
    assert len(server.requests) == 1
    assert list((tmp_path / "cache").rglob("*.tgz")) == []


def test_an_archive_put_there_by_hand_needs_no_server(server: LocalServer) -> None:
    catalogue = served(server, "cifar10", {"c10.tar.gz": tar_gz(cifar10_files())})
    content = server.files.pop("/c10.tar.gz")
    with pytest.raises(DownloadError, match=r"by hand and put it at /.*c10\.tar\.gz, or") as error:
        named_source("cifar10", catalogue=catalogue)
    place = Path(str(error.value).split("put it at ")[1].split(", or")[0])
    place.write_bytes(content)
    assert len(named_source("cifar10", catalogue=catalogue).listing().paths) == 12


def test_two_names_of_one_data_set_share_its_files(server: LocalServer) -> None:
    row = served(server, "imagenette", {"i.tgz": tar_gz(imagenette_files(1))})["imagenette"]
    catalogue = {"imagenette": row, "imagenette-320": row}
    assert named_source("imagenette-320", catalogue=catalogue).name == "imagenette-320"
    assert named_source("imagenette", catalogue=catalogue).name == "imagenette"
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_and_its_kin_are_read_from_idx_files(server: LocalServer, name: str) -> None:
    source = named_source(name, catalogue=served(server, name, idx_files()))
    listing = source.listing()
    assert listing.parts == ["train"] * 20 + ["test"] * 10
    assert listing.heads["label"].ids == tuple(map(str, range(10)))
    assert listing.heads["label"].names[0] == {"mnist": "0", "fashion-mnist": "T-shirt/top"}[name]
    assert source.traits.mirror is (name == "fashion-mnist")
    assert source.name == name


def test_wrong_bytes_from_the_server_are_refused(server: LocalServer) -> None:
    catalogue = served(server, "cifar10", {"c10.tar.gz": tar_gz(cifar10_files())})
    server.files["/c10.tar.gz"] = server.files["/c10.tar.gz"][::-1]
    with pytest.raises(DownloadError, match="wrong bytes"):
        named_source("cifar10", catalogue=catalogue)


def test_a_connection_that_drops_midway_does_not_matter(server: LocalServer) -> None:
    catalogue = served(server, "cifar10", {"c10.tar.gz": tar_gz(cifar10_files())})
    server.drops = [10_000, 10_000]
    assert len(named_source("cifar10", catalogue=catalogue).listing().paths) == 12
    assert [asked for _, asked in server.requests] == [None, "bytes=10000-", "bytes=20000-"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_malicious_archive_is_refused_even_with_the_right_hash(
    server: LocalServer, tmp_path: Path, kind: bytes
) -> None:
    member = tarfile.TarInfo("cifar-10-batches-bin/passwd")
    member.type, member.linkname = kind, "/etc/passwd"
    catalogue = served(server, "cifar10", {"c10.tar.gz": tar_gz(cifar10_files(), member)})
    with pytest.raises(DataError, match=r"'cifar-10-batches-bin/passwd' is a (link|device)"):
        named_source("cifar10", catalogue=catalogue)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.name == "test_batch.bin"] == []


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no data set named 'imagenete'; did you mean imagenette"):
        named_source("imagenete")


def test_a_mirror_serves_the_same_files_and_its_bytes_are_checked(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = served(server, "mnist", idx_files())
    server.files = {f"/mirror/mnist{path}": content for path, content in server.files.items()}
    monkeypatch.setenv("RESNETS_MIRROR", f"{server.url}/mirror/")
    assert len(named_source("mnist", catalogue=catalogue).listing().paths) == 30
    server.files["/mirror/mnist/train-labels-idx1-ubyte.gz"] = b"x" * CATALOGUE["mnist"].files[1].size
    with pytest.raises(DownloadError):
        named_source("mnist")


def test_a_users_catalogue_gives_other_files_for_a_name(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tar_gz(imagenette_files(1))
    server.files["/small.tgz"] = content
    file = {"url": f"{server.url}/small.tgz", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (tmp_path / "mine.json").write_text(json.dumps({"imagenette": {"files": [file], "unpacked_size": 10**6}}))
    monkeypatch.setenv("RESNETS_CATALOGUE", str(tmp_path / "mine.json"))
    source = named_source("imagenette")
    assert len(source.listing().paths) == 20
    assert source.listing().heads["label"].names[0] == "tench"


FILE = {"url": "https://example.com/a.tgz", "sha256": "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "RESNETS_CATALOGUE=.* cannot be used: JSONDecodeError"),
        ("[]", "cannot be used"),
        ('{"imagenete": {"files": []}}', "no data set named 'imagenete'; did you mean imagenette"),
        ('{"imagenette": {}}', "cannot be used: KeyError: 'files'"),
        (json.dumps({"imagenette": {"files": [FILE, FILE]}}), "imagenette needs 1 files, got 2"),
        (json.dumps({"imagenette": {"files": [{**FILE, "sha256": ""}]}}), "needs its sha256 as 64 hexadecimal"),
        (json.dumps({"imagenette": {"files": [{**FILE, "url": "https://a/../.."}]}}), "does not end in a file's"),
        (json.dumps({"imagenette": {"files": [{"url": "https://a/b"}]}}), "cannot be used: TypeError"),
    ],
)
def test_a_users_catalogue_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    (tmp_path / "mine.json").write_text(content)
    monkeypatch.setenv("RESNETS_CATALOGUE", str(tmp_path / "mine.json"))
    with pytest.raises(UsageError, match=message) as error:
        named_source("imagenette")
    assert "\n" not in str(error.value)
