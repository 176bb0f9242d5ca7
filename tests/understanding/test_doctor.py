"""The doctor finds and names what was planted, and has nothing to say of the rest."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import resnets
from resnets import UsageError
from resnets.data.manifest import Manifest
from resnets.data.sources.manifest import ManifestSource
from resnets.understanding.doctor.finding import KINDS, LEFT_OUT
from resnets.understanding.doctor.inspection import Inspection, facts_in_words
from tests.understanding.faults import Planted, encoded, picture, plant_faults

NOT_PLANTED = ("unreadable", "no-class", "left-out", "labels", "colour", "imbalance", "drift", "folder-links")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def inspected(planted: Planted, out: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return resnets.inspect(planted.root, out=out)


def named(found: Inspection, kind: str) -> set[str]:
    """The paths of a finding, or what its examples name."""
    finding = found.finding(kind)
    if finding is None:
        return set()
    if finding.rows:
        return {found.manifest.paths()[row] for row in finding.rows}
    return {" = ".join(filter(None, (example.path, example.other))) for example in finding.examples}


def test_two_thousand_pictures_hold_sixty_faults_of_twenty_kinds_at_least(planted: Planted) -> None:
    assert len(planted.kinds) >= 20
    assert sum(map(len, planted.kinds.values())) >= 60
    assert len(planted.good) > 1900


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOT_PLANTED])
def test_what_was_planted_is_found_and_named_and_nothing_else(
    planted: Planted, inspected: Inspection, kind: str
) -> None:
    assert planted.kinds[kind]
    assert named(inspected, kind) == planted.kinds[kind]


@pytest.mark.parametrize("kind", NOT_PLANTED)
def test_what_was_not_planted_is_not_found(inspected: Inspection, kind: str) -> None:
    assert inspected.finding(kind) is None


def test_nothing_good_is_left_out(planted: Planted, inspected: Inspection) -> None:
    left_out = {path for path, _ in inspected.left_out}
    assert left_out == set().union(*(planted.kinds.get(kind, set()) for kind in LEFT_OUT))
    assert inspected.kept == inspected.files - len(left_out)


def test_the_manifest_has_a_row_a_file_and_says_what_was_found(
    planted: Planted, inspected: Inspection, out: Path
) -> None:
    manifest = Manifest.read(out / "manifest.parquet")
    files = {
        path.relative_to(planted.root).as_posix()
        for path in planted.root.rglob("*")
        if path.is_file() and path.name not in (".DS_Store", "Thumbs.db", "._a.png", "a.png")
    }
    assert set(manifest.paths()) == files
    rows = dict(zip(manifest.paths(), manifest.table.to_pylist(), strict=True))
    assert rows["train/bee/copy-0.png"]["finding"] == "duplicates"
    assert rows["train/ant/leaked.png"]["finding"] == "leaks;duplicates"
    assert rows["train/ant/leaked.png"]["duplicate_of"] == "val/ant/000.png"
    assert rows["train/bee/near-1.png"]["duplicate_of"].startswith("train/bee/0")
    assert rows["val/ant/000.png"]["duplicate_of"] is None
    assert {rows[path]["finding"] for path in planted.good} == {None}
    assert {rows[path]["left_out"] for path in planted.good} == {None}


def test_training_takes_the_manifest_with_what_was_left_out(
    planted: Planted, inspected: Inspection, out: Path
) -> None:
    plain = resnets.open_data(planted.root)
    honoured = resnets.open_data(out / "manifest.parquet")
    damaged = planted.kinds["truncated"] | planted.kinds["damaged"]
    assert set(map(honoured.path, set(honoured.left_out) - set(plain.left_out))) <= damaged
    assert honoured.kept == inspected.kept < plain.kept
    assert honoured.manifest.hash() != plain.manifest.hash()


def small(root: Path, *, count: int = 12, names: tuple[str, ...] = ("a", "b")) -> Path:
    """An undivided folder of small pictures."""
    chance = np.random.default_rng(1)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number:02}.png").write_bytes(encoded(picture(chance)))
    return root


def test_what_is_asked_for_is_left_out_with_its_reason(tmp_path: Path) -> None:
    data = small(tmp_path / "data")
    (data / "a" / "copy.png").write_bytes((data / "a" / "03.png").read_bytes())
    (data / "b" / "white.png").write_bytes(encoded(Image.new("RGB", (24, 24), "white")))
    found = resnets.inspect(data, out=tmp_path / "out", leave_out=["duplicates", "blank"])
    copy = next(iter(named(found, "duplicates")))
    kept = ({"a/03.png", "a/copy.png"} - {copy}).pop()
    assert dict(found.left_out) == {
        copy: f"inspect: duplicates (copy of {kept})",
        "b/white.png": "inspect: blank",
    }
    opened = resnets.open_data(tmp_path / "out" / "manifest.parquet")
    assert {opened.path(row): reason for row, reason in opened.left_out.items()} == dict(found.left_out)
    again = resnets.inspect(tmp_path / "out" / "manifest.parquet")
    assert named(again, "left-out") == {copy, "b/white.png"}


def test_a_leak_leaves_the_training_copy_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    small(data / "train")
    small(data / "test")  # the very same pictures
    found = resnets.inspect(data, out=tmp_path / "out", leave_out=["leaks"])
    assert {path.split("/")[0] for path, _ in found.left_out} == {"train"}
    assert len(found.left_out) == 24


def test_a_second_look_decodes_only_what_is_new(tmp_path: Path) -> None:
    data = small(tmp_path / "data", count=16)
    assert resnets.inspect(data).decoded == 32
    assert resnets.inspect(data).decoded == 0
    os.utime(data / "a" / "00.png", (1, 1))
    (data / "a" / "01.png").rename(data / "a" / "renamed.png")
    (data / "b" / "02.png").write_bytes(encoded(picture(np.random.default_rng(5))))
    found = resnets.inspect(data)
    assert found.decoded == 1
    assert found.findings == ()


def test_a_look_that_was_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    data = small(tmp_path / "data", count=80)

    class Stopped(Exception):
        pass

    def stop(label: str, done: int, total: int | None) -> None:
        if label == "decoding the pictures" and done >= 64:
            raise Stopped

    with pytest.raises(Stopped):
        resnets.inspect(data, progress=stop, threads=1)
    (store,) = (tmp_path / "cache" / "doctor").iterdir()
    with store.open("ab") as handle:
        handle.write(b"torn")  # as a full disk leaves it
    assert resnets.inspect(data).decoded == 160 - 64
    assert resnets.inspect(data).decoded == 0


def test_what_is_kept_of_another_format_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    data = small(tmp_path / "data")
    first = resnets.inspect(data)
    (store,) = (tmp_path / "cache" / "doctor").iterdir()
    store.write_bytes(os.urandom(len(store.read_bytes())))
    again = resnets.inspect(data)
    assert (again.decoded, again.mean) == (24, first.mean)


def test_mean_and_deviation_are_those_of_the_pixels(tmp_path: Path) -> None:
    data = small(tmp_path / "data")
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(data.rglob("*.png"))]) / 255
    found = resnets.inspect(data)
    assert found.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-4)
    assert found.std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-4)
    assert (found.widths, found.heights) == ((24, 24, 24), (24, 24, 24))


def corrected(data: Path, out: Path, ids: dict[int, str]) -> Path:
    """A manifest of `data` whose rows have other labels beside their own."""
    found = resnets.inspect(data, out=out)
    column = [ids.get(row) for row in range(len(found.manifest))]
    table = found.manifest.table.append_column("corrected", pa.array(column, pa.string()))
    path = out / "manifest.parquet"
    replace(found.manifest, table=table).write(path)
    return path


def test_corrections_are_honoured_and_the_labels_before_them_stay(tmp_path: Path) -> None:
    path = corrected(small(tmp_path / "data"), tmp_path / "out", {0: "b", 1: "b", 13: "a"})
    opened = resnets.open_data(path)
    assert opened.labels("label")[[0, 1, 2, 12, 13]].tolist() == [1, 1, 0, 1, 0]
    assert "labels that the manifest corrects: 3 (its column 'corrected')" in opened.notes
    assert opened.manifest.hash() != resnets.open_data(tmp_path / "data").manifest.hash()
    again = resnets.inspect(path, out=tmp_path / "out")
    assert again.corrected == 3
    written = Manifest.read(path).table
    assert written["label"].to_pylist()[:3] == ["a", "a", "a"]
    assert written["corrected"].to_pylist()[:3] == ["b", "b", None]


def test_a_correction_to_no_class_is_refused(tmp_path: Path) -> None:
    path = corrected(small(tmp_path / "data"), tmp_path / "out", {3: "c"})
    with pytest.raises(resnets.DataError, match="'corrected' has 'c', which is no class of 'label'; write the id"):
        resnets.open_data(path)


def test_corrections_are_not_written_over(tmp_path: Path) -> None:
    data = small(tmp_path / "data")
    path = corrected(data, tmp_path / "out", {0: "b"})
    before = path.read_bytes()
    with pytest.raises(UsageError, match="1 corrected labels, which would be lost; choose another --out"):
        resnets.inspect(data, out=tmp_path / "out")
    assert path.read_bytes() == before


def test_data_in_memory_is_inspected_too() -> None:
    chance = np.random.default_rng(0)
    pixels = np.stack([np.asarray(picture(chance).convert("L")) for _ in range(40)])
    pixels[7] = pixels[3]
    found = resnets.inspect((pixels, [0, 1] * 20))
    assert found.finding("duplicates") is not None
    assert (found.files, found.decoded) == (40, 39)
    assert resnets.inspect(resnets.open_data((pixels, [0, 1] * 20))).kept == 40


def test_drift_between_parts_is_named(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for part, darker, count in (("train", 1.0, (60, 60)), ("test", 0.6, (50, 10))):
        for name, number_of in zip("ab", count, strict=True):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for number in range(number_of):
                dark = picture(chance).point(lambda level, by=darker: int(level * by))
                (folder / f"{number}.png").write_bytes(encoded(dark))
    finding = resnets.inspect(tmp_path / "data").finding("drift")
    assert finding is not None
    assert [example.path for example in finding.examples] == ["test: classes", "test: brightness"]
    assert finding.examples[0].note == "83.3% are a, 50.0% in training"


def test_a_divided_set_like_its_training_part_does_not_drift(shared_data: Path) -> None:
    assert resnets.inspect("digits").finding("drift") is None


def test_hymenoptera_has_one_odd_file_and_no_copies(shared_data: Path) -> None:
    found = resnets.inspect(shared_data / "hymenoptera")
    assert (found.files, found.kept, found.beside) == (398, 398, 1)
    assert found.pictures == {"train": 245, "val": 153}
    assert found.classes["label"].total.tolist() == [194, 204]
    assert {finding.kind: finding.count for finding in found.findings} == {"rare-format": 1, "palette": 1}
    assert named(found, "rare-format") == {"train/ants/imageNotFound.gif"}


def test_json_has_the_documented_keys(inspected: Inspection) -> None:
    record = json.loads(json.dumps(inspected.to_json()))
    assert {"files", "kept", "left_out", "findings", "seconds", "outputs"} <= record.keys()
    assert record["left_out"][0].keys() == {"path", "reason"}
    first = record["findings"][0]
    assert {"kind", "count", "examples"} <= first.keys()
    assert first["kind"] == "empty"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"leave_out": ["blnak"], "out": "o"}, "did you mean blank"),
        ({"leave_out": ["blank"]}, "--leave-out is written to a manifest; say where with --out FOLDER"),
        ({"accept": 3, "labels": True}, "--accept is written to a manifest; say where with --out FOLDER"),
        ({"accept": "all", "out": "o"}, "--accept is about wrong labels, which are looked for with --labels"),
        ({"accept": 0, "labels": True, "out": "o"}, "--accept must be a number of at least 1, or all; got 0"),
        ({"split": "test"}, "--split is about wrong labels"),
        ({"leave_out": ["labels"], "out": "o"}, "--leave-out labels is about wrong labels"),
    ],
)
def test_what_cannot_go_together_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resnets.inspect("digits", **arguments)  # type: ignore[arg-type]


def test_several_label_columns_have_corrections_of_their_own(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    pixels = np.stack([np.asarray(picture(chance)) for _ in range(40)])
    pixels[20] = pixels[1]
    labels = {"root": ["r", "s"] * 20, "vowel": [None, "b", None, "d", *["a", "b", "c", "d"] * 9]}
    found = resnets.inspect((pixels, labels), out=tmp_path / "out")
    assert set(found.classes) == {"root", "vowel"}
    assert found.to_json()["without_label"] == {"root": 0, "vowel": 2}
    assert facts_in_words(found)["no label"] == "2 of vowel"
    conflicts = found.finding("conflicts")
    assert conflicts is not None
    assert conflicts.rows == (1, 20)
    column = pa.array(["s", *[None] * 39], pa.string())
    manifest = replace(found.manifest, table=found.manifest.table.append_column("root.corrected", column))
    listing = ManifestSource(manifest, resnets.open_data((pixels, labels)).source).listing()
    assert listing.labels["root"][:3].tolist() == [1, 1, 0]
    assert listing.notes == ["labels of root that the manifest corrects: 1 (its column 'root.corrected')"]


def test_lists_of_classes_are_corrected_by_lists(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    pictures = [encoded(picture(chance)) for _ in range(20)]
    tags = pa.array([["a"], ["b"], [], None, ["a", "b"]] * 4, pa.list_(pa.string()))
    pq.write_table(pa.table({"image": pictures, "tags": tags}), tmp_path / "table.parquet")
    data = resnets.open_data(tmp_path / "table.parquet")
    path = tmp_path / "manifest.parquet"

    def correct(values: list[object], kind: pa.DataType) -> None:
        column = pa.array(values + [None] * (20 - len(values)), kind)
        table = data.manifest.table.append_column("corrected", column)
        replace(data.manifest, table=table).write(path)

    correct([None, ["a", "b"], ["b"]], pa.list_(pa.string()))
    opened = resnets.open_data(path)
    assert opened.notes[0] == "labels that the manifest corrects: 2 (its column 'corrected')"
    assert opened.labels("label")[:3].tolist() == [[1, 0], [1, 1], [0, 1]]
    found = resnets.inspect(path)
    assert found.corrected == 2
    assert found.manifest.table["label"].to_pylist()[:3] == [["a"], ["b"], []]
    assert found.manifest.table["corrected"].to_pylist()[:3] == [None, ["a", "b"], ["b"]]
    correct([["z"]], pa.list_(pa.string()))
    with pytest.raises(resnets.DataError, match="column 'corrected' has the class 'z', which its head lacks"):
        resnets.open_data(path)
    correct(["a"], pa.string())
    with pytest.raises(resnets.DataError, match="'corrected' is of several classes a picture; it must hold lists"):
        resnets.open_data(path)
