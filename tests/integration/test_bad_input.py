"""What cannot be done is said in one line, with what to try, and leaves nothing behind on the disk."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.pictures import class_folders, noise
from tests.integration.shell import plain, resnets, snapshot

SMALL = ("--epochs", "1", "--threads", "1", "--batch", "8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good data, bad data, a finished run of the good data, and files that are something else."""
    place = tmp_path_factory.mktemp("bad")
    class_folders(place / "good" / "train", {"dark": 10, "light": 10})
    class_folders(place / "good" / "val", {"dark": 4, "light": 4}, seed=500)
    class_folders(place / "others", {"cat": 4, "dog": 4})
    class_folders(place / "one", {"only": 4})
    class_folders(place / "unlike" / "train", {"a": 4, "b": 4})
    class_folders(place / "unlike" / "val", {"a": 2, "c": 2}, seed=500)
    class_folders(place / "only-val" / "val", {"a": 4, "b": 4})
    class_folders(place / "one-bad", {"a": 4, "b": 4})
    (place / "one-bad" / "b" / "text.jpg").write_text("no picture")
    (place / "empty").mkdir()
    for name in "ab":
        (place / "hollow" / name).mkdir(parents=True)
        (place / "unreadable" / name).mkdir(parents=True)
        (place / "unreadable" / name / "text.png").write_text("no picture")
        (place / "unreadable" / name / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (place / "flat").mkdir()
    noise(100, 1).save(place / "flat" / "a.png")
    (place / "labels.csv").write_text("path,label\na.png,dark\nb.png,light\n")
    (place / "names.csv").write_text("id,name\ndrak,Dark\n")
    (place / "outside.csv").write_text("path,label\none/only/0.png,dark\n../elsewhere.png,light\n")
    lines = [f"others/{kind}/{row}.png,{kind},{row % 2}" for kind in ("cat", "dog") for row in range(4)]
    (place / "two.csv").write_text("\n".join(["path,sort,size", *lines]) + "\n")
    (place / "not.toml").write_text("epochs = = 1\n")
    (place / "other.toml").write_text("data = 'good'\nepoch = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("RESNETS_CACHE", str(place.parent / "cache"))
        assert resnets("train", "good", *SMALL, "--name", "run").status == 0
    whole = (place / "runs" / "run" / "model.safetensors").read_bytes()
    (place / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (place / "code.pt").write_bytes(
        b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94."
    )
    return place


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


REFUSED: list[tuple[str, str]] = [
    # the data
    ("train nowhere", "there is no folder or file nowhere"),
    ("train goood", "did you mean good?"),
    ("train digit", "did you mean digits?"),
    ("train empty", "holds no class folders; put the pictures of each class into a folder of its own"),
    ("train hollow", "only empty folders ('a', 'b')"),
    ("train one", "one class, 'only'"),
    ("train unreadable", "no readable picture"),
    ("train flat", "holds 1 picture outside class folders"),
    ("train flat/a.png", "for single pictures use `resnets predict`"),
    ("train labels.csv", "'a.png' is no file in"),
    ("train labels.csv", "in flat there is one: --root"),
    ("train names.csv --label-column nmae", "no column in names.csv named 'nmae'; did you mean name"),
    ("train labels.csv --root flat --label-column class", "the columns are 'path', 'label'"),
    ("train labels.csv --root nowhere", "is no folder; give the one that paths start from"),
    (
        "train labels.csv --root good --image-column label",
        "the column 'label' of labels.csv holds no paths: 'dark'",
    ),
    ("train outside.csv", "paths of outside.csv that lead out of"),
    ("train two.csv", "'sort', 'size'; say which with --label-column sort"),
    ("train two.csv --label-column sort --label-column size --holdout-combinations 2", "a share between 0 and 1"),
    (
        "train two.csv --image-column path --label-column sort --holdout-combinations 0.5",
        "needs two label columns or more",
    ),
    ("train two.csv --label-column sort --group-column who --holdout-combinations 0.5", "give one of them"),
    ("train two.csv --all-train --holdout-combinations 0.5", "which --all-train does without"),
    ("train two.csv --label-column sort --label-column sort", "--label-column sort is given twice"),
    ("train good --label-column sort", "--label-column belongs to tables, and the folder"),
    ("train not.toml", "not.toml is no source of pictures: give a folder of class folders, a table"),
    ("train https://example.org/pictures.zip", "is not fetched; download it"),
    ("train unlike", "has the class 'c' that train lacks (train has 'a', 'b')"),
    ("train only-val", "has only a val part, nothing to train on"),
    ("train one-bad --strict-data", "'b/text.jpg' (not a picture: text)"),
    ("train good --classes names.csv", "names the class 'drak', which the data lacks; did you mean 'dark'?"),
    ("train good --classes nowhere.csv", "nowhere.csv cannot be read"),
    # the options
    ("train", "needs DATA"),
    ("train good more", "has no use for 'more'"),
    ("train good --model resnet81", "did you mean resnet18"),
    ("train good --weights nowhere.safetensors", "nowhere.safetensors"),
    ("train good --weights labels.csv", "labels.csv is not a weights file"),
    ("train good --epochs 1.5", "--epochs must be a whole number, got '1.5'"),
    ("train good --epochs 0", "--epochs must be at least 1"),
    ("train good --epochs", "--epochs needs a value"),
    ("train good --epochs 1 --epochs 2", "--epochs is given twice"),
    ("train good --lr -1", "--lr must be above 0"),
    ("train good --size 32x", "such as 224 or 137x236"),
    ("train good --optimizer sdg", "did you mean sgd?"),
    ("train good --device tpu", "--device must be cpu, cuda"),
    ("train good --ecpochs 3", "did you mean --epochs?"),
    ("train good --augment none --pad 2", "--pad belongs to --augment pad-crop, not to none"),
    ("train good --augment pad-crop --scale 0.5", "--scale belongs to --augment rrc"),
    ("train good --all-train --early-stop 3", "--early-stop needs validation pictures"),
    ("train good --batch 4 --accumulate 8", "cannot divide a batch of 4"),
    ("train good --batch 2 --accumulate 2", "leaves parts of one picture"),
    ("train good --normalize imagenet --channels grey", "choose half or measured"),
    ("train good --track wandd", "wandd"),
    ("train --config nowhere.toml", "cannot read nowhere.toml"),
    ("train --config not.toml", "not.toml is not TOML"),
    ("train --config other.toml", "did you mean epochs"),
    # the run folder
    ("train good --name run", "there is already a run named 'run' in runs; give another --name"),
    ("train good --name a/b", "--name is one folder name"),
    ("train good --name ..", "--name is one folder name"),
    ("train good --runs labels.csv", "choose another with --runs"),
    ("train good --runs labels.csv/deeper", "choose another with --runs"),
    ("train --resume nowhere", "nowhere is no run folder"),
    ("train --resume good", "good is no run folder"),
    ("train --resume labels.csv", "labels.csv is no run folder"),
    ("train --resume runs/run", "is finished; extend it with: resnets train --resume runs/run --epochs 2"),
    ("train --resume runs/run --epochs 1", "finished"),
    ("train --resume runs/run --lr 0.1", "--lr cannot be given with --resume"),
    ("train good --resume runs/run", "DATA (good) cannot be given with --resume"),
    # evaluate
    ("evaluate runs/run", "needs MODEL DATA"),
    ("evaluate nowhere good", "nowhere"),
    ("evaluate good good", "no model.safetensors"),
    ("evaluate labels.csv good", "labels.csv is not a weights file: it is a text file"),
    ("evaluate cut.safetensors good", "cut.safetensors"),
    ("evaluate code.pt good", "could run code"),
    ("evaluate runs/run labels.csv", "'a.png' is no file in"),
    (
        "evaluate runs/run two.csv --image-column path --label-column sort",
        "two has 2 of 2 classes that the model does not know",
    ),
    ("evaluate runs/run not.toml", "not.toml is no source of pictures"),
    ("evaluate runs/run nowhere", "there is no folder or file nowhere"),
    ("evaluate runs/run empty", "holds no class folders"),
    ("evaluate runs/run unreadable", "no readable picture"),
    ("evaluate runs/run others", "others has 2 of 2 classes that the model does not know: 'cat', 'dog'"),
    ("evaluate runs/run digits", "the model knows 'dark', 'light'"),
    ("evaluate runs/run good --split test", "good has no test pictures; it has 8 val, 20 train"),
    ("evaluate runs/run good --split tests", "did you mean test?"),
    ("evaluate runs/run good --batch 0", "--batch must be at least 1"),
    ("evaluate runs/run good --out nowhere/a.parquet", "cannot write nowhere/a.parquet"),
    ("evaluate runs/run good --out good", "good holds other files"),
    ("evaluate runs/run good --out .", "give --out a new folder"),
    ("evaluate runs/run one-bad --strict-data", "(not a picture: text)"),
    # predict
    ("predict runs/run", "needs MODEL PATH"),
    ("predict nowhere flat", "nowhere"),
    ("predict cut.safetensors flat", "cut.safetensors"),
    ("predict labels.csv flat", "labels.csv is not a weights file"),
    ("predict runs/run flat --top 0", "at least 1"),
    ("predict runs/run flat --format parquet", "give --out FILE.parquet"),
    ("predict runs/run flat --format csv --json", "--json prints JSON lines"),
    ("predict runs/run flat --out nowhere/a.csv", "there is no folder nowhere"),
    ("predict runs/run flat --out labels.csv/a.csv", "cannot write labels.csv/a.csv"),
    ("predict runs/run flat --out good", "good holds other files"),
    ("predict runs/run flat --out .", "give --out a new folder"),
    # the rest
    ("summary resnet81", "did you mean resnet18"),
    ("summary nowhere.safetensors", "nowhere.safetensors"),
    ("summary resnet18 --size 0", "--size must be from 1 to 8192"),
    ("summary runs/run --classes 3", "has classes of its own"),
    ("models resnet18", "has no use for 'resnet18'"),
    ("trian good", "did you mean train"),
    ("--epochs 3 train good", "the verb comes first"),
]


@pytest.mark.parametrize(("command", "useful"), REFUSED, ids=[command for command, _ in REFUSED])
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(command: str, useful: str, made: Path) -> None:
    before = snapshot(made)
    said = resnets(*command.split())
    assert (said.status, said.out) == (2, ""), said.err
    assert said.err.startswith("resnets: ")
    assert said.err.count("\n") == 1
    assert plain(said.err)
    assert useful in said.err
    assert "Traceback" not in said.err
    assert snapshot(made) == before


def test_a_run_whose_data_was_moved_or_changed_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "here", {"dark": 10, "light": 10})
    assert resnets("train", "here", *SMALL, "--name", "run").status == 0
    os.rename("here", "there")
    before = snapshot(tmp_path)
    said = resnets("train", "--resume", "runs/run", "--epochs", "2")
    assert (said.status, said.out) == (2, "")
    assert said.err == (
        f"resnets: the data of runs/run is no longer at {tmp_path}/here; put it back there and resume again\n"
    )
    assert snapshot(tmp_path) == before
    os.rename("there", "here")
    noise(0, 77).save("here/light/new.png")
    said = resnets("train", "--resume", "runs/run", "--epochs", "2")
    assert said.status == 2
    assert "has changed since runs/run began (1 file new, such as light/new.png); start a new run" in said.err
    os.remove("here/light/new.png")
    assert resnets("train", "--resume", "runs/run", "--epochs", "2").status == 0


MISSING: list[tuple[str, str]] = [
    ("predict runs/run labels.csv", "not a picture: text"),
    ("predict runs/run nowhere.png", "cannot be read: No such file or directory"),
    ("predict runs/run none*.png", "no file matches this pattern"),
    ("predict runs/run empty", "no pictures in this folder"),
    ("predict runs/run flat/a.png labels.csv", "not a picture: text"),
    ("predict runs/run unreadable", "not a picture: text"),
]


@pytest.mark.parametrize(("command", "reason"), MISSING, ids=[command for command, _ in MISSING])
def test_what_was_asked_for_and_is_missing_is_a_row_and_status_1(command: str, reason: str, made: Path) -> None:
    before = snapshot(made)
    said = resnets(*command.split())
    assert said.status == 1
    assert f"error: {reason}" in said.out
    assert said.err.count("\n") == 1
    assert said.err.endswith("could not be read; each says why\n")
    assert snapshot(made) == before


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written, not even by root."""
    folder = tmp_path / "locked"
    folder.mkdir()
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True
    ).returncode
    if not mounted:
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):
            pytest.skip("no folder can be made read-only here")
    yield folder
    if mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("command", "useful"),
    [
        ("train good --runs {folder}", "choose another with --runs"),
        ("train good --runs {folder}/deep/er", "choose another with --runs"),
        ("evaluate runs/run good --out {folder}/a.parquet", "choose another --out"),
        ("predict runs/run flat --out {folder}/a.csv", "choose another --out"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_line(
    command: str, useful: str, read_only: Path, made: Path
) -> None:
    before = snapshot(made)
    said = resnets(*command.format(folder=read_only).split())
    assert (said.status, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert str(read_only) in said.err
    assert useful in said.err
    assert snapshot(made) == before


def test_a_run_in_a_folder_that_became_read_only_is_refused_and_kept(read_only: Path, made: Path) -> None:
    if not os.path.ismount(read_only):
        pytest.skip("no folder can be mounted here")
    subprocess.run(["mount", "-o", "remount,rw", read_only], check=True)
    shutil.copytree(made / "runs" / "run", read_only / "run")
    subprocess.run(["mount", "-o", "remount,ro", read_only], check=True)
    before = snapshot(read_only)
    said = resnets("train", "--resume", read_only / "run", "--epochs", "2")
    assert (said.status, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert snapshot(read_only) == before
    assert resnets("predict", read_only / "run", "flat").status == 0  # reading it needs no writing
