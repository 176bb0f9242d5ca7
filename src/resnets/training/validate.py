"""Validation inside training: top-1 and loss in training precision, called so wherever they are shown."""

from typing import Any

from resnets.data.batches import Pictures
from resnets.evaluation.metrics import per_picture
from resnets.evaluation.predict import Precision, TorchBackend, classify
from resnets.weights.modelfile import Model

BATCH_SMALL, BATCH_LARGE = 256, 32  # pictures, up to 64 pixels a side and above


def validation_figures(
    model: Model, pictures: Pictures, *, device: str, precision: Precision, threads: int
) -> tuple[dict[str, Any], dict[int, str]]:
    """`val_top1` and `val_loss` (of several heads, their means), and `val_n`; and row -> reason of what failed.

    Pictures without a label, or that cannot be read, do not count.
    """
    batch = BATCH_SMALL if max(pictures.preprocess.size) <= 64 else BATCH_LARGE
    backend = TorchBackend(model, device=device, precision=precision)
    outputs = classify(backend, pictures, batch=batch, threads=threads)
    top1, loss, count = [], [], 0
    for head in model.heads:
        truth = pictures.labels[head][outputs.rows]
        known = truth >= 0
        if not known.any():
            continue
        found = per_picture(outputs.logits[head][known], truth[known])
        top1.append(float(found.right.mean()))
        loss.append(float(found.loss.mean()))
        count = max(count, len(found.truth))
    heads = max(1, len(top1))
    return {"val_top1": sum(top1) / heads, "val_loss": sum(loss) / heads, "val_n": count}, outputs.failed
