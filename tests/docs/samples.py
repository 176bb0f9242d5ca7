"""Real output of the code for `docs/formats.md`: one epoch on digits, and what every verb prints of it."""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from resnets.cli import app
from resnets.weights.modelfile import describe
from tests.docs.pages import ANYTHING, pretty

Sample = dict[str, Any]

# dicts whose keys are a data set's own, and lists that a page shows the beginning of: name -> how many
OPEN = {"classes": 1}
SHOWN = {"layers": 2, "features": 3}


def command(*arguments: str, errors: bool = False) -> tuple[int, str]:
    """Run `resnets ARGUMENTS`: its status and its stdout, with what it said on stderr if `errors`."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    other = stream if errors else io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(other):
        status = app(list(arguments))
    stream.seek(0)
    return status, stream.read()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in `folder` as on a machine with one core, which what the pages show does not depend on."""
    import torch

    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        with mock.patch.object(os, "sched_getaffinity", return_value={0}, create=True):
            yield
    finally:
        torch.set_num_threads(threads)
        os.chdir(before)


def make_samples(folder: Path) -> dict[str, Sample | list[Sample]]:
    """Name -> what the code writes or prints, from a run in `folder/runs/digits-resnet20`."""
    with inside(folder):
        Image.fromarray(np.full((8, 8), 200, dtype=np.uint8)).save("seven.png")
        Path("notes.png").write_text("no picture")
        run = Path("runs/digits-resnet20")
        train = _json("train", "digits", "--epochs", "1")
        evaluate = _json("evaluate", str(run), "digits", "--out", "answers.parquet")
        predict = _lines("predict", str(run), "seven.png", "notes.png", "--top", "2")
        written = _json("predict", str(run), "seven.png", "notes.png", "--out", "answers.csv", status=1)
        embed = _lines("embed", str(run), "seven.png", "notes.png")
        make_folder(Path("pets"))
        inspect = _json("inspect", "pets", "--out", "inspected")
        state = json.loads((run / "checkpoint" / "step-9" / "state.json").read_text())
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        return {
            "model": describe(run / "model.safetensors"),
            "state": state,
            "events": events,
            "train": train,
            "evaluate": evaluate,
            "predict": predict,
            "predict-out": written,
            "embed": embed,
            "inspect": inspect,
            "models": _json("models"),
            "summary": _json("summary", "resnet20"),
        }


def make_folder(root: Path) -> None:
    """Two classes of six small pictures, with a copy of one and a file that is none."""
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / "cat" / "again.png").write_bytes((root / "cat" / "5.png").read_bytes())
    (root / "dog" / "notes.png").write_text("no picture")


def _json(*arguments: str, status: int = 0) -> Sample:
    found, text = command(*arguments, "--json")
    assert found == status, f"resnets {arguments} ended with {found}"
    sample: Sample = json.loads(text)
    return sample


def _lines(*arguments: str) -> list[Sample]:
    return [json.loads(line) for line in command(*arguments, "--json")[1].splitlines()]


def shortened(value: Any, key: str = "") -> Any:
    """The value as a page shows it: the first of many classes, layers and models; four digits of a number."""
    if isinstance(value, dict):
        kept = list(value.items())[: OPEN.get(key)]
        return {name: shortened(part, name) for name, part in kept}
    if isinstance(value, list):
        return [shortened(part) for part in value[: SHOWN.get(key)]]
    return float(f"{value:.4g}") if isinstance(value, float) and abs(value) < 1e6 else value


def agrees(shown: Any, real: Any, key: str = "") -> bool:
    """Whether a page's example has the keys and the kinds of values of what the code gives, at every depth.

    Numbers are the run's own and are not compared; null may stand for a number.
    """
    if shown == ANYTHING:
        return True
    if isinstance(shown, dict) and isinstance(real, dict):
        same = shown.keys() <= real.keys() if key in OPEN else shown.keys() == real.keys()
        return same and all(agrees(part, real[name], name) for name, part in shown.items())
    if isinstance(shown, list) and isinstance(real, list):
        same = len(shown) <= len(real) if key in SHOWN else len(shown) == len(real)
        return same and all(agrees(one, other) for one, other in zip(shown, real, strict=False))
    if shown is None or real is None:
        return not isinstance(shown or real, dict | list | str)
    return _kind(shown) == _kind(real)


def _kind(value: Any) -> str:
    return type(value).__name__ if isinstance(value, bool | str | dict | list) else "number"


def example(name: str, samples: Mapping[str, Any]) -> str:
    """A sample in a fence, as the pages have it."""
    sample = shortened(brief(name, samples[name]))
    if isinstance(sample, list):
        text = "\n".join(json.dumps(one, ensure_ascii=False) for one in sample)
    else:
        text = pretty(sample)
    return f"```json\n{text}\n```"


def brief(name: str, sample: Any) -> Any:
    """A sample with `…` for what a page shows elsewhere or is long; of the steps the first."""
    match name:
        case "events":
            events = [event for event in sample if event["event"] != "step" or event["step"] == 0]
            long = ("plan", "origin", "figures")
            return [{key: ANYTHING if key in long else value for key, value in one.items()} for one in events]
        case "model":
            parts = {part: {**one, "heads": ANYTHING} for part, one in sample["origin"]["figures"].items()}
            return {**sample, "origin": {**sample["origin"], "figures": parts}}
        case "evaluate":
            return {**sample, "heads": ANYTHING}
    return sample


EXAMPLES = (
    "model",
    "state",
    "events",
    "train",
    "evaluate",
    "predict",
    "predict-out",
    "embed",
    "inspect",
    "summary",
)
