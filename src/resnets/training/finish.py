"""The end of a run: the best network recalibrated where that helps, measured in fp32, its predictions kept."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from resnets.data.source import TEST, TRAIN, VAL
from resnets.evaluation.matching import Match, match_heads
from resnets.evaluation.measure import figures_of, predictions_of, score_of, truth_of
from resnets.evaluation.multilabel import best_thresholds
from resnets.evaluation.predict import Outputs, TorchBackend
from resnets.evaluation.predictions import save_predictions
from resnets.labels import Head
from resnets.networks.resnet import ResNet, build
from resnets.training import run as folder
from resnets.training.loop import Training
from resnets.training.recalibrate import recalibrate
from resnets.training.validate import joined, outputs_of
from resnets.weights.modelfile import Model, load, save, tensors_sha256

RECALIBRATION_PICTURES = 10_000
RECALIBRATION_BATCH = 128


def finish(training: Training) -> tuple[str | None, dict[str, Any]]:
    """Finish the model file, write `predictions.parquet`, log the `end`; gives the part and its figures.

    The figures are of the test part, else of the validation part, called so; in fp32. Several processes share the
    pictures; the first one writes.
    """
    model = best_model(training)
    if training.plan.config.recalibrate:
        model = recalibrated(training, model)
    outputs = {part: measured(training, model, part) for part in (VAL, TEST) if training.plan.pictures[part]}
    return training.group.lead(lambda: written(training, model, outputs))


def best_model(training: Training) -> Model:
    """What the model file holds, in every process."""
    if training.group.leads:
        model = load(training.run / folder.MODEL, network=training.foreign())
    else:
        model = replace(training.model({}), network=blank(training.learner.network))
    training.group.same(model.network)
    return model


def blank(network: nn.Module) -> nn.Module:
    """A network that the tensors of such a one fit into."""
    return build(network.spec) if isinstance(network, ResNet) else copy.deepcopy(network).cpu()


def written(training: Training, model: Model, outputs: Mapping[str, Outputs]) -> tuple[str | None, dict[str, Any]]:
    """Everything that the end of a run writes, from the outputs of its parts."""
    for found in outputs.values():
        training.note_bad(found.failed)
    if training.position.bad:
        training.data.manifest.leaving_out(training.position.bad).write(training.run / folder.MANIFEST)
    matches = match_heads(model.heads, training.data.heads)
    if VAL in outputs:
        model = replace(model, heads=with_thresholds(training, model.heads, outputs[VAL], matches))
    figures = {part: part_figures(training, model, found, matches) for part, found in outputs.items()}
    split = next((part for part in (TEST, VAL) if part in figures), None)
    origin = model.origin | {"figures": without_classes(figures)}
    save(training.run / folder.MODEL, replace(model, origin=origin))
    table = predictions_of(
        joined(list(outputs.values())),
        training.data,
        heads=model.heads,
        matches=matches,
        model=tensors_sha256(model.network.state_dict()),
    )
    save_predictions(training.run / folder.PREDICTIONS, table)
    result = figures[split] if split else {"n": 0, "heads": {}, "score": None}
    training.record("end", step=training.position.step, split=split, figures=figures)
    return split, result


def recalibrated(training: Training, model: Model) -> Model:
    """The model with batch norm's statistics of the training pictures, unless validation shows it to be worse."""
    changed = replace(model, network=copy.deepcopy(model.network))
    device = training.device
    part = max(2, (training.plan.config.batch or 1) // training.group.world.size)  # what fits into memory
    batch = RECALIBRATION_BATCH if max(model.preprocess.size) <= 64 else part
    pictures = training.gallery.normalised(TRAIN, model.preprocess, batch=batch, most=RECALIBRATION_PICTURES)
    with training.learner.autocast:  # as training saw them
        count = recalibrate(changed.network.to(device), (images.to(device) for images in pictures))
    training.group.same(changed.network)
    if not count:
        return model
    losses = []
    if training.judges():
        for candidate in (model, changed):
            figures, _ = training.validation_figures(candidate)
            losses.append(figures["val_loss"])
    better = not losses or losses[1] <= losses[0]
    kept = "kept" if better else "not kept: the validation loss would be higher"
    training.record(
        "recalibrated", norms=count, kept=better, val_losses=losses, text=f"batch norm recalibrated, {kept}"
    )
    return changed if better else model


def with_thresholds(
    training: Training, heads: Mapping[str, Head], found: Outputs, matches: Sequence[Match]
) -> dict[str, Head]:
    """The heads; those with several classes a picture with the thresholds that validation pictures choose."""
    chosen = dict(heads)
    for match in matches:
        head = heads[match.model]
        if head.kind == "multi" and len(found.rows):
            truth = truth_of(training.data, match, found.rows, head=head)
            chosen[match.model] = replace(head, thresholds=best_thresholds(found.logits[match.model], truth))
    return chosen


def part_figures(training: Training, model: Model, found: Outputs, matches: Sequence[Match]) -> dict[str, Any]:
    """What `evaluate` says of a part: n, figures a head, and the combined score of several."""
    about: dict[str, Any] = {"heads": model.heads, "matches": matches}
    figures = figures_of(found, training.data, **about)
    score = score_of(found, training.data, figures, **about, weights=training.score_weights)
    return {
        "n": len(found.rows),
        "heads": {name: head.to_json() for name, head in figures.items()},
        "score": None if score is None else score.to_json(),
    }


def measured(training: Training, model: Model, part: str) -> Outputs:
    backend = TorchBackend(model, device=str(training.device), precision="fp32")
    return outputs_of(
        backend,
        training.gallery.evaluation(part, model.preprocess),
        group=training.group,
        batch=32,
        threads=training.plan.config.threads or 1,
        progress=lambda done, total: training.on_event(
            {"event": "measuring", "part": part, "done": done, "total": total}
        ),
    )


def without_classes(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures that go into the model file: those of each class stay in the run's log."""
    return {
        part: {
            **values,
            "heads": {
                name: {key: value for key, value in head.items() if key != "classes"}
                for name, head in values["heads"].items()
            },
        }
        for part, values in figures.items()
    }
