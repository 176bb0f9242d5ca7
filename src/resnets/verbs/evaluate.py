"""`resnets.evaluate`: what a model is worth on pictures whose classes are known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnets.base.errors import DataError, UsageError
from resnets.base.machine import default_threads
from resnets.base.options import flag_of
from resnets.base.text import counted, printable, some
from resnets.base.world import world

if TYPE_CHECKING:
    from resnets.data.dataset import Data
    from resnets.data.options import DataOptions
    from resnets.evaluation.matching import Match
    from resnets.evaluation.measure import Figures
    from resnets.evaluation.metrics import HeadFigures
    from resnets.evaluation.multilabel import MultiFigures
    from resnets.evaluation.predict import Backend, Outputs
    from resnets.evaluation.score import Score
    from resnets.evaluation.statistics import Rows
    from resnets.evaluation.views import Views
    from resnets.preprocess import Preprocess
    from resnets.weights.modelfile import Model

log = logging.getLogger("resnets")

Progress = Callable[[int, int], None]  # pictures done, pictures in all

PART_NAMES = {"train": "training", "val": "validation", "test": "test", "all": "all"}
NOT_THERE = "predicted classes that have no picture here count as 0"
PREDICTIONS = "predictions.parquet"  # of a folder of parts
LISTED = 20  # classes up to which the table names every one


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one model on one part of one data set.

    split: train, val, test or all. n: pictures measured. views: of each picture, whose mean was measured.
    score: the combined one of several heads. left_out: path and reason of every file of the data set that could
    not be used. notes: what a reader of the figures should know.
    """

    data: str
    split: str
    n: int
    precision: str
    device: str
    views: Views = "one"
    heads: dict[str, Figures]
    score: Score | None = None
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
            "views": self.views,
            "heads": {name: figures.to_json() for name, figures in self.heads.items()},
            "score": None if self.score is None else self.score.to_json(),
            "notes": list(self.notes),
            "outputs": [str(path) for path in self.outputs],
            "seconds": round(self.seconds, 3),
        }

    def table(self) -> str:
        """The figures for people, with intervals; safe in a terminal."""
        from resnets.evaluation.views import said

        precision = "bf16, close calls in fp32" if self.precision == "bf16" else self.precision
        how = ", ".join(filter(None, (precision, said(self.views))))
        lines = [f"{printable(self.data)}, {PART_NAMES[self.split]}: {self.n:,} pictures, {how}"]
        for name, figures in self.heads.items():
            lines += ["", *_head_lines(name, figures)]
        if self.score is not None:
            lines += ["", *_score_lines(self.score)]
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
    views: Views = "one",
    threads: int | None = None,
    strict_data: bool = False,
    score_weight: Sequence[str] = (),
    options: DataOptions | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on a data set, or on one part of it.

    model: a model, or what `resnets.load` takes. data: what `open_data` takes, or what it gave.
    split: the part; None is `test`, else `val`, else all. batch: pictures at a time; None is by their size.
    threads: of the processor; None is all of them.
    precision: of the computation; with bf16 close calls are made in fp32 (`evaluation.close_calls`).
    views: what the answer to a picture is the mean of: `one`, itself; `flip`, its mirror image too; `flip-shift`,
    both also moved by a pixel. strict_data: a file that would be left out is an error.
    score_weight: how much each of several heads counts in the score, as texts NAME=X; without any as in training.
    options: the columns of a table, where its columns are not called as the model's heads and cannot be guessed.
    out: where to write the answers to every picture (Parquet). A folder (one that is there, or text that ends in
    `/`) gets them in parts and then whole, as `predictions.parquet`; the same call goes on after what is done.
    Several processes (torchrun) need a folder and share the work: the first gives the figures, the others an
    Evaluation without any. progress: called with pictures done and in all.
    Classes are matched by id. Raises DataError where the data has classes that the model does not know.
    """
    from resnets.evaluation.close_calls import backend_for
    from resnets.evaluation.measure import figures_of, score_of
    from resnets.evaluation.parts import own_device, wants_folder
    from resnets.evaluation.predict import batch_for, threads_of
    from resnets.evaluation.shared import Work
    from resnets.weights.loading import load

    started = time.monotonic()
    if batch is not None and batch < 1:
        raise UsageError(f"--batch must be at least 1, got {batch}")
    if out is not None and not Path(out).parent.is_dir():
        raise UsageError(f"cannot write {printable(str(out))}: its folder is not there; choose another --out")
    place = world()
    in_parts = wants_folder(out, place)
    model = load(model) if isinstance(model, str | Path) else model
    batch = batch or batch_for(model.preprocess)
    look = partial(_opened, model, data, strict_data, options)
    work = None
    if in_parts and out is not None:
        asked = {"data": str(getattr(data, "origin", data)), "options": repr(options.given() if options else {})}
        asked |= {"split": str(split), "precision": precision, "views": views}
        work = Work(Path(out), place, model, asked=asked, batch=batch)
    opened, read_as = look() if work is None else work.opened(look)
    weights = _score_weights(model, score_weight)
    matches = _matches(model, opened)
    part, rows = _rows(opened, split)
    used = threads or default_threads()
    with threads_of(threads if place.size == 1 else used):
        where = own_device(device, place)
        backend = backend_for(model, device=where, precision=precision, views=views)
        classified = partial(_classified, backend, opened, model.preprocess, batch=batch, threads=used)
        outputs = classified(rows, progress) if work is None else work.outputs(opened, rows, classified, progress)
    if strict_data and outputs.failed:
        row, reason = next(iter(outputs.failed.items()))
        raise DataError(
            f"{len(outputs.failed)} pictures cannot be read, such as {some([opened.path(row)])}: {reason}"
        )
    found = Evaluation(
        data=opened.name,
        split=part,
        n=len(outputs.rows),
        precision=precision,
        device=where,
        views=views,
        heads={},
        left_out=_left_out(opened, outputs),
        seconds=time.monotonic() - started,
    )
    if not place.leads:
        return found
    figures = figures_of(outputs, opened, heads=model.heads, matches=matches)
    score = score_of(outputs, opened, figures, heads=model.heads, matches=matches, weights=weights)
    written: tuple[Path, ...] = ()
    if out is not None:
        file = Path(out) / PREDICTIONS if in_parts else Path(out)
        written = (_write(file, outputs, opened, model, matches, views),)
    notes = read_as + _notes(model, opened, part, asked=split is not None, matches=matches)
    if views != "one" and opened.traits.mirror is False:
        notes.append("mirror images of these pictures may be of other classes: their views can make answers worse")
    for note in notes:
        log.warning("%s", note)
    return replace(
        found,
        heads=figures,
        score=score,
        notes=tuple(notes),
        outputs=written,
        seconds=time.monotonic() - started,
    )


def _classified(
    backend: Backend,
    data: Data,
    preprocess: Preprocess,
    rows: Rows,
    progress: Progress | None,
    *,
    batch: int,
    threads: int,
) -> Outputs:
    """The logits of some rows."""
    from resnets.data.batches import pictures_of
    from resnets.evaluation.predict import classify

    pictures = pictures_of(data, rows, preprocess=preprocess)
    return classify(backend, pictures, batch=batch, threads=threads, progress=progress)


def _opened(
    model: Model, data: Data | Path | str, strict: bool, options: DataOptions | None
) -> tuple[Data, list[str]]:
    """The data, and how it was read where that was taken from the model."""
    from resnets.data.dataset import Data, open_data
    from resnets.data.options import options_as_trained

    if isinstance(data, Data):
        return data, []
    notes = []
    if (options is None or not options.given()) and isinstance(data, str | Path):
        options = options_as_trained(model.origin.get("data"), str(data))
        if options is not None:
            flags = ", ".join(map(flag_of, options.given()))
            notes.append(f"the columns and parts are those of training: {flags}")
    return open_data(data, strict=strict, for_training=False, options=options, expected=model.heads), notes


def _matches(model: Model, data: Data) -> list[Match]:
    from resnets.evaluation.matching import match_heads
    from resnets.weights.modelfile import UNNAMED

    return match_heads(model.heads, data.heads, unnamed=model.origin.get(UNNAMED, ()), where=printable(data.name))


def _score_weights(model: Model, given: Sequence[str]) -> dict[str, float]:
    """The heads' weights in the score: as given, else those that the model was trained by."""
    from resnets.evaluation.score import WEIGHTS, head_weights

    stored = model.origin.get(WEIGHTS)
    if given or not isinstance(stored, dict) or len(model.heads) < 2:
        return head_weights(given, model.heads, flag="--score-weight")
    texts = [f"{name}={weight}" for name, weight in stored.items() if name in model.heads]
    return head_weights(texts, model.heads, flag="--score-weight")


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
    stated = data.parts_stated or (part == "test" and not data.traits.three_way)  # then only validation was drawn
    if not asked and not stated and not trained_here and part != "all":
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


def _write(path: Path, outputs: Outputs, data: Data, model: Model, matches: list[Match], views: Views) -> Path:
    """Write the answers to every picture."""
    from resnets.evaluation.measure import predictions_of
    from resnets.evaluation.predictions import save_predictions
    from resnets.weights.modelfile import tensors_sha256

    tensors = tensors_sha256(model.network.state_dict())
    answers = predictions_of(outputs, data, heads=model.heads, matches=matches, model=tensors)
    try:
        save_predictions(path, replace(answers, views=views))
    except OSError as error:
        raise UsageError(f"cannot write {printable(str(path))}: {error.strerror}; choose another --out") from error
    return path


def _score_lines(score: Score) -> list[str]:
    weights = ", ".join(f"{printable(name)} {weight:g}" for name, weight in score.weights.items())
    lines = [f"score, the mean over the labels ({weights}), with its 95% interval"]
    lines.append(f"  {'score':<18}{score.value:>8.4f}   {score.interval[0]:.4f} to {score.interval[1]:.4f}")
    if score.sklearn != score.value:
        lines.append(f"  {'as scikit-learn':<18}{score.sklearn:>8.4f}   {NOT_THERE}")
    return lines


def _head_lines(name: str, figures: Figures) -> list[str]:
    from resnets.evaluation.metrics import HeadFigures

    return _single_lines(name, figures) if isinstance(figures, HeadFigures) else _multi_lines(name, figures)


def _multi_lines(name: str, figures: MultiFigures) -> list[str]:
    rows: list[tuple[str, float | None, tuple[float, float] | None]] = [
        ("mean avg precision", figures.map, figures.map_interval),
        ("f1, all cells", figures.f1_micro, figures.f1_micro_interval),
        ("f1, mean of classes", figures.f1_macro, figures.f1_macro_interval),
        ("exact match", figures.exact_match, figures.exact_match_interval),
        ("loss", figures.loss, figures.loss_interval),
    ]
    lines = [f"{printable(name)}: n = {figures.n:,}, several classes a picture, with 95% intervals"]
    lines += [
        f"  {word:<20}{value:>6.4f}   {interval[0]:.4f} to {interval[1]:.4f}"
        for word, value, interval in rows
        if value is not None and interval is not None
    ]
    measured = [(key, one) for key, one in figures.classes.items() if one.n or one.precision is not None]
    shown, heading = measured, "class"
    if len(measured) > LISTED:
        shown = sorted(measured, key=lambda item: -1.0 if item[1].f1 is None else item[1].f1)[:LISTED]
        heading = f"class ({LISTED} of {len(measured):,}, lowest f1 first)"
    words = {key: _class_words(key, one.name) for key, one in shown}
    width = max(len(heading), *map(len, words.values())) if words else len(heading)
    lines.append(f"  {heading:<{width}}  above  precision   recall      f1  avg precision       n")
    for key, one in shown:
        cells = [_percent(value) or "-" for value in (one.precision, one.recall)]
        f1, average = ("-" if value is None else f"{value:.4f}" for value in (one.f1, one.average_precision))
        lines.append(
            f"  {words[key]:<{width}}  {one.threshold:>5.2f}  {cells[0]:>9}  {cells[1]:>7}  {f1:>6}  {average:>13}"
            f"  {one.n:>6,}"
        )
    return lines


def _class_words(key: str, name: str) -> str:
    return printable(name if name == key else f"{name} ({key})")


def _single_lines(name: str, figures: HeadFigures) -> list[str]:
    rows = [
        ("top-1", _percent(figures.top1), _percents(figures.top1_interval)),
        ("top-5", _percent(figures.top5), _percents(figures.top5_interval)),
        ("loss", f"{figures.loss:.4f}", "{:.4f} to {:.4f}".format(*figures.loss_interval)),
        ("macro recall", _percent(figures.macro_recall), _percents(figures.macro_recall_interval)),
        ("calibration error", _percent(figures.calibration_error), _percents(figures.calibration_error_interval)),
    ]
    if figures.macro_recall_sklearn != figures.macro_recall:
        rows.insert(4, ("as scikit-learn", _percent(figures.macro_recall_sklearn), NOT_THERE))
    lines = [f"{printable(name)}: n = {figures.n:,}, with 95% intervals"]
    lines += [f"  {word:<18}{value:>8}   {interval}" for word, value, interval in rows if value]
    measured = [(key, one) for key, one in figures.classes.items() if one.n or one.precision is not None]
    shown, heading = measured, "class"
    if len(measured) > LISTED:
        shown = sorted(measured, key=lambda item: (item[1].recall is None, item[1].recall))[:LISTED]
        heading = f"class ({LISTED} of {len(measured):,}, lowest recall first)"
    words = {key: _class_words(key, one.name) for key, one in shown}
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
