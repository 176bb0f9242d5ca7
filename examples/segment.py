"""Train a U-Net: a class for every pixel of a picture.

    python examples/segment.py DATA --void 11 --weights resnet18.safetensors --size 240x320

DATA has the folders images/train, images/val, masks/train and masks/val, and classes.txt, a class a line. A mask
has its picture's stem and size; its pixels' values are class ids, which are lines of classes.txt from 0. Pixels of
the id --void are in no loss and in no score.

Written to --out: model.safetensors, predictions.png (picture, truth, prediction) and figures.json, which is
printed as well. The last epoch is what counts, so the pictures of val choose nothing. On a processor the same
seed gives the same figures.

Shapes: B pictures, K classes, H×W pixels.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import resnets
from resnets.base import streams
from resnets.base.machine import has_bf16_units, keep_freed_memory, pick_device
from resnets.data.decode import decode
from resnets.evaluation.statistics import bootstrap
from resnets.labels import LABEL, Head
from resnets.networks import kernels
from resnets.preprocess import Preprocess
from resnets.training.config import parse_size
from resnets.training.recalibrate import unfold
from resnets.training.schedule import rate
from resnets.weights.modelfile import LICENCE, RECEIPT, Model
from resnets.weights.transfer import folded_batch_norm

VOID = -1  # in a target: a pixel that does not count
SCALES = (0.75, 1.5)  # of a training picture, before a part of it is cut out
WARMUP = 0.05  # the share of the steps over which the rate rises
STATISTICS = 64  # pictures, at most, whose statistics folded batch norms get
SHOWN, SHOWN_WIDTH = 4, 320  # pictures in predictions.png, and their width in pixels


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture (RGB) and its mask (one byte a pixel): 0 is void, k + 1 the k-th class that counts."""

    picture: Image.Image
    mask: Image.Image


# Data


def read_classes(file: Path, void: int | None) -> tuple[Head, npt.NDArray[np.int16]]:
    """The classes that count, and (256,) what a Pair's mask has for each id: 0 for void, k + 1, or -1: unknown."""
    try:
        names = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise resnets.DataError(f"{file} cannot be read: {error}; it names a class a line") from error
    if len(names) > 256 or not 0 <= (void or 0) < 256:
        raise resnets.UsageError(f"ids are from 0 to 255; there are {len(names)} classes, and --void is {void}")
    ids = [number for number in range(len(names)) if number != void]
    codes = np.full(256, -1, dtype=np.int16)
    codes[ids] = np.arange(len(ids)) + 1
    if void is not None:
        codes[void] = 0
    return Head(ids=tuple(map(str, ids)), names=tuple(names[number] for number in ids)), codes


def read_pairs(root: Path, part: str, codes: npt.NDArray[np.int16]) -> list[Pair]:
    """All pairs of a part, in the order of their names. Raises DataError that names what cannot be used."""
    pictures, masks = (files_by_stem(root / kind / part) for kind in ("images", "masks"))
    faults = [f"{pictures[stem].name}: no mask" for stem in pictures if stem not in masks]
    faults += [f"{masks[stem].name}: no picture" for stem in masks if stem not in pictures]
    pairs = []
    for stem in (stem for stem in pictures if stem in masks):
        try:
            pairs.append(read_pair(pictures[stem], masks[stem], codes))
        except (OSError, ValueError) as error:
            faults.append(f"{stem}: {error}")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise resnets.DataError(f"{part} of {root}: {'; '.join(faults[:5])}{more}; mend or remove them")
    if not pairs:
        raise resnets.DataError(f"{root / 'images' / part} holds no pictures")
    return pairs


def files_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise resnets.DataError(f"there is no folder {folder}; masks/train holds the masks of images/train")
    found: dict[str, Path] = {}
    for file in sorted(file for file in folder.iterdir() if not file.name.startswith(".")):
        if file.stem in found:
            raise resnets.DataError(f"{file.name} and {found[file.stem].name} in {folder} have the same stem")
        found[file.stem] = file
    return found


def read_pair(picture: Path, mask: Path, codes: npt.NDArray[np.int16]) -> Pair:
    with Image.open(mask) as opened:
        ids = np.asarray(opened)
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise ValueError(f"the mask must have one byte a pixel (grey or palette), its mode is {opened.mode}")
    coded = codes[ids]
    if (coded < 0).any():
        raise ValueError(f"the mask has the id {ids[coded < 0][0]}, which classes.txt lacks")
    image = decode(picture.read_bytes(), "rgb")
    if image.size != opened.size:
        raise ValueError(
            f"the picture is {image.size[0]}x{image.size[1]}, its mask {opened.width}x{opened.height}"
        )
    return Pair(picture=image, mask=Image.fromarray(coded.astype(np.uint8)))


def augmented(pair: Pair, size: tuple[int, int], chance: npt.NDArray[np.float64]) -> Pair:
    """A part of the pair, larger or smaller, mirrored or not; chance: four numbers in [0, 1)."""
    height, width = size
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * chance[0]
    scaled = (round(width * scale), round(height * scale))
    left, top = round(chance[1] * (scaled[0] - width)), round(chance[2] * (scaled[1] - height))
    box = (left, top, left + width, top + height)  # beyond the picture: black, and 0 in the mask, which is void
    picture = pair.picture.resize(scaled, Image.Resampling.BILINEAR).crop(box)
    mask = pair.mask.resize(scaled, Image.Resampling.NEAREST).crop(box)
    if chance[3] < 0.5:
        picture, mask = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in (picture, mask))
    return Pair(picture=picture, mask=mask)


def images_of(pairs: list[Pair], preprocess: Preprocess, device: str) -> Tensor:
    """(B, 3, H, W), normalised, in channels-last memory, which the fused kernels want."""
    height, width = preprocess.size
    pictures = [pair.picture.resize((width, height), Image.Resampling.BILINEAR) for pair in pairs]
    pixels = torch.from_numpy(np.stack(pictures)).to(device)  # (B, H, W, 3)
    mean, std = (torch.tensor(values, device=device) for values in (preprocess.mean, preprocess.std))
    return ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)


def targets_of(pairs: list[Pair], device: str) -> Tensor:
    """(B, H, W), VOID where nothing is to be learnt."""
    return torch.from_numpy(np.stack([pair.mask for pair in pairs])).to(device).long() - 1


# Network and training


def make_encoder(options: argparse.Namespace, pairs: list[Pair]) -> Model:
    """The network to build on, how it takes pictures, and whose weights it starts from."""
    own = (pairs[0].picture.height, pairs[0].picture.width)
    preprocess = Preprocess(size=parse_size(options.size) if options.size else own, resize="squash")
    torch.manual_seed(options.seed)
    if options.weights == "none":
        return Model(network=resnets.build(options.encoder, heads=None), heads={}, preprocess=preprocess)
    start = resnets.load(options.weights, model=options.encoder, in_channels=3)
    preprocess = replace(preprocess, mean=start.preprocess.mean, std=start.preprocess.std)
    if folded_batch_norm(start.network):  # right in evaluation; training would begin with another function
        spread = pairs[:: -(-len(pairs) // STATISTICS)]
        unfold(start.network, (images_of([pair], preprocess, "cpu") for pair in spread))
    origin = {key: start.origin[key] for key in (RECEIPT, LICENCE)}  # whose licence goes with what is trained
    return Model(network=start.network, heads={}, preprocess=preprocess, origin=origin)


def train(
    network: nn.Module, pairs: list[Pair], preprocess: Preprocess, options: argparse.Namespace, device: str
) -> None:
    """AdamW with a cosine, in bf16 where the hardware has it."""
    rows = np.arange(len(pairs), dtype=np.int64)
    batch = min(options.batch, len(pairs))
    each = len(pairs) // batch  # steps an epoch; what is left over differs from epoch to epoch
    steps = options.epochs * each
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.lr)
    network.train()
    for epoch in range(options.epochs):
        started, losses = time.monotonic(), []
        chances = streams.picture_uniform(rows, seed=options.seed, epoch=epoch, purpose="segment", draws=4)
        order = streams.order(rows, seed=options.seed, epoch=epoch)
        for chosen in order[: each * batch].reshape(each, batch):
            step = epoch * each + len(losses)
            optimizer.param_groups[0]["lr"] = rate(
                step, schedule="cosine", peak=options.lr, steps=steps, warmup_steps=round(WARMUP * steps)
            )
            parts = [augmented(pairs[row], preprocess.size, chances[row]) for row in chosen]
            with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=has_bf16_units(device)):
                logits = network(images_of(parts, preprocess, device))  # (B, K, H, W)
            loss = F.cross_entropy(logits.float(), targets_of(parts, device), ignore_index=VOID)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        mean, seconds = float(np.mean(losses)), time.monotonic() - started
        if not np.isfinite(mean):
            raise resnets.NotFinite(
                f"the loss is no number in epoch {epoch + 1}; try a lower --lr than {options.lr}"
            )
        print(f"epoch {epoch + 1}: loss {mean:.4f}, {each * batch / seconds:.1f} pictures/s", file=sys.stderr)


# Evaluation


@torch.no_grad()
def predict(network: nn.Module, pair: Pair, preprocess: Preprocess, device: str) -> Tensor:
    """(H, W) positions of classes, at the mask's own size, in fp32."""
    network.eval()
    logits = network(images_of([pair], preprocess, device))
    logits = F.interpolate(logits, size=pair.mask.size[::-1], mode="bilinear", align_corners=False)
    return logits[0].argmax(0)


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> npt.NDArray[np.int64]:
    """(K, K) pixels by true class (line) and predicted class (column); void ones are in none."""
    counts = truth != VOID
    pairs = truth[counts] * classes + predicted[counts]
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu().numpy()


def intersections_over_unions(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(K,) of the pixels that truth or prediction give a class, the share that both do; NaN: not in the truth."""
    both, truth, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return np.where(truth > 0, both / np.maximum(truth + predicted - both, 1), np.nan)


def figures_of(confusions: npt.NDArray[np.int64], head: Head) -> dict[str, Any]:
    """Of the pictures' confusions (n, K, K) in sum; the interval is of other draws of these pictures."""

    def mean(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return np.array([np.nanmean(intersections_over_unions(confusions[rows].sum(0)))])

    n, whole = len(confusions), confusions.sum(0)
    if not whole.sum():
        raise resnets.DataError("every pixel of masks/val is void: there is nothing to score")
    (interval,) = bootstrap(np.zeros(n, dtype=np.int64), mean)
    ious = zip(head.names, intersections_over_unions(whole).tolist(), strict=True)
    return {
        "n": n,
        "mean_iou": float(mean(np.arange(n))[0]),
        "mean_iou_interval": interval,
        "pixel_accuracy": float(np.trace(whole) / whole.sum()),
        "iou": {name: None if np.isnan(iou) else iou for name, iou in ious},
    }


def picture_of(rows: list[tuple[Pair, Tensor]], colours: npt.NDArray[np.uint8]) -> Image.Image:
    """Picture, truth and prediction beside each other, a line a pair. colours: (1 + K, 3), void first."""
    lines = []
    for pair, predicted in rows:
        answer = predicted.cpu().numpy() + 1
        shown = [pair.picture, Image.fromarray(colours[np.asarray(pair.mask)]), Image.fromarray(colours[answer])]
        size = (SHOWN_WIDTH, round(SHOWN_WIDTH * pair.picture.height / pair.picture.width))
        filters = (Image.Resampling.BILINEAR, Image.Resampling.NEAREST, Image.Resampling.NEAREST)
        lines.append(np.hstack([each.resize(size, how) for each, how in zip(shown, filters, strict=True)]))
    return Image.fromarray(np.vstack(lines))


def palette_of(folder: Path, ids: list[int]) -> npt.NDArray[np.uint8]:
    """(len(ids), 3) the colours that the first mask's palette gives the ids; greys where it has none."""
    with Image.open(next(iter(files_by_stem(folder).values()))) as mask:
        given = np.array(mask.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
    greys = np.repeat(np.linspace(0, 255, 256, dtype=np.uint8)[:, None], 3, axis=1)
    return np.concatenate([given, greys[len(given) :]])[ids]


# The whole


def run(options: argparse.Namespace) -> dict[str, Any]:
    started, device = time.monotonic(), pick_device(options.device)
    head, codes = read_classes(options.data / "classes.txt", options.void)
    pairs, held_out = (read_pairs(options.data, part, codes) for part in ("train", "val"))
    encoder = make_encoder(options, pairs)
    network = resnets.UNet(encoder.network, len(head)).to(device, memory_format=torch.channels_last)
    with kernels.using(True):  # the fused steps for processors, where they can run
        train(network, pairs, encoder.preprocess, options, device)

    shown = np.linspace(0, len(held_out) - 1, min(SHOWN, len(held_out))).round()
    rows, confusions = [], []
    for number, pair in enumerate(held_out):
        predicted = predict(network, pair, encoder.preprocess, device)
        confusions.append(confusion(targets_of([pair], device)[0], predicted, len(head)))
        if number in shown:
            rows.append((pair, predicted))
    figures = figures_of(np.stack(confusions), head)

    options.out.mkdir(parents=True, exist_ok=True)
    outputs = {name: options.out / name for name in ("model.safetensors", "predictions.png", "figures.json")}
    resnets.save(outputs["model.safetensors"], replace(encoder, network=network, heads={LABEL: head}))
    ids = [255 if options.void is None else options.void, *map(int, head.ids)]
    picture_of(rows, palette_of(options.data / "masks" / "val", ids)).save(outputs["predictions.png"])
    record = figures | {
        **{name: value for name, value in vars(options).items() if name not in ("data", "out")},
        "size": encoder.preprocess.size,
        "device": device,
        "training_pictures": len(pairs),
        "seconds": round(time.monotonic() - started, 1),
        "outputs": [str(path) for path in outputs.values()],
    }
    outputs["figures.json"].write_text(json.dumps(record) + "\n", "utf-8")
    return record


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default="resnet18", help="a name that `resnets models` lists")
    parser.add_argument("--weights", default="none", help="of the encoder: a file, a name, or none")
    parser.add_argument("--void", type=int, help="the id of pixels that do not count")
    parser.add_argument("--size", help="HxW that the network sees; without it the first picture's own")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, default=Path("runs/segment"))
    try:
        record = run(parser.parse_args(arguments))
    except resnets.ResnetsError as error:
        print(f"segment: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
