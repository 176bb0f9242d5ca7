"""The end of a run: the best network recalibrated where that helps, measured in fp32, its predictions kept."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from resnets.base.streams import order
from resnets.data.augment.batch import normalise
from resnets.data.batches import evaluation_batches
from resnets.data.source import TEST, VAL
from resnets.evaluation.metrics import head_figures
from resnets.evaluation.predict import Outputs, TorchBackend, classify
from resnets.evaluation.predictions import PartOutputs, write_predictions
from resnets.training import run as folder
from resnets.training.loop import Training
from resnets.training.recalibrate import recalibrate
from resnets.training.validate import validation_figures
from resnets.weights.modelfile import Model, load, save

RECALIBRATION_PICTURES = 10_000
RECALIBRATION_BATCH = 128


def finish(training: Training) -> tuple[str | None, dict[str, Any]]:
    """Finish the model file, write `predictions.parquet`, log the `end`; gives the part and its figures.

    The figures are of the test part, else of the validation part, called so; in fp32.
    """
    path = training.run / folder.MODEL
    model = load(path, network=training.foreign())
    if training.plan.config.recalibrate:
        model = recalibrated(training, model)
    outputs = {part: outputs_of(training, model, part) for part in (VAL, TEST) if training.plan.pictures[part]}
    figures = {part: part_figures(training, model, found) for part, found in outputs.items()}
    split = next((part for part in (TEST, VAL) if part in figures), None)
    save(path, replace(model, origin=model.origin | {"figures": without_classes(figures)}))
    write_predictions(
        training.run / folder.PREDICTIONS,
        [PartOutputs(part=part, outputs=found) for part, found in outputs.items()],
        data=training.data,
    )
    result = figures[split] if split else {"n": 0, "heads": {}}
    training.record("end", step=training.position.step, split=split, figures=figures)
    return split, result


def recalibrated(training: Training, model: Model) -> Model:
    """The model with batch norm's statistics of the training pictures, unless validation shows it to be worse."""
    changed = replace(model, network=copy.deepcopy(model.network))
    device = training.device
    count = recalibrate(changed.network.to(device), training_images(training, model))
    if not count:
        return model
    losses = []
    if training.judges():
        for candidate in (model, changed):
            losses.append(
                validation_figures(
                    candidate,
                    training.gallery.evaluation(VAL, model.preprocess),
                    device=str(device),
                    precision="fp32",
                    threads=training.plan.config.threads or 1,
                )["val_loss"]
            )
    better = not losses or losses[1] <= losses[0]
    kept = "kept" if better else "not kept: the validation loss would be higher"
    training.record(
        "recalibrated", norms=count, kept=better, val_losses=losses, text=f"batch norm recalibrated, {kept}"
    )
    return changed if better else model


def training_images(training: Training, model: Model) -> Iterator[torch.Tensor]:
    """Training pictures as evaluation sees them, normalised, in batches; at most RECALIBRATION_PICTURES."""
    pictures = training.gallery.evaluation("train", model.preprocess)
    chosen = order(pictures.rows, seed=training.plan.config.seed, epoch=0)[:RECALIBRATION_PICTURES]
    batch = RECALIBRATION_BATCH if max(model.preprocess.size) <= 64 else training.plan.config.batch or 1
    sample = replace(pictures, rows=chosen)
    with evaluation_batches(sample, batch=batch, threads=training.plan.config.threads or 1) as batches:
        for one in batches:
            if len(one.rows) > 1:
                yield normalise(
                    one.images.to(training.device), mean=model.preprocess.mean, std=model.preprocess.std
                )


def outputs_of(training: Training, model: Model, part: str) -> Outputs:
    backend = TorchBackend(model, device=str(training.device), precision="fp32")
    return classify(
        backend,
        training.gallery.evaluation(part, model.preprocess),
        batch=32,
        threads=training.plan.config.threads or 1,
        progress=lambda done, total: training.on_event(
            {"event": "measuring", "part": part, "done": done, "total": total}
        ),
    )


def part_figures(training: Training, model: Model, outputs: Outputs) -> dict[str, Any]:
    """As `evaluate` gives them: n, and a head its figures."""
    heads = {}
    for name, head in model.heads.items():
        truth = training.data.labels(name)[outputs.rows]
        known = truth >= 0
        if known.any():
            heads[name] = head_figures(outputs.logits[name][known], truth[known], head=head).to_json()
    return {"n": len(outputs.rows), "heads": heads}


def without_classes(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures that go into the model file: those of each class stay in the run's log."""
    return {
        part: {
            "n": values["n"],
            "heads": {
                name: {key: value for key, value in head.items() if key != "classes"}
                for name, head in values["heads"].items()
            },
        }
        for part, values in figures.items()
    }
