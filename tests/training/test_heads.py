"""Several labels and several classes a picture, through real runs: what is chosen, shown, kept, and resumed."""

import csv
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, recall_score

from resnets.base.errors import Interrupted, UsageError
from resnets.evaluation.answers import write_predictions
from resnets.evaluation.predictions import load_predictions
from resnets.training.config import TrainConfig, read_config
from resnets.training.run import read_events
from resnets.verbs.evaluate import evaluate
from resnets.verbs.predict import predict
from resnets.verbs.train import Run, train
from tests.training.killing import differing_tensors

N = 120
NAMES = ("root", "vowel", "tags")


def pictures() -> tuple[np.ndarray, dict[str, Any]]:
    """Noise on three patches: one of three brightnesses, one of two, and three that are there or not."""
    chance = np.random.default_rng(0)
    root = np.where(np.arange(N) % 6 < 4, 0, np.arange(N) % 6 - 3)  # four of six are of the first class
    vowel = chance.integers(0, 2, N)
    tags = (chance.random((N, 3)) < [0.5, 0.3, 0.6]).astype(np.float32)
    pixels = chance.integers(0, 40, (N, 8, 8))
    pixels[:, :3] += 90 * root[:, None, None]
    pixels[:, 3:5] += 180 * vowel[:, None, None]
    for one in range(3):
        pixels[:, 5:, 3 * one : 3 * one + 2] += (180 * tags[:, one, None, None]).astype(np.int64)
    tags[::9, 1] = np.nan
    missing = [None if row % 7 == 0 else int(value) for row, value in enumerate(vowel)]
    return pixels.astype(np.uint8), {"root": root, "vowel": missing, "tags": tags}


def options(runs: Path, **more: Any) -> TrainConfig:
    given = {"epochs": 3, "threads": 1, "runs": str(runs), "batch": 16, "lr": 0.05, "mixup": 0.2, "flip": False}
    return TrainConfig(**{**given, "ema": 0.9, "optimizer": "sgd", "recalibrate": False, "clip": 1.0, **more})


def epochs_of(run: Run) -> list[dict[str, Any]]:
    return [event for event in read_events(run.path / "events.jsonl") if event["event"] == "epoch"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = options(
        tmp_path_factory.mktemp("runs"), score_weight=("root=2",), loss_weight=("tags=0.5",), epochs=6
    )
    return train(pictures(), config=config)


def test_a_network_gets_a_head_for_each_label_and_the_plan_has_their_weights(run: Run) -> None:
    model = run.load()
    outputs = model.network(torch.zeros(1, 1, 8, 8))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "root": (1, 3),
        "vowel": (1, 2),
        "tags": (1, 3),
    }
    assert [head.kind for head in model.heads.values()] == ["single", "single", "multi"]
    assert model.origin["score_weights"] == {"root": 2.0, "vowel": 1.0, "tags": 1.0}
    _, values = read_config(run.path / "config.toml")
    assert values["score_weight"] == ("root=2", "vowel=1", "tags=1")
    assert values["loss_weight"] == ("root=1", "vowel=1", "tags=0.5")


def test_the_best_epoch_has_the_highest_combined_score(run: Run) -> None:
    epochs = epochs_of(run)
    highest = max(event["val_score"] for event in epochs)
    last_best = max(event["epoch"] for event in epochs if event["val_score"] == highest)
    assert run.load().origin["epoch"] == last_best
    for event in epochs:
        heads = event["val_heads"]
        parts = [heads["root"]["macro_recall"], heads["vowel"]["macro_recall"], heads["tags"]["map"]]
        assert event["val_score"] == pytest.approx(np.average(parts, weights=[2, 1, 1]))
        losses = [heads[name]["loss"] for name in NAMES]
        assert event["val_loss"] == pytest.approx(np.average(losses, weights=[1, 1, 0.5]))
    assert epochs[-1]["loss"] < epochs[0]["loss"]


def test_figures_of_the_run_are_those_of_evaluate_of_its_predictions_and_of_scikit_learn(run: Run) -> None:
    measured = evaluate(run.model, pictures()).to_json()
    for name, figures in measured["heads"].items():
        for key, value in figures.items():
            if key != "classes" and value is not None:  # top-5 of three classes
                assert value == pytest.approx(run.heads[name][key], rel=1e-5), (name, key)
    assert run.score is not None
    assert measured["score"]["value"] == pytest.approx(run.score["value"])
    assert json.loads(json.dumps(measured, allow_nan=False))["score"]["weights"] == run.score["weights"]
    kept = load_predictions(run.path / "predictions.parquet").heads
    truth, logits = kept["vowel"].truth, kept["vowel"].logits
    known = truth >= 0
    assert run.heads["vowel"]["n"] == known.sum() < run.n
    assert run.heads["vowel"]["macro_recall"] == pytest.approx(
        recall_score(truth[known], logits[known].argmax(1), average="macro")
    )
    head, cells = kept["tags"].head, kept["tags"].truth
    one = ~np.isnan(cells[:, 1])
    found = run.heads["tags"]["classes"]["1"]
    assert found["average_precision"] == pytest.approx(
        average_precision_score(cells[one, 1], kept["tags"].logits[one, 1]), abs=0.02
    )
    probabilities = 1 / (1 + np.exp(-kept["tags"].logits))
    assert found["f1"] == pytest.approx(f1_score(cells[one, 1], probabilities[one, 1] >= head.thresholds[1]))
    expected = (
        2 * run.heads["root"]["macro_recall"] + run.heads["vowel"]["macro_recall"] + run.heads["tags"]["map"]
    )
    assert run.score["value"] == pytest.approx(expected / 4)


def test_thresholds_are_in_the_model_file_and_are_those_of_the_validation_pictures(run: Run) -> None:
    head = run.load().heads["tags"]
    assert len(head.thresholds) == 3
    assert all(0 < threshold < 1 for threshold in head.thresholds)
    kept = load_predictions(run.path / "predictions.parquet")
    assert kept.heads["tags"].head == head
    assert [one["threshold"] for one in run.heads["tags"]["classes"].values()] == list(head.thresholds)


def test_the_score_can_be_weighed_anew_where_it_is_measured(run: Run) -> None:
    equal = evaluate(run.model, pictures(), score_weight=["root=1"])
    figures = equal.to_json()["heads"]
    parts = [figures["root"]["macro_recall"], figures["vowel"]["macro_recall"], figures["tags"]["map"]]
    assert equal.score is not None
    assert equal.score.value == pytest.approx(np.mean(parts))
    table = equal.table()
    assert "score, the mean over the labels (root 1, vowel 1, tags 1)" in table
    assert "tags: n = " in table
    assert "mean avg precision" in table
    with pytest.raises(UsageError, match="did you mean root"):
        evaluate(run.model, pictures(), score_weight=["rot=1"])


def test_data_with_some_of_the_labels_is_measured_on_these(run: Run) -> None:
    pixels, labels = pictures()
    found = evaluate(run.model, (pixels, {"root": labels["root"], "vowel": labels["vowel"]}))
    assert list(found.heads) == ["root", "vowel"]
    assert found.score is not None
    assert found.score.weights == {"root": 2.0, "vowel": 1.0}
    one = evaluate(run.model, (pixels, {"root": labels["root"]}))
    assert (list(one.heads), one.score) == (["root"], None)


def test_predictions_have_every_head_and_the_classes_above_their_thresholds(run: Run, tmp_path: Path) -> None:
    pixels, _ = pictures()
    for row in range(8):
        Image.fromarray(pixels[row]).save(tmp_path / f"{row}.png")
    model = run.load()
    answers = list(predict(model, sorted(tmp_path.glob("*.png")), top=1))
    thresholds = model.heads["tags"].thresholds
    for one in answers:
        assert [len(one.heads[name]) for name in ("root", "vowel")] == [1, 1]
        said = one.to_json()
        scores = said["scores"]["tags"]
        assert list(scores) == ["0", "1", "2"]
        above = {name for name, cut in zip(scores, thresholds, strict=True) if scores[name] >= cut}
        assert {answer["id"] for answer in said["heads"]["tags"]} == above
        assert said["scores"].keys() == {"tags"}
    stream = io.BytesIO()
    write_predictions(answers, "csv", stream)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue().decode())))
    assert {(row["path"], row["head"]) for row in rows} == {(one.path, name) for one in answers for name in NAMES}


def test_nothing_above_its_threshold_is_said_and_not_left_out(run: Run, tmp_path: Path) -> None:
    from dataclasses import replace

    Image.fromarray(pictures()[0][0]).save(tmp_path / "one.png")
    model = run.load()
    heads = model.heads | {"tags": replace(model.heads["tags"], thresholds=(1.0, 1.0, 1.0))}
    (answer,) = predict(replace(model, heads=heads), tmp_path / "one.png")
    assert answer.heads["tags"] == ()
    for form, useful in (("csv", b"one.png,tags,,,,,\r\n"), ("table", b"tags: no class above its threshold")):
        stream = io.BytesIO()
        write_predictions([answer], form, stream)  # type: ignore[arg-type]
        assert useful in stream.getvalue()


def stop_at(step: int) -> Any:
    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return on_event


def test_a_balanced_weighted_run_resumed_in_the_middle_of_an_epoch_is_exact(tmp_path: Path) -> None:
    more: dict[str, Any] = {"sampling": "balanced", "class_weights": "balanced", "loss_weight": ("root=2",)}
    data = pictures()
    whole = train(data, config=options(tmp_path, name="whole", **more))
    with pytest.raises(Interrupted):
        train(data, config=options(tmp_path, name="stopped", **more), on_event=stop_at(9))
    run = train(data, resume=tmp_path / "stopped")
    assert differing_tensors(whole.path, run.path) == []
    assert (run.heads, run.score) == (whole.heads, whole.score)
    (event,) = [event for event in read_events(run.path / "events.jsonl") if event["event"] == "plan"]
    assert "classes of root equally often" in event["text"]


def test_one_head_of_several_classes_is_judged_by_its_mean_average_precision(tmp_path: Path) -> None:
    pixels, labels = pictures()
    run = train((pixels, labels["tags"]), config=options(tmp_path, epochs=2))
    epochs = epochs_of(run)
    assert all({"val_map", "val_loss", "val_n"} <= event.keys() for event in epochs)
    assert not any({"val_top1", "val_score"} & event.keys() for event in epochs)
    assert run.load().origin["epoch"] == max(epochs, key=lambda event: (event["val_map"], event["epoch"]))["epoch"]
    assert run.score is None
    assert {"f1_micro", "f1_macro", "map", "exact_match"} <= run.heads["label"].keys()


@pytest.mark.parametrize(
    ("given", "useful"),
    [
        ({"loss_weight": ("rot=2",)}, "did you mean root"),
        ({"score_weight": ("root",)}, "--score-weight must be NAME=X"),
    ],
)
def test_wrong_weights_are_refused_before_anything_is_written(
    tmp_path: Path, given: dict[str, Any], useful: str
) -> None:
    with pytest.raises(UsageError, match=useful):
        train(pictures(), config=options(tmp_path / "runs", **given))
    assert not (tmp_path / "runs").exists()
