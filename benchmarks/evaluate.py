"""Evaluation throughput from JPEG files beside a plain fp32 loop, in turns, and how many answers are the same.

    python benchmarks/evaluate.py MODEL DATA --rounds 5
    python benchmarks/evaluate.py MODEL DATA --rounds 1 --pictures 32 --passes 1     # does it work?

MODEL: what `resnets.load` takes, with preprocessing of `resize: crop` and rgb. DATA: what `resnets evaluate`
takes. Rates are pictures a second of the last of `--passes` passes over the pictures, from the first asked for to
the last answer: decoding and the network, without start-up and the figures that `resnets evaluate` then computes.
  resnets bf16, resnets fp32   what `resnets evaluate --precision` runs: `classify` with its batch and threads
  plain                        a DataLoader with a worker a core, Pillow, torchvision's Resize, CenterCrop,
                               ToTensor and Normalize, batches of 64, the same network in fp32, NCHW, eager
Every run appends a line to `--out`; a run that is there is not repeated.
"""

import argparse
import io
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from resnets.base.machine import cores
from rounds import Comparison, Record, allow_torchvision, run_rounds, side_of, table

BATCH = 64  # of the plain loop; more is no faster on a processor
SIDES = ("resnets bf16", "resnets fp32", "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=10_000, help="at most, evenly chosen (default 10,000)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--out", type=Path, default=Path("evaluate.jsonl"))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(options.side, options.job)))
        return
    if options.data is None:
        parser.error("MODEL and DATA are needed")
    job = {"model": options.model, "data": options.data, "passes": options.passes, "pictures": options.pictures}
    sides = [side for side in SIDES if side in options.sides]
    comparison = Comparison(
        case=f"evaluation, {Path(options.model).name}",
        settings=job,
        sides={side: partial(side_of, __file__, side, job) for side in sides},
    )
    records = run_rounds([comparison], rounds=options.rounds, out=options.out)
    print(f"\n{records[0]['machine']}, {records[0]['date']}, n = {len(records[0]['answers']):,} pictures\n")
    print(table(records, [comparison]))
    print("\n" + "\n".join(agreements(records)))


def agreements(records: list[Record]) -> list[str]:
    """How many answers of each side are those of the plain loop, and how far the logits are apart at most."""
    answers = {record["side"]: record for record in records}
    plain = answers.pop("plain", None)
    if plain is None:
        return []
    lines = []
    for side, record in answers.items():
        same = sum(a == b for a, b in zip(record["answers"], plain["answers"], strict=True))
        apart = max(abs(a - b) for a, b in zip(record["top_logits"], plain["top_logits"], strict=True))
        count = len(plain["answers"])
        lines.append(f"{side}: {same:,} of {count:,} answers as plain's; largest logits up to {apart:.2g} apart")
    return lines


def run_side(side: str, job: Record) -> Record:
    """The rate of a side, its answers (class positions) and the logit of each."""
    import numpy as np

    from resnets.data.batches import pictures_of
    from resnets.data.dataset import open_data
    from resnets.weights.loading import load

    model, data = load(job["model"]), open_data(job["data"], for_training=False)
    rows = data.rows("all")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(job["pictures"], len(rows))).round().astype(int))]
    pictures = pictures_of(data, rows, preprocess=model.preprocess)
    run = plain_pass if side == "plain" else partial(resnets_pass, precision=side.split()[1])
    for _ in range(job["passes"]):
        started = time.monotonic()
        logits = run(model, pictures)
        seconds = time.monotonic() - started
    top = logits.max(axis=1).round(4)
    return {"rate": len(rows) / seconds, "answers": logits.argmax(axis=1).tolist(), "top_logits": top.tolist()}


def resnets_pass(model: Any, pictures: Any, *, precision: str) -> Any:
    """Logits (n, K) of all pictures, as `resnets evaluate` computes them."""
    from resnets.evaluation.predict import TorchBackend, batch_for, classify, threads_of

    with threads_of(cores()):
        backend = TorchBackend(model, precision=precision)
        outputs = classify(backend, pictures, batch=batch_for(model.preprocess), threads=cores())
    assert not outputs.failed, outputs.failed
    (logits,) = outputs.logits.values()
    return logits


def plain_pass(model: Any, pictures: Any) -> Any:
    """Logits (n, K) of all pictures, as most scripts compute them."""
    allow_torchvision()
    import torch
    from PIL import Image
    from torchvision import transforms

    preprocess = model.preprocess
    assert (preprocess.resize, preprocess.channels) == ("crop", "rgb"), preprocess
    assert preprocess.size[0] == preprocess.size[1], "torchvision's Resize takes the shorter side"
    change = transforms.Compose(
        [
            transforms.Resize(
                round(preprocess.size[0] / preprocess.crop), transforms.InterpolationMode(preprocess.interpolation)
            ),
            transforms.CenterCrop(preprocess.size),
            transforms.ToTensor(),
            transforms.Normalize(preprocess.mean, preprocess.std),
        ]
    )

    class Photographs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(pictures.rows)

        def __getitem__(self, index: int) -> torch.Tensor:
            return change(Image.open(io.BytesIO(pictures.read(int(pictures.rows[index])))).convert("RGB"))

    network = model.network.eval()
    loader = torch.utils.data.DataLoader(Photographs(), batch_size=BATCH, num_workers=cores())
    with torch.no_grad():
        return torch.cat([network(images) for images in loader]).numpy()


if __name__ == "__main__":
    main()
