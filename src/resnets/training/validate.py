"""Validation inside training: figures in training precision, called so wherever they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from resnets.data.batches import Pictures
from resnets.evaluation.measure import Truth, labelled
from resnets.evaluation.metrics import macro_recall, per_picture
from resnets.evaluation.multilabel import precision_and_loss
from resnets.evaluation.predict import Backend, Outputs, Precision, Progress, TorchBackend, classify
from resnets.evaluation.score import OF_SCORE, combined
from resnets.training.distributed import Group
from resnets.weights.modelfile import Model

BATCH_SMALL, BATCH_LARGE = 256, 32  # pictures, up to 64 pixels a side and above
JUDGED_BY = ("val_score", "val_map", "val_top1")  # what chooses the best epoch: the first of these that there is


def validation_figures(
    model: Model,
    pictures: Pictures,
    *,
    group: Group,
    device: str,
    precision: Precision,
    threads: int,
    loss_weights: Mapping[str, float],
    score_weights: Mapping[str, float],
) -> tuple[dict[str, Any], dict[int, str]]:
    """`val_loss`, `val_n` and what the model is judged by; and row -> reason of what failed.

    One head: `val_top1`, or `val_map` where it has several classes a picture. Several: `val_score`, their weighted
    mean, and `val_heads`, each one's own figures; the loss is weighted as in training.
    Pictures without a label, or that cannot be read, do not count.
    """
    batch = BATCH_SMALL if max(pictures.preprocess.size) <= 64 else BATCH_LARGE
    backend = TorchBackend(model, device=device, precision=precision)
    outputs = outputs_of(backend, pictures, group=group, batch=batch, threads=threads)
    return group.lead(lambda: (_figures(model, pictures, outputs, loss_weights, score_weights), outputs.failed))


def outputs_of(
    backend: Backend,
    pictures: Pictures,
    *,
    group: Group,
    batch: int,
    threads: int,
    progress: Progress | None = None,
) -> Outputs:
    """The outputs of all pictures in their order, each process having run its share; in the others that alone."""
    share = replace(pictures, rows=pictures.rows[group.share(len(pictures.rows))])
    return joined(group.gathered(classify(backend, share, batch=batch, threads=threads, progress=progress)))


def joined(outputs: Sequence[Outputs]) -> Outputs:
    """The outputs of several parts as one."""
    answered = [one for one in outputs if len(one.rows)]
    names = answered[0].logits if answered else {}
    return Outputs(
        rows=np.concatenate([one.rows for one in outputs]) if outputs else np.empty(0, dtype=np.int64),
        logits={name: np.concatenate([one.logits[name] for one in answered]) for name in names},
        failed={row: reason for one in outputs for row, reason in one.failed.items()},
    )


def _figures(
    model: Model,
    pictures: Pictures,
    outputs: Outputs,
    loss_weights: Mapping[str, float],
    score_weights: Mapping[str, float],
) -> dict[str, Any]:
    heads = {}
    for name, head in model.heads.items():
        truth: Truth = pictures.labels[name][outputs.rows]
        known = labelled(truth)
        if not known.any():
            continue
        logits, truth = outputs.logits[name][known], truth[known]
        if head.kind == "multi":
            mean_precision, loss = precision_and_loss(logits, truth)
            heads[name] = {"n": len(truth), "map": mean_precision, "loss": loss}
            continue
        found = per_picture(logits, truth)
        top1, loss = float(found.right.mean()), float(found.loss.mean())
        heads[name] = {"n": len(truth), "top1": top1, "loss": loss}
        if len(model.heads) > 1:
            heads[name]["macro_recall"] = macro_recall(truth, found.predicted)
    shared = {
        "val_loss": combined({name: one["loss"] for name, one in heads.items()}, loss_weights),
        "val_n": max((one["n"] for one in heads.values()), default=0),
    }
    return _judged(model, heads, score_weights) | shared


def _judged(
    model: Model, heads: Mapping[str, dict[str, Any]], score_weights: Mapping[str, float]
) -> dict[str, Any]:
    if len(model.heads) > 1:
        parts = {name: one[key] for name, one in heads.items() for key in OF_SCORE if key in one}
        return {"val_score": combined(parts, score_weights), "val_heads": heads}
    (name, head), *_ = model.heads.items()
    key = "map" if head.kind == "multi" else "top1"
    return {f"val_{key}": heads[name][key] if name in heads else 0.0}


def judged_by(figures: Mapping[str, Any]) -> tuple[str, float]:
    """The figure of `validation_figures` that chooses the best epoch, and its name."""
    name = next(name for name in JUDGED_BY if name in figures)
    return name, float(figures[name])


def flat(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures as trackers take them: `val_heads` as `val_HEAD_FIGURE`."""
    plain = {name: value for name, value in figures.items() if name != "val_heads"}
    of_heads = {
        f"val_{head}_{name}": value
        for head, values in figures.get("val_heads", {}).items()
        for name, value in values.items()
    }
    return plain | of_heads
