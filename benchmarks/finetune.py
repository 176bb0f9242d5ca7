"""Fine-tuning beside a frozen probe and beside training from scratch, on the same held-out pictures.

    python benchmarks/finetune.py DATA --weights resnet18.safetensors --out finetune
    python benchmarks/finetune.py DATA --weights resnet18.safetensors --out finetune --epochs 15 \\
        --finetuned "--lr 0.005" --scratch "--lr 0.02"

DATA: what `resnets train` takes, with a `val` part. The probe is a logistic regression on the standardised pooled
features of the weights' own network, which are not trained. Then, in turns, a seed at a time: `resnets train DATA
--weights FILE`, and the same network from random weights. Every run is a run folder under --out; a line of
results.jsonl has its figures and the pictures it has wrong. What is done already is not done again, and a run that
was stopped goes on.

The table: right of n with Wilson's interval; against the probe, the pictures that only one of them has right and
McNemar's exact test; over the seeds of a kind, the mean difference from the probe with a bootstrap over pictures.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import resnets
from resnets.base.files import write_text
from resnets.data.batches import pictures_of
from resnets.data.dataset import Data
from resnets.evaluation.predict import BATCH, TorchBackend, classify
from resnets.evaluation.predictions import load_predictions
from resnets.evaluation.statistics import bootstrap, mcnemar, wilson
from resnets.labels import LABEL
from resnets.training.run import PREDICTIONS
from resnets.weights.modelfile import Model

PENALTY = 1e-3  # of the probe: half the squared weights' share in the mean loss
KINDS = ("finetuned", "scratch")


def probe(data: Data, start: Model) -> list[str]:
    """The held-out pictures that the probe has wrong."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    body = Model(network=resnets.Backbone(start.network).network, heads={}, preprocess=start.preprocess)
    features, labels = {}, {}
    for part in ("train", "val"):
        pictures = pictures_of(data, data.rows(part), preprocess=body.preprocess)
        outputs = classify(TorchBackend(body), pictures, batch=BATCH, threads=2)
        features[part], labels[part] = outputs.logits["features"], data.labels(LABEL)[outputs.rows]
        rows = outputs.rows
    regression = LogisticRegression(C=1 / (PENALTY * len(labels["train"])), max_iter=5000)
    model = make_pipeline(StandardScaler(), regression).fit(features["train"], labels["train"])
    wrong = model.predict(features["val"]) != labels["val"]
    return [data.path(row) for row in rows[wrong]]


def trained(data: str, run: Path, flags: list[str]) -> list[str]:
    """The held-out pictures that a run has wrong; trains it, or goes on with it, where it is not finished."""
    program = str(Path(sys.executable).with_name("resnets"))
    if not (run / PREDICTIONS).exists():
        started = (run / "config.toml").exists()
        how = ["--resume", str(run)] if started else [data, *flags, "--runs", str(run.parent), "--name", run.name]
        subprocess.run([program, "train", *how, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    found = load_predictions(run / PREDICTIONS)
    answers = found.heads[LABEL]
    right = answers.logits.argmax(1) == answers.truth
    return [
        path for path, part, ok in zip(found.paths, found.splits, right, strict=True) if part == "val" and not ok
    ]


def table(lines: list[dict[str, Any]], classes: dict[str, int]) -> str:
    """classes: the class of every held-out picture, by path."""
    n = len(classes)
    right = [np.array([path not in set(line["wrong"]) for path in classes]) for line in lines]
    floor = right[0]  # the probe's
    rows = [f"{'':<12} right of {n}   top-1, 95% interval    only probe  only this       p  seconds"]
    for line, own in zip(lines, right, strict=True):
        name = line["kind"] if line["kind"] == "probe" else f"{line['kind']} {line['seed']}"
        low, high = wilson(int(own.sum()), n) or (0.0, 0.0)
        figures = f"{name:<12} {own.sum():>12}   {own.mean():.1%}, {low * 100:.1f} to {high:.1%}"
        lost, won = int((floor & ~own).sum()), int((own & ~floor).sum())
        against = f"{lost:>12} {won:>10} {mcnemar(lost, won):>7.3f}" if line["kind"] != "probe" else ""
        rows.append(f"{figures}{against:<31} {line['seconds']:>8.0f}")
    for kind in KINDS:
        runs = np.array([own for line, own in zip(lines, right, strict=True) if line["kind"] == kind])
        if len(runs):
            rows.append(f"{kind}, {len(runs)} seeds: {overall(runs, floor, np.array([*classes.values()]))}")
    return "\n".join(rows)


def overall(runs: npt.NDArray[np.bool_], floor: npt.NDArray[np.bool_], classes: npt.NDArray[np.int64]) -> str:
    """Several seeds (s, n) beside the probe (n,), in one line."""
    counts, n = runs.sum(1), runs.shape[1]
    less = runs.mean(0) - floor  # a picture: the share of the seeds that have it right, less the probe's
    ((low, high),) = bootstrap(classes, lambda rows: np.array([less[rows].mean()]))
    return (
        f"median {np.median(counts):g} of {n}, {counts.min()} to {counts.max()}; the mean less the probe's: "
        f"{less.mean() * 100:+.2f} points, 95% interval {low * 100:+.2f} to {high * 100:+.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the folder of results.jsonl and of the runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="which runs; the probe always")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--finetuned", type=shlex.split, default=[], help="further flags of the fine-tuned runs")
    parser.add_argument("--scratch", type=shlex.split, default=[], help="further flags of the runs from scratch")
    options = parser.parse_args()
    data = resnets.open_data(options.data)
    rows = data.rows("val")
    classes = {data.path(row): int(data.labels(LABEL)[row]) for row in rows}
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []

    start = resnets.load(options.weights)
    epochs, weights, network = str(options.epochs), str(options.weights), start.origin["network"]
    flags = {
        "probe": [],
        "finetuned": ["--weights", weights, "--epochs", epochs, *options.finetuned],
        "scratch": ["--model", network, "--weights", "none", "--epochs", epochs, *options.scratch],
    }
    for kind, seed in [("probe", 0), *((kind, seed) for seed in range(options.seeds) for kind in options.kinds)]:
        done = next((line for line in lines if (line["kind"], line["seed"]) == (kind, seed)), None)
        if done is not None and done["flags"] != flags[kind]:
            sys.exit(f"{results} has {kind} {seed} with {shlex.join(done['flags'])}; choose another --out")
        if done is not None:
            continue
        started = time.monotonic()
        if kind == "probe":
            wrong = probe(data, start)
        else:
            seeded = [*flags[kind], "--seed", str(seed)]
            wrong = trained(options.data, options.out / f"{kind}-{seed}", seeded)
        seconds = time.monotonic() - started
        about = {"kind": kind, "seed": seed, "n": len(rows), "flags": flags[kind], "seconds": seconds}
        lines.append({**about, "wrong": wrong})
        write_text(results, "".join(json.dumps(line) + "\n" for line in lines))
        print(f"{kind} {seed}: {len(rows) - len(wrong)} of {len(rows)} right, {seconds:.0f} s", flush=True)
    print(table(lines, classes))


if __name__ == "__main__":
    main()
