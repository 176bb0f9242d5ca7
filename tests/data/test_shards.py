"""WebDataset shards: what is read of them, what they may not do, and what is written."""

import contextlib
import hashlib
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnets.base.errors import DataError, UsageError
from resnets.base.files import content_hash
from resnets.data import shards as writer
from resnets.data.dataset import Data, open_data, reopen
from resnets.data.decode import DecodeError, decode
from resnets.data.manifest import Manifest
from resnets.data.source import MISSING, Traits
from resnets.data.sources import shards as module
from resnets.data.sources.arrays import ArraySource
from resnets.data.sources.shard_names import expanded
from resnets.data.sources.shards import ShardSource


def picture(red: int = 0, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (red, 0, 0)).save(stream, format)
    return stream.getvalue()


Entry = tuple[str, bytes] | tarfile.TarInfo


def tar(path: Path, *entries: Entry) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", errors="surrogateescape") as file:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                file.addfile(entry)
            else:
                header = tarfile.TarInfo(entry[0])
                header.size = len(entry[1])
                file.addfile(header, io.BytesIO(entry[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def samples(first: int, *classes: str) -> list[Entry]:
    """A picture and a label for each class, numbered from `first`; no two pictures are equal."""
    found: list[Entry] = []
    for number, label in enumerate(classes, first):
        found += [(f"{number:06d}.png", picture(number)), (f"{number:06d}.cls", label.encode())]
    return found


def opened(path: Any, **options: Any) -> Data:
    return open_data(path, for_training=False, **options)


def labels_of(data: Data, head: str = "label") -> dict[str, str | None]:
    ids = [*data.heads[head].ids, None]
    return {data.path(row): ids[label] for row, label in enumerate(data.labels(head))}


# What is read


def test_a_folder_of_shards_is_a_source_with_parts_by_their_names(tmp_path: Path) -> None:
    tar(tmp_path / "birds" / "train-000000.tar", *samples(0, "1", "0"))
    tar(tmp_path / "birds" / "train-000001.tar", *samples(2, "10"))
    tar(tmp_path / "birds" / "birds-validation-0.tar", *samples(3, "1"))
    (tmp_path / "birds" / "README.md").write_text("words")
    data = opened(tmp_path / "birds")
    assert data.summary() == "birds: 4 pictures (3 train, 1 val), 3 classes, 1 beside"
    assert data.heads["label"].ids == ("0", "1", "10")  # by value
    assert labels_of(data) == {
        "train-000000.tar/000000.png": "1",
        "train-000000.tar/000001.png": "0",
        "train-000001.tar/000002.png": "10",
        "birds-validation-0.tar/000003.png": "1",
    }
    assert [data.read(row) for row in range(4)] == [picture(red) for red in range(4)]


def test_folders_of_parts_hold_shards(tmp_path: Path) -> None:
    tar(tmp_path / "train" / "0.tar", *samples(0, "a", "b"))
    tar(tmp_path / "test" / "0.tar", *samples(2, "b"))
    data = opened(tmp_path)
    assert [data.path(row) for row in data.rows("test")] == ["test/0.tar/000002.png"]
    assert isinstance(data.source, ShardSource)


def test_archives_beside_class_folders_do_not_make_them_shards(tmp_path: Path) -> None:
    tar(tmp_path / "train.tar", *samples(0, "a"))
    for name in "ab":
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(picture(len(name)))
    assert opened(tmp_path).heads["label"].ids == ("a", "b")


def test_a_pattern_names_shards(tmp_path: Path) -> None:
    for number in range(4):
        tar(tmp_path / "birds" / f"train-{number:02d}.tar", *samples(2 * number, "a", "b"))
    data = opened(f"{tmp_path}/birds/train-{{01..02}}.tar")
    assert data.name == "birds"
    assert [data.path(row) for row in range(len(data))] == [
        f"train-0{number // 2}.tar/{number:06d}.png" for number in (2, 3, 4, 5)
    ]
    with pytest.raises(
        UsageError, match=r"there is no shard '.*train-04\.tar', '.*train-05\.tar'; check the names"
    ):
        opened(f"{tmp_path}/birds/train-{{00..05}}.tar")


def test_a_pattern_counts_and_lists() -> None:
    assert expanded("{a,b}-{08..10}.tar") == [f"{name}-{n}.tar" for name in "ab" for n in ("08", "09", "10")]
    assert expanded("plain.tar") == ["plain.tar"]
    for pattern, message in {
        "{0..9999999}.tar": "more than 1,000,000 files",
        "{000..999}-{000..999}-{0..1}.tar": "more than 1,000,000 files",
        "{3..1}.tar": "counts down",
        "{x}.tar": "must be a range such as",
    }.items():
        with pytest.raises(UsageError, match=message):
            expanded(pattern)


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("classes.txt", "ant\nbee\n\ncat\n", ("ant", "bee", "cat")),
        ("classes.json", '["ant", "bee", "cat"]', ("ant", "bee", "cat")),
        ("classes.json", '{"heads": {"label": {"ids": ["ant", "bee", "cat"]}}}', ("ant", "bee", "cat")),
    ],
)
def test_a_number_is_a_position_where_the_classes_are_stated(
    tmp_path: Path, name: str, content: str, ids: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    tar(tmp_path / "train-0.tar", *samples(0, "2", "ant", "1\n"))
    data = opened(tmp_path)
    assert data.heads["label"].ids == ids
    assert data.labels("label").tolist() == [2, 0, 1]


def test_classes_that_share_a_name_are_told_apart_by_number(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("crane\nduck\ncrane\n")
    tar(tmp_path / "0.tar", *samples(0, "2", "0"))
    head = opened(tmp_path).heads["label"]
    assert (head.ids, head.names) == (("0", "1", "2"), ("crane", "duck", "crane"))


def test_an_object_of_names_shows_ids_by_them(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"3": "duck"}')
    tar(tmp_path / "0.tar", *samples(0, "3", "20"))
    head = opened(tmp_path).heads["label"]
    assert (head.ids, head.names) == (("3", "20"), ("duck", "20"))


@pytest.mark.parametrize("content", ["{", "[1, 1", '{"heads": {"label": 3}}', '{"3": 4}', "3"])
def test_a_file_of_classes_that_cannot_be_used_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "classes.json").write_text(content)
    tar(tmp_path / "0.tar", *samples(0, "3"))
    with pytest.raises(DataError, match="cannot be used"):
        opened(tmp_path)


def test_a_class_that_is_not_stated_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    tar(tmp_path / "0.tar", *samples(0, "0", "2"))
    with pytest.raises(DataError, match="has the class 'position 2', which is none of its 2"):
        opened(tmp_path)


def test_a_class_that_the_training_part_lacks_is_refused(tmp_path: Path) -> None:
    tar(tmp_path / "train-0.tar", *samples(0, "a", "b"))
    tar(tmp_path / "val-0.tar", *samples(2, "c"))
    with pytest.raises(DataError, match="has the class 'c'"):
        opened(tmp_path)


def test_a_json_has_a_label_a_head(tmp_path: Path) -> None:
    labels = [{"root": 3, "tags": ["b", "a"]}, {"root": None, "tags": []}, {"root": 20}]
    entries: list[Entry] = []
    for number, label in enumerate(labels):
        entries += [(f"{number}.png", picture(number)), (f"{number}.json", json.dumps(label).encode())]
    tar(tmp_path / "0.tar", *entries)
    data = opened(tmp_path)
    assert (data.heads["root"].ids, data.heads["tags"].ids) == (("3", "20"), ("a", "b"))
    assert data.labels("root").tolist() == [0, MISSING, 1]
    assert data.heads["tags"].kind == "multi"
    assert np.array_equal(data.labels("tags"), [[1, 1], [0, 0], [np.nan, np.nan]], equal_nan=True)


def test_of_metadata_with_a_label_the_label_is_taken_and_the_rest_is_named(tmp_path: Path) -> None:
    entries: list[Entry] = []
    for number in range(2):
        about = {"url": f"http://a/{number}", "width": 8, "label": number, "path": "x"}
        entries += [(f"{number}.jpg", picture(number, "JPEG")), (f"{number}.json", json.dumps(about).encode())]
    tar(tmp_path / "0.tar", *entries)
    data = opened(tmp_path)
    assert list(data.heads) == ["label"]
    assert any("not used: 'url', 'width'" in note for note in data.notes)


def test_cls_is_the_label_where_a_json_is_beside_it(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", *samples(0, "1", "0"), ("000000.json", b'{"label": 7}'))
    assert labels_of(opened(tmp_path)) == {"0.tar/000000.png": "1", "0.tar/000001.png": "0"}


def test_a_resumed_run_reads_the_same_rows(tmp_path: Path) -> None:
    tar(tmp_path / "birds" / "train-0.tar", *samples(0, "a", "b", "a"))
    data = opened(f"{tmp_path}/birds/train-{{0..0}}.tar")
    data.manifest.write(tmp_path / "m.parquet")
    again = reopen(Manifest.read(tmp_path / "m.parquet"))
    assert [again.read(row) for row in range(3)] == [data.read(row) for row in range(3)]
    assert opened(tmp_path / "m.parquet").manifest.hash() == data.manifest.hash()


def test_a_shard_that_changes_afterwards_gives_no_other_picture(tmp_path: Path) -> None:
    path = tar(tmp_path / "0.tar", *samples(0, "a", "b"))
    data = opened(path)
    tar(path, *samples(5, "b", "a", "a"))
    with pytest.raises(DecodeError, match="changed since"):
        data.read(0)


# What is left out, and why


def test_every_file_of_a_shard_is_accounted_for(tmp_path: Path) -> None:
    tar(
        tmp_path / "0.tar",
        *samples(0, "a", "b"),
        ("./2.JPG", picture(2, "JPEG")),
        ("./2.cls", b"a"),
        ("3.png", picture(3)),
        ("4.cls", b"a"),
        ("5.txt", b"words"),
        ("5.cls", b"b"),
        ("6.png", picture(6)),
        ("6.cls", b"\xff"),
        ("7.png", picture(7)),
        ("7.mask.png", picture(8)),
        ("7.txt", b"a caption"),
        ("7.cls", b"b"),
        ("8", picture(9)),
        ("README", b"words"),
        ("._9.png", b"x"),
        ("__MACOSX/9.png", b"x"),
        special("folder", tarfile.DIRTYPE),
    )
    data = opened(tmp_path / "0.tar")
    assert {data.path(row): reason for row, reason in data.left_out.items()} == {
        "0.tar/3.png": "no class is stated for it",
        "0.tar/4.cls": "a label without a picture",
        "0.tar/5.txt": "not a picture: text",
        "0.tar/6.png": "its label 6.cls is not UTF-8 text",
        "0.tar/7.mask.png": "a second picture of its sample",
        "0.tar/8": "no class is stated for it",
    }
    assert {data.path(row) for row in data.rows("all")} == {
        f"0.tar/{name}" for name in ("000000.png", "000001.png", "2.JPG", "7.png")
    }
    assert (data.strays, data.beside) == (2, 2)  # the caption and the README


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (special("x.png", tarfile.SYMTYPE, "/etc/passwd"), "it is a link"),
        (special("x.png", tarfile.LNKTYPE, "000000.png"), "it is a link"),
        (special("x.png", tarfile.CHRTYPE), "it is a device or another special file"),
        (special("x.png", tarfile.FIFOTYPE), "it is a device or another special file"),
        (("/tmp/x.png", picture()), "it has an absolute path"),
        (("a/../../x.png", picture()), "it has a path with '..'"),
        (("a\\x.png", picture()), "it has a path with a backslash or a zero"),
        (("000000.png", picture(9)), "a second member of this name in its shard"),
        (("000000.PNG", picture(9)), "a second member of this name in its shard"),
        (("000000.cls", b"b"), "a second member of this name in its shard"),
    ],
)
def test_a_member_that_is_no_plain_file_of_its_own_is_left_out_by_name(
    tmp_path: Path, entry: Entry, reason: str
) -> None:
    tar(tmp_path / "0.tar", *samples(0, "a", "b"), entry, *samples(2, "a"))
    data = opened(tmp_path / "0.tar")
    assert list(data.left_out.values()) == [reason]
    assert list(labels_of(data).values()).count("a") == 2
    with pytest.raises(DataError, match="has files to be left out"):
        opened(tmp_path / "0.tar", strict=True)


def test_a_sparse_member_is_left_out(tmp_path: Path) -> None:
    header = bytearray(special("x.png", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"  # the size that it claims, in octal
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tar(tmp_path / "0.tar", *samples(0, "a", "b"))
    whole = path.read_bytes()
    end = 4 * (512 + 512)
    path.write_bytes(whole[:end] + bytes(header) + whole[end:])
    assert list(opened(path).left_out.values()) == ["it is a sparse file"]


def test_a_size_beyond_the_end_of_the_shard_costs_no_memory(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("x.png")
    huge.size = 2**40
    path = tar(tmp_path / "0.tar", *samples(0, "a", "b"))
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + huge.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    data = opened(path)
    assert len(data.rows("all")) == 2
    assert data.left_out[2] == "the shard ends before it does"
    assert data.left_out[3] == "the shard is cut or damaged after 'x.png': it ends there"


def test_headers_that_lead_back_end_the_reading(tmp_path: Path) -> None:
    back = tarfile.TarInfo("x.png")
    back.pax_headers = {"size": "-1024"}
    path = tar(tmp_path / "0.tar", *samples(0, "a", "b"), back)
    (reason,) = opened(path).left_out.values()
    assert "a header that leads back" in reason


def test_what_is_whole_of_a_truncated_shard_is_kept_and_the_rest_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "train-0.tar", *samples(0, "a", "b", "a"))
    whole = path.read_bytes()
    for cut in (2048 + 300, 2048 + 512, 2048 + 600, 5 * 1024, 6 * 1024):
        path.write_bytes(whole[:cut])
        data = opened(path)
        assert [data.path(row) for row in data.rows("all")] == [
            f"train-0.tar/00000{number}.png" for number in range(min(3, cut // 2048))
        ]
        assert "train-0.tar" in [data.path(row) for row in data.left_out]
        assert [data.read(int(row)) for row in data.rows("all")] == [
            picture(number) for number in range(min(3, cut // 2048))
        ]


def test_damage_anywhere_is_never_another_error(tmp_path: Path) -> None:
    path = tar(tmp_path / "0.tar", *samples(0, "a", "b"), ("x" * 150 + ".png", picture(7)), *samples(2, "a"))
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(3):
            header = 512 * chance.randrange(len(whole) // 512)
            content[header + chance.randrange(512)] = chance.randrange(256)
        path.write_bytes(bytes(content))
        with contextlib.suppress(DataError):
            paths = ShardSource(path).listing().paths
            assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 1024])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(DataError, match="hold no picture that can be used|hold no labels"):
        opened(tmp_path / "0.tar")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_shard_is_refused_in_one_line(tmp_path: Path, mode: str) -> None:
    for name in (f"0.tar.{mode[2:]}", "0.tar"):
        path = tmp_path / mode[2:] / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, mode) as file:
            file.addfile(tarfile.TarInfo("a.png"))
        with pytest.raises(DataError, match="is compressed, .*; unpack it to a plain .tar"):
            opened(path)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder or file pipe:cat 0.tar"):
        opened("pipe:cat 0.tar")
    with pytest.raises(UsageError, match="is not fetched"):
        opened("https://example.com/0.tar")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMBERS", 3)
    with pytest.raises(DataError, match="has more than 3 members; make smaller shards"):
        opened(tar(tmp_path / "0.tar", *samples(0, "a", "b")))


def test_a_label_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    long = ("x.cls", b" " * (2**20 + 1))
    data = opened(tar(tmp_path / "0.tar", *samples(0, "a", "b"), ("x.png", picture(5)), long))
    assert list(data.left_out.values()) == ["its label x.cls has more than 1,048,576 bytes"]


@pytest.mark.parametrize("content", [b"[1]", b"{", b"[" * 100_000])
def test_a_json_that_is_no_object_is_left_out(tmp_path: Path, content: bytes) -> None:
    data = opened(tar(tmp_path / "0.tar", *samples(0, "a", "b"), ("x.png", picture(5)), ("x.json", content)))
    (reason,) = data.left_out.values()
    assert reason.startswith("its label x.json is no JSON")


# What is written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders with a file of each kind that matters, undivided."""
    root = tmp_path / "pets"
    for number in range(12):
        path = root / ("cat", "dog")[number % 2] / f"{number}.{('png', 'jpg')[number // 6]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(20 * number, ("PNG", "JPEG")[number // 6]))
    (root / "cat" / "notes.png").write_text("words")
    return root


def test_written_shards_hold_the_same_bytes_labels_and_parts(folder: Path, tmp_path: Path) -> None:
    data = opened(folder)
    files = writer.write_shards(data, tmp_path / "out", shard_bytes=6000)
    names = [path.name for path in files]
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {"classes.json", "manifest.parquet", "train-000000.tar", "train-000001.tar", "val-000000.tar"} <= set(
        names
    )
    again = opened(tmp_path / "out")
    assert again.heads == data.heads

    def known(one: Data, part: str) -> set[tuple[bytes, int]]:
        return {(content_hash(one.read(row)), int(one.labels("label")[row])) for row in one.rows(part)}  # type: ignore[arg-type]

    for part in ("train", "val"):
        assert known(again, part) == known(data, part)
        assert len(known(data, part)) == len(data.rows(part))
    assert all((tmp_path / "out" / name).stat().st_size <= 6000 + 10240 for name in names if name.endswith(".tar"))


def test_the_manifest_beside_the_shards_accounts_for_every_file(folder: Path, tmp_path: Path) -> None:
    writer.write_shards(opened(folder), tmp_path / "out", shard_bytes=10**6)
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert len(rows) == 13
    assert [row["left_out"] for row in rows if row["path"] == "cat/notes.png"] == ["not a picture: text"]
    for number, row in enumerate(rows):
        if row["left_out"] is None:
            with tarfile.open(tmp_path / "out" / row["shard"]) as file:
                ending = {"JPEG": "jpg", "PNG": "png"}[row["format"]]
                content = file.extractfile(f"{number:09d}.{ending}")
                assert content is not None
                assert content_hash(content.read()) == row["content"]


def test_equal_data_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        writer.write_shards(opened(folder), tmp_path / name, shard_bytes=6000)
        files = sorted((tmp_path / name).glob("*.tar"))
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1]
    with tarfile.open(tmp_path / "a" / "train-000000.tar") as file:
        assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in file} == {(0, 0, 0, "", 0o644)}


def test_pixels_become_png_files_that_decode_to_the_same(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    shapes = ((5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4))
    pixels = [chance.integers(0, 256, shape, dtype=np.uint8) for shape in shapes for _ in range(2)]
    data = opened((pixels, [0, 1] * 4))
    writer.write_shards(data, tmp_path / "out", shard_bytes=10**6)
    again = opened(tmp_path / "out")
    written = {decode(again.read(int(row)), "rgba").tobytes() for row in again.rows("all")}
    assert written == {decode(one, "rgba").tobytes() for one in pixels}


def test_what_is_known_of_the_pictures_goes_with_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4), dtype=np.uint8)
    source = ArraySource({None: (pixels, [0, 1] * 25)})
    source.traits = Traits(mirror=False, drawings=True, three_way=True)
    data = opened(source)
    writer.write_shards(data, tmp_path / "out", shard_bytes=10**6)
    again = opened(tmp_path / "out")
    assert (again.traits.mirror, again.traits.drawings) == (False, True)
    counts = [{part: len(one.rows(part)) for part in ("train", "val", "test")} for one in (data, again)]
    assert counts == [{"train": 32, "val": 8, "test": 10}] * 2


def test_several_heads_and_several_classes_a_picture_come_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    seen = np.random.default_rng(1).integers(0, 2, (20, 3))
    data = opened((pixels, {"root": ["07", "5"] * 10, "seen": seen}))
    writer.write_shards(data, tmp_path / "out", shard_bytes=10**6)
    again = opened(tmp_path / "out")
    assert again.heads == data.heads

    def rows(one: Data) -> set[tuple[Any, ...]]:
        return {
            (decode(one.read(int(row))).tobytes(), int(one.labels("root")[row]), *one.labels("seen")[row].tolist())
            for row in one.rows("all")
        }

    assert rows(again) == rows(data)


def test_a_place_that_is_taken_is_refused_and_a_failure_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(folder)
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        writer.write_shards(data, tmp_path / "taken", shard_bytes=10**6)
    with pytest.raises(UsageError, match="its folder is not there"):
        writer.write_shards(data, tmp_path / "no" / "out", shard_bytes=10**6)
    (folder / "dog" / "1.png").write_bytes(picture(255))
    with pytest.raises(DataError, match=r"dog/1\.png has changed since it was looked at"):
        writer.write_shards(data, tmp_path / "out", shard_bytes=10**6)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")) == ["pets", "taken"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_webdataset_reads_what_is_written(folder: Path, tmp_path: Path) -> None:
    import webdataset

    data = opened(folder)
    writer.write_shards(data, tmp_path / "out", shard_bytes=10**6)
    stream = webdataset.WebDataset(str(tmp_path / "out" / "train-000000.tar"), shardshuffle=False)
    found = {int(one["__key__"]): (one.get("png", one.get("jpg")), int(one["cls"])) for one in stream}
    assert found == {int(row): (data.read(row), int(data.labels("label")[row])) for row in data.rows("train")}
