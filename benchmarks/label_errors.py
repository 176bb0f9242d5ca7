"""How many planted label errors `resnets inspect --labels` finds, and how many of those it lists are planted.

    python benchmarks/label_errors.py digits
    python benchmarks/label_errors.py fashion-mnist --rate 0.05 --seed 0
    python benchmarks/label_errors.py DATA --model MODEL --most 5000

A share of the labels of the training and validation pictures is exchanged for another class, drawn evenly; what
the data itself has wrong is left as it is, and counts as a false alarm. Printed: the precision and recall of the
list with their 95% intervals, and how often the suggestion is the label that was there before.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

import resnets
from resnets.base.machine import processor_name
from resnets.base.streams import picture_uniform
from resnets.data.dataset import Data
from resnets.data.source import TRAIN, VAL
from resnets.data.sources.manifest import ManifestSource
from resnets.evaluation.statistics import wilson
from resnets.understanding.doctor.inspection import Inspection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="what resnets train takes")
    parser.add_argument("--rate", type=float, default=0.05, help="the share of wrong labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="training and validation pictures at most, chosen by hash")
    parser.add_argument("--model", help="whose features the labels are judged by")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    data, truth = plant(resnets.open_data(given.data), rate=given.rate, seed=given.seed, most=given.most)
    started = time.monotonic()
    found = resnets.inspect(data, labels=True, model=given.model, threads=given.threads, progress=tell)
    record = measured(data, truth, found) | {
        "data": given.data,
        "rate": given.rate,
        "seed": given.seed,
        "said": found.notes,
        "seconds": round(time.monotonic() - started, 1),
        "processor": processor_name(),
    }
    print(json.dumps(record, indent=2))


def plant(data: Data, *, rate: float, seed: int, most: int | None) -> tuple[Data, dict[int, int]]:
    """The data with wrong labels, and what they were before: row -> class."""
    (head,) = data.heads
    labels = data.labels(head).copy()
    rows = np.sort(np.concatenate([data.rows(TRAIN), data.rows(VAL)]))
    order = rows[np.argsort(picture_uniform(rows, seed=seed, epoch=0, purpose="chosen")[:, 0])]
    used = order[:most]
    wrong = used[: round(rate * len(used))]
    draws = picture_uniform(wrong, seed=seed, epoch=0, purpose="wrong class")[:, 0]
    classes = len(data.heads[head])
    truth = dict(zip(wrong.tolist(), labels[wrong].tolist(), strict=True))
    labels[wrong] = (labels[wrong] + 1 + (draws * (classes - 1)).astype(np.int64)) % classes
    manifest = data.manifest.leaving_out(dict.fromkeys(order[len(used) :].tolist(), "not used"))
    ids = np.array([*data.heads[head].ids, None], dtype=object)[labels].tolist()
    place = manifest.table.column_names.index(head)
    manifest = replace(manifest, table=manifest.table.set_column(place, head, pa.array(ids, pa.string())))
    return Data(source=ManifestSource(manifest, data.source), manifest=manifest, notes=[]), truth


def measured(data: Data, truth: dict[int, int], found: Inspection) -> dict[str, Any]:
    """Precision and recall of the list, and how often its suggestion is what the label was."""
    (head,) = data.heads
    index = data.heads[head].index()
    finding = found.finding("labels")
    listed = finding.rows if finding is not None else ()
    suggested = found.manifest.table["suggested"].to_pylist()
    hits = [row for row in listed if row in truth]
    right = sum(index[suggested[row]] == truth[row] for row in hits)
    return {
        "pictures": len(data.rows(TRAIN)) + len(data.rows(VAL)),
        "planted": len(truth),
        "listed": len(listed),
        "precision": len(hits) / max(1, len(listed)),
        "precision_interval": wilson(len(hits), len(listed)),
        "recall": len(hits) / max(1, len(truth)),
        "recall_interval": wilson(len(hits), len(truth)),
        "suggestion_right": right / max(1, len(hits)),
    }


def tell(label: str, done: int, total: int | None) -> None:
    """A line now and then."""
    if total is not None and done == total:
        print(f"{label}: {done:,}", flush=True)


if __name__ == "__main__":
    main()
