"""Evaluation throughput from JPEG files beside a plain fp32 loop, in turns, and how many answers are the same.

    python benchmarks/evaluate.py MODEL DATA --rounds 5
    python benchmarks/evaluate.py MODEL DATA --rounds 1 --pictures 32 --passes 1     # does it work?

MODEL: what `resnets.load` takes, with preprocessing of `resize: crop` and rgb. DATA: what `resnets evaluate`
takes, stored as files of pictures. Rates are pictures a second of the last of `--passes` passes over the pictures,
from the first asked for to the last answer: decoding and the network, without start-up and the figures that
`resnets evaluate` then computes.
  evaluate bf16, evaluate fp32   what `resnets evaluate --precision` runs: `classify` with its batch and threads
  predict bf16, predict fp32     `resnets.predict` on a folder
  plain                          a DataLoader with a worker a core, Pillow, torchvision's Resize, CenterCrop,
                                 ToTensor and Normalize, batches of 64, the same network in fp32, NCHW, eager
  decode                         reading, decoding and fitting alone, on all cores
  network bf16, network fp32     the network alone, on all cores, as often over one batch as the pictures fill; its
                                 close calls are in fp32 (`resnets.evaluation.close_calls`), as everywhere but in
                                 `plain`, which has no bf16
Beside the table stands how near `evaluate` and `predict` come to 1 / (t_decode + t_network) of the same round. All
but `plain` keep the memory that they free, as the commands do. Every run appends a line to `--out`; a run that is
there is not repeated.
"""

import argparse
import io
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from resnets.base.machine import cores, keep_freed_memory
from rounds import Comparison, Record, allow_torchvision, run_rounds, side_of, spread, table

BATCH = 64  # of the plain loop; more is no faster on a processor
PRECISIONS = ("bf16", "fp32")
VERBS = ("evaluate", "predict")
SIDES = (
    *(f"{verb} {precision}" for verb in VERBS for precision in PRECISIONS),
    "plain",
    "decode",
    *(f"network {precision}" for precision in PRECISIONS),
)


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
    print(f"\n{records[0]['machine']}, {records[0]['date']}, n = {records[0]['pictures']:,} pictures\n")
    print(table(records, [comparison]))
    print("\n" + "\n".join([*agreements(records), *shares(records)]))


def agreements(records: list[Record]) -> list[str]:
    """How many answers of each side are those of the plain loop, and how far the logits are apart at most."""
    answers = {record["side"]: record for record in records if "answers" in record}
    plain = answers.pop("plain", None)
    if plain is None:
        return []
    lines = []
    for side, record in answers.items():
        same = sum(a == b for a, b in zip(record["answers"], plain["answers"], strict=True))
        line = f"{side}: {same:,} of {len(plain['answers']):,} answers as plain's"
        if "top_logits" in record:
            apart = max(abs(a - b) for a, b in zip(record["top_logits"], plain["top_logits"], strict=True))
            line += f"; largest logits up to {apart:.2g} apart"
        lines.append(line)
    return lines


def shares(records: list[Record]) -> list[str]:
    """How near each verb comes to decoding and network one after the other, each as fast as it is alone."""
    rates = {(record["side"], record["round"]): record["rate"] for record in records}
    lines = []
    for verb in VERBS:
        for precision in PRECISIONS:
            parts, found = ("decode", f"network {precision}"), []
            for turn in sorted({record["round"] for record in records}):
                if all((side, turn) in rates for side in (f"{verb} {precision}", *parts)):
                    both = sum(1 / rates[part, turn] for part in parts)  # seconds a picture
                    found.append(rates[f"{verb} {precision}", turn] * both)
            if found:
                lines.append(
                    f"{verb} {precision}: {spread(found)} of 1 / (t_decode + t_network), n = {len(found)}"
                )
    return lines


def run_side(side: str, job: Record) -> Record:
    """The rate of a side; of those that answer, the answers (class positions) and the logit of each."""
    if side != "plain":
        keep_freed_memory()
    import numpy as np

    from resnets.data.batches import pictures_of
    from resnets.data.dataset import open_data
    from resnets.weights.loading import load

    model, data = load(job["model"]), open_data(job["data"], for_training=False)
    rows = data.rows("all")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(job["pictures"], len(rows))).round().astype(int))]
    pictures = pictures_of(data, rows, preprocess=model.preprocess)
    kind, _, precision = side.partition(" ")
    pixels = first_batch(model, pictures) if kind == "network" else None
    with tempfile.TemporaryDirectory() as folder:
        if kind == "predict":
            for position, row in enumerate(rows.tolist()):
                (Path(folder) / f"{position:08}.jpg").write_bytes(pictures.read(row))
        passes = {
            "evaluate": partial(evaluate_pass, model, pictures, precision=precision),
            "predict": partial(predict_pass, model, folder, precision=precision),
            "plain": partial(plain_pass, model, pictures),
            "decode": partial(decode_pass, pictures),
            "network": partial(network_pass, model, pixels, len(rows), precision=precision),
        }
        for _ in range(job["passes"]):
            started = time.monotonic()
            found = passes[kind]()
            seconds = time.monotonic() - started
    return {"rate": len(rows) / seconds, "pictures": len(rows), **(found or {})}


def evaluate_pass(model: Any, pictures: Any, *, precision: str) -> Record:
    """The answers to all pictures, as `resnets evaluate` computes them."""
    from resnets.evaluation.close_calls import backend_for
    from resnets.evaluation.predict import batch_for, classify, threads_of

    with threads_of(cores()):
        backend = backend_for(model, device="cpu", precision=precision, views="one")
        outputs = classify(backend, pictures, batch=batch_for(model.preprocess), threads=cores())
    assert not outputs.failed, outputs.failed
    (logits,) = outputs.logits.values()
    return answers_of(logits)


def answers_of(logits: Any) -> Record:
    """logits: (n, K)."""
    return {"answers": logits.argmax(axis=1).tolist(), "top_logits": logits.max(axis=1).round(4).tolist()}


def predict_pass(model: Any, folder: str, *, precision: str) -> Record:
    from resnets.verbs.predict import predict

    (head,) = model.heads.values()
    position = head.index()
    found = list(predict(model, folder, precision=precision))
    assert all(one.error is None for one in found), found
    return {"answers": [position[likely[0].id] for one in found for likely in one.heads.values()]}


def decode_pass(pictures: Any) -> None:
    from resnets.data.batches import evaluation_batches

    with evaluation_batches(pictures, batch=BATCH, threads=cores()) as batches:
        for batch in batches:
            assert not batch.failed, batch.failed


def first_batch(model: Any, pictures: Any) -> Any:
    """uint8 (B, H, W, C): the pictures of one batch, decoded."""
    from resnets.data.batches import evaluation_batches
    from resnets.evaluation.predict import batch_for

    with evaluation_batches(pictures, batch=batch_for(model.preprocess), threads=cores()) as batches:
        return next(batches).images.permute(0, 2, 3, 1).numpy()


def network_pass(model: Any, pixels: Any, count: int, *, precision: str) -> None:
    """`count` pictures, in batches of the same ones."""
    from resnets.evaluation.close_calls import backend_for
    from resnets.evaluation.predict import threads_of

    with threads_of(cores()):
        backend = backend_for(model, device="cpu", precision=precision, views="one")
        for start in range(0, count, len(pixels)):
            backend.logits(pixels[: count - start])


def plain_pass(model: Any, pictures: Any) -> Record:
    """The answers to all pictures, as most scripts compute them."""
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
        return answers_of(torch.cat([network(images) for images in loader]).numpy())


if __name__ == "__main__":
    main()
