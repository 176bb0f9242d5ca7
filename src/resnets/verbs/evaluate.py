"""`resnets.evaluate`: what a model is worth on pictures whose classes are known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnets.base.errors import DataError, UsageError
from resnets.base.machine import cores, pick_device
from resnets.base.text import counted, printable, some

if TYPE_CHECKING:
    from resnets.data.dataset import Data
    from resnets.evaluation.matching import Match
    from resnets.evaluation.metrics import HeadFigures
    from resnets.evaluation.predict import Outputs
    from resnets.weights.modelfile import Model

log = logging.getLogger("resnets")

Progress = Callable[[int, int], None]  # pictures done, pictures in all

PART_NAMES = {"train": "training", "val": "validation", "test": "test", "all": "all"}
LISTED = 20  # classes up to which the table names every one


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one model on one part of one data set.

    split: train, val, test or all. n: pictures measured. left_out: path and reason of every file of the data set
    that could not be used. notes: what a reader of the figures should know.
    """

    data: str
    split: str
    n: int
    precision: str
    device: str
    heads: dict[str, HeadFigures]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    outputs: tuple[Path, ...] = ()
    seconds: float = field(compare=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "left_out": len(self.left_out),
            "left_out_files": [{"path": path, "reason": reason} for path, reason in self.left_out],
            "precision": self.precision,
            "device": self.device,
            "heads": {name: figures.to_json() for name, figures in self.heads.items()},
            "notes": list(self.notes),
            "outputs": [str(path) for path in self.outputs],
            "seconds": round(self.seconds, 3),
        }

    def table(self) -> str:
        """The figures for people, with intervals; safe in a terminal."""
        lines = [f"{printable(self.data)}, {PART_NAMES[self.split]}: {self.n:,} pictures, {self.precision}"]
        for name, figures in self.heads.items():
            lines += ["", *_head_lines(name, figures)]
        if self.left_out:
            paths = [path for path, _ in self.left_out]
            lines += ["", f"left out: {counted(len(paths), 'file')}: {some(paths)}"]
        return "\n".join(lines)


def evaluate(
    model: Model | Path | str,
    data: Data | Path | str,
    *,
    split: Literal["train", "val", "test", "all"] | None = None,
    batch: int | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    threads: int | None = None,
    strict_data: bool = False,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on a data set, or on one part of it.

    model: a model, or what `resnets.load` takes. data: what `open_data` takes, or what it gave.
    split: the part; None is `test`, else `val`, else all. batch: pictures at a time; None is by their size.
    threads: of the processor; None is all of them.
    precision: of the computation. strict_data: a file that would be left out is an error.
    out: where to write the answers to every picture (Parquet). progress: called with pictures done and in all.
    Classes are matched by id. Raises DataError where the data has classes that the model does not know.
    """
    from resnets.data.batches import pictures_of
    from resnets.evaluation.measure import figures_of, predictions_of
    from resnets.evaluation.predict import TorchBackend, batch_for, classify, threads_of
    from resnets.weights.modelfile import tensors_sha256

    started = time.monotonic()
    if batch is not None and batch < 1:
        raise UsageError(f"--batch must be at least 1, got {batch}")
    if out is not None and not Path(out).parent.is_dir():
        raise UsageError(f"cannot write {printable(str(out))}: its folder is not there; choose another --out")
    if out is not None and Path(out).is_dir():
        raise UsageError(f"cannot write {printable(str(out))}: it is a folder; choose another --out")
    model, opened = _opened(model, data, strict_data)
    matches = _matches(model, opened)
    part, rows = _rows(opened, split)
    with threads_of(threads):
        backend = TorchBackend(model, device=pick_device(device), precision=precision)
        pictures = pictures_of(opened, rows, preprocess=model.preprocess)
        outputs = classify(
            backend,
            pictures,
            batch=batch or batch_for(model.preprocess),
            threads=threads or cores(),
            progress=progress,
        )
    if strict_data and outputs.failed:
        row, reason = next(iter(outputs.failed.items()))
        raise DataError(
            f"{len(outputs.failed)} pictures cannot be read, such as {some([opened.path(row)])}: {reason}"
        )
    figures = figures_of(outputs, opened, heads=model.heads, matches=matches)
    written: tuple[Path, ...] = ()
    if out is not None:
        weights = tensors_sha256(model.network.state_dict())
        answers = predictions_of(outputs, opened, heads=model.heads, matches=matches, model=weights)
        written = (_write(Path(out), answers),)
    notes = _notes(model, opened, part, asked=split is not None, matches=matches)
    for note in notes:
        log.warning("%s", note)
    return Evaluation(
        data=opened.name,
        split=part,
        n=len(outputs.rows),
        precision=precision,
        device=str(backend.device),
        heads=figures,
        left_out=_left_out(opened, outputs),
        notes=tuple(notes),
        outputs=written,
        seconds=time.monotonic() - started,
    )


def _opened(model: Model | Path | str, data: Data | Path | str, strict: bool) -> tuple[Model, Data]:
    from resnets.data.dataset import Data, open_data
    from resnets.weights.loading import load

    loaded = load(model) if isinstance(model, str | Path) else model
    if isinstance(data, Data):
        return loaded, data
    return loaded, open_data(data, strict=strict, for_training=False)


def _matches(model: Model, data: Data) -> list[Match]:
    from resnets.evaluation.matching import match_heads
    from resnets.weights.modelfile import UNNAMED

    return match_heads(model.heads, data.heads, unnamed=model.origin.get(UNNAMED, ()), where=printable(data.name))


def _rows(data: Data, split: str | None) -> tuple[str, Any]:
    """The part that is measured and its rows."""
    if split is not None and split not in PART_NAMES:
        raise UsageError(f"--split must be one of {', '.join(PART_NAMES)}, got {split!r}")
    parts = {part: data.rows(part) for part in ("test", "val", "train")}
    chosen = split or next((part for part in ("test", "val") if len(parts[part])), "all")
    rows = data.rows(chosen)
    if not len(rows):
        there = ", ".join(f"{len(rows):,} {part}" for part, rows in parts.items() if len(rows))
        raise UsageError(f"{printable(data.name)} has no {chosen} pictures; it has {there}; choose with --split")
    return chosen, rows


def _notes(model: Model, data: Data, part: str, *, asked: bool, matches: list[Match]) -> list[str]:
    notes = [match.note for match in matches if match.note]
    trained_here = model.origin.get("data", {}).get("hash") == data.manifest.hash()
    if trained_here and part in ("train", "all"):
        count = len(data.rows("train"))
        notes.append(f"the model was trained on {count:,} of these pictures: the figures say nothing of new ones")
    if not asked and not data.parts_stated and not trained_here and part != "all":
        notes.append(
            f"{printable(data.name)} is not divided by itself: these are the {PART_NAMES[part]} pictures that "
            "training would hold back; --split all takes every picture"
        )
    unanswered = [name for name in data.heads if name not in {match.data for match in matches}]
    if unanswered:
        notes.append(f"the model does not answer {some(unanswered)}")
    return notes


def _left_out(data: Data, outputs: Outputs) -> tuple[tuple[str, str], ...]:
    rows = sorted({**data.left_out, **outputs.failed}.items())
    return tuple((data.path(row), reason) for row, reason in rows)


def _write(path: Path, predictions: Any) -> Path:
    from resnets.evaluation.predictions import save_predictions

    try:
        save_predictions(path, predictions)
    except OSError as error:
        raise UsageError(f"cannot write {printable(str(path))}: {error.strerror}; choose another --out") from error
    return path


def _head_lines(name: str, figures: HeadFigures) -> list[str]:
    rows = [
        ("top-1", _percent(figures.top1), _percents(figures.top1_interval)),
        ("top-5", _percent(figures.top5), _percents(figures.top5_interval)),
        ("loss", f"{figures.loss:.4f}", "{:.4f} to {:.4f}".format(*figures.loss_interval)),
        ("macro recall", _percent(figures.macro_recall), _percents(figures.macro_recall_interval)),
        ("calibration error", _percent(figures.calibration_error), _percents(figures.calibration_error_interval)),
    ]
    lines = [f"{printable(name)}: n = {figures.n:,}, with 95% intervals"]
    lines += [f"  {word:<18}{value:>8}   {interval}" for word, value, interval in rows if value]
    measured = [(key, one) for key, one in figures.classes.items() if one.n or one.precision is not None]
    shown, heading = measured, "class"
    if len(measured) > LISTED:
        shown = sorted(measured, key=lambda item: (item[1].recall is None, item[1].recall))[:LISTED]
        heading = f"class ({LISTED} of {len(measured):,}, lowest recall first)"
    words = {key: printable(one.name if one.name == key else f"{one.name} ({key})") for key, one in shown}
    width = max(len(heading), *map(len, words.values())) if words else len(heading)
    lines.append(f"  {heading:<{width}}  precision   recall       n")
    for key, one in shown:
        precision, recall = _percent(one.precision) or "-", _percent(one.recall) or "-"
        lines.append(f"  {words[key]:<{width}}  {precision:>9}  {recall:>7}  {one.n:>6,}")
    return lines


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _percents(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0] * 100:.2f} to {interval[1]:.2%}"
