"""Columns, keys and fields in `docs/formats.md`, and the events in `docs/training.md`, are what is written."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import resnets
from resnets.evaluation.answers import COLUMNS
from resnets.evaluation.predictions import Predictions, head_predictions, save_predictions
from resnets.labels import Head
from resnets.networks.variants import VARIANTS
from resnets.training import efficiency, progress
from tests.docs.pages import DOCS, ROOT, made, names_in, rows
from tests.docs.samples import EXAMPLES, agrees, brief, command, inside, make_samples, shortened

FORMATS = (DOCS / "formats.md").read_text("utf-8")
TRAINING = (DOCS / "training.md").read_text("utf-8")
SHOWN = {"progress", "measuring", "note"}  # events that are given to `on_event` without being written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the samples are made; the cache of the tests is used here too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNETS_CACHE", str(tmp_path_factory.getbasetemp() / "resnets-cache"))
        yield tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="module")
def samples(folder: Path) -> dict[str, Any]:
    return make_samples(folder)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_the_keys_and_kinds_that_the_code_gives(name: str, samples: dict[str, Any]) -> None:
    text = made(DOCS / "formats.md")[name].removeprefix("```json\n").removesuffix("\n```")
    real = brief(name, samples[name])
    shown = [json.loads(line) for line in text.splitlines()] if isinstance(real, list) else json.loads(text)
    assert agrees(shown, real), f"write it anew: python -m tests.docs.tables; now it is {shortened(real)}"


def test_an_example_that_lacks_a_key_or_has_another_kind_does_not_agree() -> None:
    assert agrees({"n": 3, "top5": None}, {"n": 4, "top5": 0.5})
    assert not agrees({"n": 3}, {"n": 3, "top5": None})
    assert not agrees({"n": "3"}, {"n": 3})
    assert not agrees({"exact": 1}, {"exact": True})


def columns(first: str, **renamed: str) -> list[tuple[str, str]]:
    """(column, type) as a table of the page states them; a row may have several columns."""
    found = [(name, cells[1]) for cells in rows(FORMATS, first=first) for name in names_in(cells[0])]
    return [(name.replace("HEAD", renamed.get("head", "HEAD")), kind) for name, kind in found]


def schema(path: Path) -> list[tuple[str, str]]:
    """(column, type) of a Parquet file; lists of a fixed length by what they hold."""
    kinds = [(field.name, str(field.type)) for field in pq.read_schema(path)]
    return [
        (name, re.sub(r"fixed_size_list<element: (\w+)>\[\d+\]", r"fixed_size_list of \1", kind))
        for name, kind in kinds
    ]


def test_the_manifest_has_the_columns_of_the_table(samples: dict[str, Any], folder: Path) -> None:
    assert schema(folder / "runs/digits-resnet20/manifest.parquet") == columns(
        "column of the manifest", head="label"
    )


def test_the_predictions_have_the_columns_of_the_table(samples: dict[str, Any], folder: Path) -> None:
    expected = columns("column of the predictions", head="label")
    assert schema(folder / "runs/digits-resnet20/predictions.parquet") == expected
    assert schema(folder / "answers.parquet") == expected


def test_a_head_of_more_than_1000_classes_has_the_columns_of_its_table(tmp_path: Path) -> None:
    head = Head(ids=tuple(map(str, range(1001))))
    answers = head_predictions(np.zeros((2, 1001), dtype=np.float32), np.zeros(2, dtype=np.int64), head=head)
    table = Predictions(paths=["a", "b"], contents=[bytes(16)] * 2, splits=["val"] * 2, heads={"label": answers})
    save_predictions(tmp_path / "large.parquet", table)
    assert schema(tmp_path / "large.parquet")[4:] == columns("column of a large head", head="label")


def test_a_head_of_several_classes_has_the_columns_of_its_table(tmp_path: Path) -> None:
    head = Head(kind="multi", ids=("a", "b"))
    answers = head_predictions(np.zeros((2, 2), dtype=np.float32), np.zeros((2, 2), dtype=np.float32), head=head)
    table = Predictions(paths=["a", "b"], contents=[bytes(16)] * 2, splits=["val"] * 2, heads={"label": answers})
    save_predictions(tmp_path / "multi.parquet", table)
    assert schema(tmp_path / "multi.parquet")[4:] == columns("column of several classes", head="label")


def test_the_answers_of_predict_have_the_columns_of_the_table(samples: dict[str, Any], folder: Path) -> None:
    with inside(folder):
        command("predict", "runs/digits-resnet20", "seven.png", "--out", "answers.pq")
        command("predict", "runs/digits-resnet20", "seven.png", "--out", "answers.csv")
    expected = columns("column of the answers")
    assert schema(folder / "answers.pq") == expected
    headings = (folder / "answers.csv").read_text().splitlines()[0].split(",")
    assert tuple(headings) == COLUMNS
    assert headings == [name for name, _ in expected if name != "path_bytes"]


def test_the_features_of_embed_have_the_columns_and_the_metadata_of_the_page(
    samples: dict[str, Any], folder: Path
) -> None:
    with inside(folder):
        command("embed", "runs/digits-resnet20", "seven.png", "--out", "features.pq")
    assert schema(folder / "features.pq") == columns("column of the features")
    about = json.loads(pq.read_schema(folder / "features.pq").metadata[b"resnets"])
    text = FORMATS.partition("### embed\n")[2].partition("\n### ")[0]
    sentence = next(line for line in text.splitlines() if line.startswith("The metadata has the key"))
    assert about.keys() <= set(names_in(sentence))


def test_the_metadata_of_the_tables_has_the_keys_that_the_page_names(
    samples: dict[str, Any], folder: Path
) -> None:
    for name, section in (("manifest", "## manifest.parquet"), ("predictions", "## predictions.parquet")):
        about = json.loads(pq.read_schema(folder / f"runs/digits-resnet20/{name}.parquet").metadata[b"resnets"])
        text = FORMATS.partition(f"{section}\n")[2].partition("\n## ")[0]
        sentence = next(line for line in text.splitlines() if line.startswith("The metadata has the key"))
        assert about.keys() <= set(names_in(sentence))


def test_the_plan_in_the_log_has_the_parts_that_the_page_names(samples: dict[str, Any]) -> None:
    sentence = next(line for line in FORMATS.splitlines() if line.startswith("`plan.plan` holds"))
    assert set(names_in(sentence)) == {"plan.plan", *samples["events"][0]["plan"]}


def test_models_prints_a_name_and_a_spec_for_each() -> None:
    printed = json.loads(command("models", "--json")[1])
    assert printed.keys() == {"models", "seconds"}
    assert printed["models"][0] == json.loads(json.dumps({"name": "resnet18", **VARIANTS["resnet18"].to_json()}))


# the events


def documented_events() -> dict[str, tuple[set[str], set[str]]]:
    """Event -> fields it always has, and those it sometimes has."""
    table = rows(TRAINING, first="event")
    return {names_in(cells[0])[0]: (set(names_in(cells[1])), set(names_in(cells[2]))) for cells in table}


@pytest.fixture(scope="module")
def events(folder: Path, samples: dict[str, Any]) -> list[dict[str, Any]]:
    """Events of every kind: of a run to its end, one from weights, stopped and resumed, one that failed."""
    with inside(folder):
        broken_folder(Path("broken"))
        weights = "runs/digits-resnet20/model.safetensors"
        stopped = resnets.TrainConfig(epochs=2, name="stopped", clip=1.0, weights=weights, probe=True)

        def stop(event: dict[str, Any]) -> None:
            if event["event"] == "step":
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(resnets.Interrupted):
            resnets.train("broken", config=stopped, on_event=stop)
        resnets.train(resume="runs/stopped")
        with pytest.raises(resnets.NotFinite):
            resnets.train("digits", config=resnets.TrainConfig(epochs=2, name="failed", lr=1e30))
        noise, tags = (
            np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8),
            np.eye(4)[[0, 1, 2, 3] * 5],
        )
        resnets.train(
            (noise, {"kind": [0, 1] * 10, "tags": tags}), config=resnets.TrainConfig(epochs=1, name="heads")
        )
        with pytest.MonkeyPatch.context() as patch:  # what a run tells once it is ten seconds old
            patch.setattr(efficiency, "SETTLED_SECONDS", 0.0)
            patch.setattr(progress, "SHOWN_SECONDS", 0.0)
            resnets.train((noise, tags), config=resnets.TrainConfig(epochs=1, name="tags"))

        def slow(event: dict[str, Any]) -> None:
            if event["event"] == "epoch":
                time.sleep(0.5)

        resnets.train((noise, tags), config=resnets.TrainConfig(minutes=0.1, name="slow"), on_event=slow)
        names = ("stopped", "failed", "heads", "tags", "slow")
        read = [(folder / "runs" / name / "events.jsonl").read_text() for name in names]
    return [*samples["events"], *(json.loads(line) for text in read for line in text.splitlines())]


def broken_folder(root: Path) -> None:
    """Two classes, and a picture whose header is whole and whose pixels are cut off."""
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(60):
            pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    whole = Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    whole.save(root / "cat" / "cut.bmp")
    for copy in range(4):  # one of them at least is a training picture
        content = (root / "cat" / "cut.bmp").read_bytes()
        (root / "dog" / f"cut{copy}.bmp").write_bytes(content[: -20 - copy])


def test_every_event_has_the_fields_of_the_table(events: list[dict[str, Any]]) -> None:
    documented = documented_events()
    for event in events:
        always, sometimes = documented[event["event"]]
        fields = event.keys() - {"event", "time"}
        assert always <= fields <= always | sometimes, event


def test_every_event_of_the_table_was_seen_with_all_its_fields(events: list[dict[str, Any]]) -> None:
    seen: dict[str, set[str]] = {}
    for event in events:
        seen.setdefault(event["event"], set()).update(event.keys() - {"event", "time"})
    assert seen == {name: always | sometimes for name, (always, sometimes) in documented_events().items()}


def test_every_event_that_the_code_writes_is_in_the_table() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "src/resnets").rglob("*.py"))
    written = set(re.findall(r"(?:self|training)\.record\(\s*\"([\w]+)\"|events\.append\(\s*\"(\w+)\"", code))
    assert {first or second for first, second in written} == set(documented_events())
    shown = set(re.findall(r"\{\s*\"event\": \"(\w+)\"", code))
    assert shown == SHOWN
    sentence = TRAINING.partition("`on_event` is called with")[2].partition(".")[0]
    assert set(names_in(sentence)) == SHOWN
