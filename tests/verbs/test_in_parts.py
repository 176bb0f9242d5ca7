"""`predict`, `embed` and `evaluate` in parts: what several processes, some of which die, make of one work."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from resnets.base.errors import DataError, UsageError
from resnets.evaluation import parts as parts_module
from resnets.evaluation.predictions import load_predictions
from resnets.labels import Head
from resnets.networks import ResNetSpec, build
from resnets.preprocess import Preprocess
from resnets.verbs.embed import embed, embed_in_parts
from resnets.verbs.evaluate import Evaluation, evaluate
from resnets.verbs.predict import predict, predict_in_parts
from resnets.verbs.shards import shards
from resnets.weights.modelfile import Model, save

CLASSES = ("red", "green", "blue")


class MeanColour(nn.Module):
    """Logits are the mean red, green and blue; it fails once `lives` batches are done."""

    def __init__(self, lives: int = 10**9) -> None:
        super().__init__()
        self.lives = lives

    def forward(self, images: Tensor) -> Tensor:
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        return images.mean((2, 3))


def model(lives: int = 10**9) -> Model:
    return Model(
        network=MeanColour(lives),
        heads={"label": Head(ids=CLASSES)},
        preprocess=Preprocess(size=(4, 4), mean=(0.0, 0.0, 0.0), std=(0.1, 0.1, 0.1)),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders with 46 pictures of their colour and noise, one file that is no picture, and a README."""
    chance = np.random.default_rng(0)
    for number in range(46):
        pixels = chance.integers(0, 200, (5, 5, 3), dtype=np.uint8)
        pixels[:, :, number % 3] //= 2
        path = tmp_path / "pictures" / CLASSES[(number + 1) % 3] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "pictures" / "red" / "notes.png").write_text("words")
    (tmp_path / "pictures" / "README.md").write_text("words")
    return tmp_path / "pictures"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "FEWEST", 4)
    monkeypatch.setattr(parts_module, "PARTS_EACH", 6)


def rank(monkeypatch: pytest.MonkeyPatch, number: int, size: int) -> None:
    """From here on this process is one of several."""
    for name, value in {"RANK": number, "WORLD_SIZE": size, "LOCAL_RANK": number}.items():
        monkeypatch.setenv(name, str(value))


def lines(out: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for part in sorted(out.glob("part-*.jsonl")) for line in part.read_text().splitlines()
    ]


# predict


def test_the_parts_of_one_process_are_what_predict_answers(folder: Path, tmp_path: Path) -> None:
    written = predict_in_parts(model(), folder, tmp_path / "out", batch=4, threads=1)
    expected = [one.to_json() for one in predict(model(), folder, batch=4, threads=1)]
    assert lines(tmp_path / "out") == expected
    assert (written.files, written.errors, written.skipped) == (47, 1, 1)
    assert written.parts == len(list((tmp_path / "out").glob("part-*")))
    assert written.parts > 5


def test_parquet_parts_hold_the_same_answers(folder: Path, tmp_path: Path) -> None:
    written = predict_in_parts(model(), folder, tmp_path / "out", form="parquet", top=1, threads=1)
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*.parquet"))[0])
    first = next(iter(predict(model(), folder, top=1, threads=1)))
    assert (table["path"][0].as_py(), table["id"][0].as_py()) == (first.path, first.heads["label"][0].id)
    assert (written.files, written.errors) == (47, 1)


def test_nothing_is_lost_or_done_twice_where_processes_die(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    rank(monkeypatch, 0, 2)
    with pytest.raises(KeyboardInterrupt):
        predict_in_parts(model(lives=3), folder, out, batch=4, threads=1)
    rank(monkeypatch, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        predict_in_parts(model(lives=2), folder, out, batch=4, threads=1)
    made = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 2 <= len(made) < 10
    (out / ".part-00003-of-00012.jsonl.0.part").write_text("left by a killed process")
    rank(monkeypatch, 1, 2)
    second = predict_in_parts(model(), folder, out, batch=4, threads=1)
    assert second.files < 47
    rank(monkeypatch, 0, 2)
    first = predict_in_parts(model(), folder, out, batch=4, threads=1)
    assert (first.files, first.errors) == (47, 1)
    assert lines(out) == [one.to_json() for one in predict(model(), folder, threads=1)]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_another_number_of_processes_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank(monkeypatch, 0, 3)
    with pytest.raises(KeyboardInterrupt):
        predict_in_parts(model(lives=1), folder, tmp_path / "out", batch=4, threads=1)
    rank(monkeypatch, 0, 1)
    predict_in_parts(model(), folder, tmp_path / "out", batch=4, threads=1)
    assert lines(tmp_path / "out") == [one.to_json() for one in predict(model(), folder, threads=1)]


def test_a_finished_work_is_not_done_again(folder: Path, tmp_path: Path) -> None:
    predict_in_parts(model(), folder, tmp_path / "out", threads=1)
    assert predict_in_parts(model(lives=0), folder, tmp_path / "out", threads=1).errors == 1


def test_other_paths_options_or_models_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_in_parts(model(), folder, out, threads=1)
    (folder / "new.png").write_bytes((folder / "red" / "02.png").read_bytes())
    with pytest.raises(UsageError, match="another command, with another 'files', 'list'"):
        predict_in_parts(model(), folder, out, threads=1)
    (folder / "new.png").unlink()
    with pytest.raises(UsageError, match="with another 'top'"):
        predict_in_parts(model(), folder, out, top=1, threads=1)
    other = model()
    other.heads["label"] = Head(ids=("r", "g", "b"))
    with pytest.raises(UsageError, match="with another 'model'"):
        predict_in_parts(other, folder, out, threads=1)
    with pytest.raises(UsageError, match="--format must be jsonl or parquet where answers are written in parts"):
        predict_in_parts(model(), folder, tmp_path / "new", form="csv")  # type: ignore[arg-type]


# embed


@pytest.fixture
def residual() -> Model:
    torch.manual_seed(0)
    spec = ResNetSpec(block="basic", depths=(1,), width=8, stem="small", heads=(("label", 3),))
    return Model(
        network=build(spec), heads={"label": Head(ids=CLASSES)}, preprocess=Preprocess(size=(8, 8), crop=1.0)
    )


def dies_after(files: int) -> Callable[[int, int | None], None]:
    def progress(done: int, _: int | None) -> None:
        if done > files:
            raise KeyboardInterrupt

    return progress


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The rows of all parts in their order, read as one table."""
    rows: list[dict[str, Any]] = pq.read_table(sorted(map(str, out.glob("part-*.parquet")))).to_pylist()
    return rows


def test_features_in_parts_are_those_of_embed(residual: Model, folder: Path, tmp_path: Path) -> None:
    written = embed_in_parts(residual, folder, tmp_path / "out", batch=4, threads=1)
    assert (written.files, written.errors, written.skipped) == (47, 1, 1)
    assert written.parts > 5
    expected = list(embed(residual, folder, batch=4, threads=1))
    found = rows_of(tmp_path / "out")
    assert [(row["path"], row["error"]) for row in found] == [(one.path, one.error) for one in expected]
    for row, one in zip(found, expected, strict=True):
        if one.features is None:
            assert row["features"] is None
        else:
            assert np.array_equal(np.float32(row["features"]), one.features)
    embed_in_parts(residual, folder, tmp_path / "lines", form="jsonl", batch=4, threads=1)
    assert lines(tmp_path / "lines") == [one.to_json() for one in expected]


def test_features_are_not_lost_or_made_twice_where_processes_die(
    residual: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for number, files in ((0, 9), (1, 6)):
        rank(monkeypatch, number, 2)
        with pytest.raises(KeyboardInterrupt):
            embed_in_parts(residual, folder, out, batch=4, threads=1, progress=dies_after(files))
    made = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 2 <= len(made) < 10
    rank(monkeypatch, 0, 1)
    assert embed_in_parts(residual, folder, out, batch=4, threads=1).files == 47
    assert [row["path"] for row in rows_of(out)] == [one.path for one in embed(residual, folder, threads=1)]
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_predictions_and_features_do_not_share_a_folder(residual: Model, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed_in_parts(residual, folder, out, threads=1)
    with pytest.raises(UsageError, match="another command, with another 'verb'"):
        predict_in_parts(residual, folder, out, threads=1, form="parquet")
    with pytest.raises(UsageError, match="with another 'precision'"):
        embed_in_parts(residual, folder, out, precision="bf16", threads=1)
    with torch.no_grad():
        residual.network.conv1.weight[0] += 1
    with pytest.raises(UsageError, match="with another 'model'"):
        embed_in_parts(residual, folder, out, threads=1)


# evaluate


def same(found: Evaluation, expected: Evaluation) -> bool:
    return (found.n, found.heads, found.score, found.left_out, found.split) == (
        expected.n,
        expected.heads,
        expected.score,
        expected.left_out,
        expected.split,
    )


def test_an_evaluation_in_parts_has_the_figures_of_one(folder: Path, tmp_path: Path) -> None:
    expected = evaluate(model(), folder, split="all", batch=4, threads=1, out=tmp_path / "whole.parquet")
    found = evaluate(model(), folder, split="all", batch=4, threads=1, out=f"{tmp_path}/out/")
    assert same(found, expected)
    assert found.outputs == (tmp_path / "out" / "predictions.parquet",)
    ours, theirs = (load_predictions(path) for path in (*found.outputs, *expected.outputs))
    assert ours.paths == theirs.paths
    assert np.array_equal(ours.heads["label"].logits, theirs.heads["label"].logits)


def test_processes_that_die_change_no_figure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{tmp_path}/out/"
    expected = evaluate(model(), folder, split="all", batch=4, threads=1)
    rank(monkeypatch, 0, 2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model(lives=3), folder, split="all", batch=4, threads=1, out=out)
    rank(monkeypatch, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model(lives=2), folder, split="all", batch=4, threads=1, out=out)
    made = {path: path.stat().st_mtime_ns for path in Path(out).glob("part-*")}
    assert made
    rank(monkeypatch, 1, 2)
    second = evaluate(model(), folder, split="all", batch=4, threads=1, out=out)
    assert second.heads == {}
    rank(monkeypatch, 0, 2)
    assert same(evaluate(model(), folder, split="all", batch=4, threads=1, out=out), expected)
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_data_that_has_changed_since_is_refused(folder: Path, tmp_path: Path) -> None:
    out = f"{tmp_path}/out/"
    evaluate(model(), folder, split="all", batch=4, threads=1, out=out)
    (folder / "red" / "02.png").write_bytes((folder / "red" / "05.png").read_bytes())
    with pytest.raises(UsageError, match="with another 'pictures'"):
        evaluate(model(), folder, split="all", batch=4, threads=1, out=out)
    with pytest.raises(UsageError, match="with another 'split'"):
        evaluate(model(), folder, split="val", batch=4, threads=1, out=out)


def test_strict_data_still_refuses(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has files to be left out"):
        evaluate(model(), folder, split="all", strict_data=True, threads=1, out=f"{tmp_path}/out/")
    assert not (tmp_path / "out").exists()


# real processes


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file, and 1,400 small pictures in two classes."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("many")
    spec = ResNetSpec(block="basic", depths=(1,), width=8, stem="small", heads=(("label", 2),))
    kept = Model(network=build(spec), heads={"label": Head(ids=("a", "b"))}, preprocess=Preprocess(size=(8, 8)))
    save(place / "model.safetensors", kept)
    chance = np.random.default_rng(0)
    for number in range(1400):
        path = place / "pictures" / "ab"[number % 2] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return place / "model.safetensors", place / "pictures"


def environment(number: int, size: int) -> dict[str, str]:
    about = {"RANK": number, "WORLD_SIZE": size, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": size}
    return os.environ | {name: str(value) for name, value in about.items()}


@pytest.mark.slow
def test_a_killed_process_costs_nothing_but_its_part(
    many: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, pictures = many
    out = tmp_path / "answers"
    command = [sys.executable, "-m", "resnets", "predict", file, pictures, "--out", out, "--threads", "1"]
    started = [subprocess.Popen(command, env=environment(number, 2)) for number in range(2)]
    try:
        deadline = time.monotonic() + 300
        while not (out / "part-00001-of-00006.jsonl").exists():
            assert all(process.poll() is None for process in started)
            assert time.monotonic() < deadline, "no part was written"
            time.sleep(0.01)
    finally:
        for process in started[::-1]:
            process.send_signal(signal.SIGKILL)
            process.wait()
    made = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    monkeypatch.setattr(parts_module, "FEWEST", 256)
    written = predict_in_parts(file, pictures, out, threads=1)
    assert (written.files, written.errors, written.parts) == (1400, 0, 6)
    found = lines(out)
    assert [line["path"] for line in found] == sorted(line["path"] for line in found)
    assert len({line["path"] for line in found}) == 1400
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert {path.name.count(".") for path in out.iterdir()} == {1}


@pytest.mark.slow
def test_torchrun_embeds_shards_with_the_features_of_one_process(many: tuple[Path, Path], tmp_path: Path) -> None:
    file, pictures = many
    shards(pictures, tmp_path / "shards", megabytes=1)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "resnets", "embed", file, f"{tmp_path}/shards", "--json", "--threads", "1"]
    done = subprocess.run(
        [*map(str, command), "--out", f"{tmp_path}/out/"], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)  # one process speaks
    assert (found["files"], found["errors"]) == (1400, 0)
    expected = list(embed(file, tmp_path / "shards", threads=1))
    rows = rows_of(tmp_path / "out")
    assert [row["path"] for row in rows] == [one.path for one in expected]
    assert np.array_equal(
        np.float32([row["features"] for row in rows]), np.stack([one.features for one in expected])
    )


@pytest.mark.slow
def test_torchrun_evaluates_with_the_figures_of_one_process(many: tuple[Path, Path], tmp_path: Path) -> None:
    file, pictures = many
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "resnets", "evaluate", file, pictures, "--split", "all", "--json"]
    done = subprocess.run(
        [*map(str, command), "--threads", "1", "--out", f"{tmp_path}/out/"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)  # one process speaks
    expected = json.loads(json.dumps(evaluate(file, pictures, split="all", threads=1).to_json()))
    assert found["n"] == expected["n"] == 1400
    assert found["heads"] == expected["heads"]
    assert len(list((tmp_path / "out").glob("part-*.safetensors"))) > 2
