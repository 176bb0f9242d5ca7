"""What paths name: files, folders, patterns and shards, in order, with reasons for what is no picture."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.data.unlabelled import File, Files, digest_of, prepared_files
from resnets.preprocess import Preprocess

PREPROCESS = Preprocess(size=(4, 4))


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), shade, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def a_shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def shades(files: Files) -> list[tuple[str, int | str]]:
    """Path and shade of every picture, or path and reason."""
    made = prepared_files(files, PREPROCESS, ahead=3, threads=2)
    return [(path, reason if pixels is None else int(pixels[0, 0, 0])) for path, pixels, reason in made]


def test_a_shard_gives_its_pictures_in_its_order_whatever_their_labels(tmp_path: Path) -> None:
    shard = a_shard(
        tmp_path / "a.tar",
        {
            "2.png": png(2),
            "2.cls": b"not a label \xff",
            "1.png": png(1),
            "1.cls": b"0",
            "3.cls": b"1",  # a label alone
            "notes.txt": b"words",
            ".hidden": b"words",
        },
    )
    files = Files(shard)
    assert shades(files) == [(f"{shard}/2.png", 2), (f"{shard}/1.png", 1)]
    assert (files.known, files.skipped) == (2, 3)


def test_what_must_not_be_read_of_a_shard_is_a_reason(tmp_path: Path) -> None:
    shard = a_shard(tmp_path / "a.tar", {"1.png": png(1), "../2.png": png(2), "3.png": b"words"})
    with tarfile.open(shard, "a") as tar:
        link = tarfile.TarInfo("4.png")
        link.type, link.linkname = tarfile.SYMTYPE, "1.png"
        tar.addfile(link)
    found = dict(shades(Files(shard)))
    assert found[f"{shard}/1.png"] == 1
    assert [str(found[f"{shard}/{name}"]) for name in ("3.png", "4.png")] == [
        "not a picture: text",
        "it is a link",
    ]
    assert found[f"{shard}/../2.png"] == "it has a path with '..'"


def test_a_shard_that_is_cut_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    shard = a_shard(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)})
    shard.write_bytes(shard.read_bytes()[:1600])
    first, *rest = shades(Files(shard))
    assert first == (f"{shard}/1.png", 1)
    assert rest
    assert all(isinstance(reason, str) for _, reason in rest)


def test_shards_stand_in_folders_and_patterns(tmp_path: Path) -> None:
    for number in range(3):
        a_shard(tmp_path / "shards" / f"{number}.tar", {f"{number}.png": png(number)})
    (tmp_path / "shards" / "x.tar.gz").write_bytes(b"\x1f\x8b")
    folder = Files(tmp_path / "shards")
    assert [shade for _, shade in shades(folder)] == [0, 1, 2]
    assert folder.skipped == 1  # the compressed one
    assert [shade for _, shade in shades(Files(f"{tmp_path}/shards/{{0..1}}.tar"))] == [0, 1]
    assert [shade for _, shade in shades(Files(f"{tmp_path}/shards/*.tar"))] == [0, 1, 2]
    missing = shades(Files(f"{tmp_path}/shards/{{2,7}}.tar"))
    assert missing == [
        (f"{tmp_path}/shards/2.tar/2.png", 2),
        (f"{tmp_path}/shards/7.tar", "cannot be read: No such file or directory"),
    ]
    assert [shade for _, shade in shades(Files(f"{tmp_path}/{{shards,no}}/[01].tar"))][:2] == [0, 1]
    ((_, reason),) = shades(Files(f"{tmp_path}/{{9..1}}.tar"))
    assert "counts down" in str(reason)


def test_an_archive_beside_pictures_is_not_read_and_a_folder_may_have_one_without_any(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "9.png").write_bytes(png(9))
    a_shard(tmp_path / "photos" / "backup.tar", {"9.png": png(9)})
    files = Files(tmp_path / "photos")
    assert shades(files) == [(f"{tmp_path}/photos/9.png", 9)]
    assert files.skipped == 1
    a_shard(tmp_path / "papers" / "letters.tar", {"a.txt": b"words", "b.txt": b"words"})
    files = Files(tmp_path / "papers")
    assert shades(files) == [(f"{tmp_path}/papers", "no pictures in this folder")]
    assert files.skipped == 2


def test_a_compressed_or_empty_shard_is_one_reason(tmp_path: Path) -> None:
    empty, compressed = a_shard(tmp_path / "empty.tar", {}), tmp_path / "zipped.tar"
    compressed.write_bytes(b"\x1f\x8b" + bytes(100))
    (_, nothing), (_, refused) = shades(Files([empty, compressed]))
    assert nothing == "no pictures in this shard"
    assert "is compressed" in str(refused)


def test_a_picture_that_is_called_tar_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(png(5))
    assert shades(Files(tmp_path / "a.tar")) == [(f"{tmp_path}/a.tar", 5)]


def test_a_shard_that_changes_while_it_is_read_gives_a_reason(tmp_path: Path) -> None:
    shard = a_shard(tmp_path / "a.tar", {"1.png": png(1)})
    (file,) = Files(shard)
    a_shard(shard, {"1.png": png(1), "2.png": png(2)})
    ((_, pixels, reason),) = prepared_files([file], PREPROCESS, ahead=1, threads=1)
    assert pixels is None
    assert reason == "its shard has changed since it was opened"


def test_the_digest_is_of_whole_paths_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digest = digest_of([File("a.png"), File("b.png")])
    assert digest == digest_of([File(f"{tmp_path}/a.png"), File("./b.png")])
    assert digest != digest_of([File("b.png"), File("a.png")])
    assert digest != digest_of([File("a.png"), File("b.png", "no file matches this pattern")])
