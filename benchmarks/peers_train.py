"""Training throughput beside the peers, from their real packages, in turns, each side in a process of its own.

    python benchmarks/peers_train.py PHOTOS [PHOTOS …] --rounds 5                  # all four cases
    python benchmarks/peers_train.py PHOTOS --cases resnet18 --sides resnets timm  # some of it
    python benchmarks/peers_train.py PHOTOS --cases resnet18 cifar --quick         # does it work?

Rates are pictures a second of the last of `--epochs` epochs, from the first batch asked for to the last step done:
start-up and validation count on no side. Every run appends a line to `--out`; a run that is there is not repeated.

resnet18, resnet50: 224 pixels, batches of 32, from JPEG files. PHOTOS are folders of them (any depth), of which
`--photographs` are copied into three classes.
  resnets       `resnets train` with nothing but the network, no weights, the epochs and the folder of its run
  resnets best  the same with `--best`: without the average of the weights, which no other side keeps
  timm          the defaults of timm's train.py: fp32, NCHW, 4 workers, prefetcher, label smoothing 0.1, SGD
  timm best     its flags --amp --amp-dtype bfloat16 --channels-last, and a worker a core
  bare          what most scripts do: DataLoader with a worker a core, fp32, NCHW, torchvision's network
timm's script is not in its package: its loop is written here in the script's order, from the package's
create_model, create_dataset, create_loader, create_optimizer_v2 and LabelSmoothingCrossEntropy, without its
logging, checkpoints and change of the rate. Augmentation is the same on every side: what `resnets train` chooses
(random resized crop from 35% of the area, bilinear, flip; colour 0.2 from 1,000 pictures on), or with
`--augmentation timm` what timm's script does (from 8% of the area, colour 0.4).

cifar, fashion: 32 pixels in colour, 28 in grey; random pixels in memory, our ResNet-20 in batches of 128. With
`-whitened` behind the name the network that 20,000 and more such pictures are given, in batches of 512.
  resnets       `resnets.train` with nothing but the network, the batch and the epochs, at full size throughout
  resnets best  the same with the torchvision side's optimizer, SGD, and without the average of the weights
  torchvision   a DataLoader with a worker a core and torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and
                Normalize; fp32, NCHW, eager
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resnets.base.machine import cores, keep_freed_memory
from rounds import (
    RESNETS,
    Comparison,
    Record,
    allow_torchvision,
    events_of,
    in_own_process,
    last_epoch,
    rate_of,
    run_rounds,
    side_of,
    table,
)
from small import torchvision_loader

BATCH, SIZE, CLASSES = 32, 224, 3
QUICK_BATCH, QUICK_SIZE = 8, 128
PLAIN, WHITENED = ("resnet20", 128), ("resnet11_whitened", 512)  # network, batch
COLOUR, GREY = (32, 32, 3), (28, 28, 1)  # height, width, channels
SMALL = {
    "cifar": (COLOUR, PLAIN),
    "fashion": (GREY, PLAIN),
    "cifar-whitened": (COLOUR, WHITENED),
    "fashion-whitened": (GREY, WHITENED),
}
SMALL_CLASSES = 10
LEAST = 8  # batches an epoch, below which resnets takes smaller ones
LARGE_SIDES = ("resnets", "resnets best", "timm", "timm best", "bare")
SMALL_SIDES = ("resnets", "resnets best", "torchvision")
TIMM_AUGMENTATION = {"scale": 0.08, "colour": 0.4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*", metavar="PHOTOS")
    parser.add_argument("--cases", nargs="+", choices=("resnet18", "resnet50", *SMALL))
    parser.add_argument("--sides", nargs="+", choices=dict.fromkeys((*LARGE_SIDES, *SMALL_SIDES)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--photographs", type=int, default=336, help="of which a twentieth is held out (default 336)"
    )
    parser.add_argument("--small-pictures", type=int, default=12_800, help="of which resnets holds back a fifth")
    parser.add_argument("--augmentation", choices=("resnets", "timm"), default="resnets")
    parser.add_argument("--best", default="--ema 0", help="the flags of `resnets best` (default '--ema 0')")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of one epoch, smaller in all ways; the figures mean nothing",
    )
    parser.add_argument("--out", type=Path, default=Path("peers_train.jsonl"))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"rate": LOOPS[options.side](options.job)}))
        return
    if options.quick:
        options.rounds, options.epochs, options.photographs, options.small_pictures = 1, 1, 70, 160
    cases = options.cases or ["resnet18", "resnet50", *SMALL]
    if any(case not in SMALL for case in cases) and not options.photos:
        parser.error("resnet18 and resnet50 need PHOTOS: folders of JPEG files")
    with tempfile.TemporaryDirectory() as scratch:
        comparisons = [
            small_comparison(case, options, Path(scratch))
            if case in SMALL
            else large_comparison(case, options, Path(scratch))
            for case in cases
        ]
        records = run_rounds(comparisons, rounds=options.rounds, out=options.out)
    print(f"\n{records[0]['machine']}, {records[0]['date']}\n" if records else "")
    print(table(records, comparisons))


def chosen(sides: Iterable[str], options: argparse.Namespace) -> list[str]:
    return [side for side in sides if not options.sides or side in options.sides]


# photographs


def large_comparison(model: str, options: argparse.Namespace, scratch: Path) -> Comparison:
    root = scratch / "photographs"
    pictures = copy_photographs(options.photos, root, options.photographs)
    scale, colour = augmentation(options.augmentation, pictures)
    batch, size = (QUICK_BATCH, QUICK_SIZE) if options.quick else (BATCH, SIZE)
    if pictures < LEAST * batch:
        sys.exit(f"{pictures} photographs are too few for batches of {batch}; give folders with more")
    job = {"root": str(root), "model": model, "epochs": options.epochs, "batch": batch, "size": size}
    job |= {"scale": scale, "colour": colour}
    flags = ["--scale", str(scale), "--colour", str(colour)] if options.augmentation == "timm" else []
    flags += ["--size", str(size)] if options.quick else []
    works: dict[str, Callable[[int], Record]] = {
        "resnets": partial(resnets_run, job, scratch / "runs", flags),
        "resnets best": partial(resnets_run, job, scratch / "runs", [*flags, *shlex.split(options.best)]),
        **{side: partial(side_of, __file__, side, job) for side in ("timm", "timm best", "bare")},
    }
    settings = {key: value for key, value in job.items() if key != "root"}
    return Comparison(
        case=f"{model}, {size} px, batch {batch}, JPEG",
        settings=settings | {"pictures": pictures, "best": options.best},
        sides={side: works[side] for side in chosen(LARGE_SIDES, options)},
    )


def copy_photographs(sources: list[Path], root: Path, most: int) -> int:
    """At most so many photographs in three classes, a twentieth under root/val; how many are under root/train."""
    endings = (".jpg", ".jpeg")
    files = sorted(file for source in sources for file in source.rglob("*") if file.suffix.lower() in endings)
    files = [files[place] for place in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)]
    for number, file in enumerate(files):
        part = "val" if number % 20 == 0 else "train"
        folder = root / part / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(file.read_bytes())
    return sum(number % 20 != 0 for number in range(len(files)))


def augmentation(whose: str, pictures: int) -> tuple[float, float]:
    """Smallest crop as a share of the area, and by how much colours change, on every side."""
    if whose == "timm":
        return TIMM_AUGMENTATION["scale"], TIMM_AUGMENTATION["colour"]
    from resnets.data.augment.settings import default_augment
    from resnets.data.source import Traits

    ours, _ = default_augment(
        size=(SIZE, SIZE), pictures=pictures, traits=Traits(), same_size=False, resize="crop"
    )
    return ours.scale, ours.colour


def resnets_run(job: Record, runs: Path, flags: list[str], turn: int) -> Record:
    """`resnets train`, its rate from the run's own log, and what it chose."""
    asked = ["--model", job["model"], "--weights", "none", "--epochs", str(job["epochs"]), "--seed", str(turn)]
    asked += ["--runs", str(runs)]
    _, figures = in_own_process([RESNETS, "train", job["root"], *asked, "--quiet", *flags])
    newest = max(runs.iterdir(), key=lambda run: run.stat().st_mtime)
    events = events_of(newest)
    plan = next(event["plan"] for event in events if event["event"] == "plan")
    config = plan["config"]
    same = (config["batch"], config["size"], plan["augment"]["scale"], plan["augment"]["colour"])
    assert same == (job["batch"], f"{job['size']}x{job['size']}", job["scale"], job["colour"]), same
    return {**last_epoch(events), **figures, "plan": plan["environment"]}


def timm_loop(job: Record, *, best: bool) -> float:
    """timm's train.py, with its defaults or with its best flags for a processor."""
    allow_torchvision()
    import torch
    from timm.data import create_dataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.models import create_model
    from timm.optim import create_optimizer_v2

    torch.manual_seed(42)
    model = create_model(job["model"], pretrained=False, num_classes=CLASSES)
    if best:
        model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1 * job["batch"] / 256, weight_decay=2e-5, momentum=0.9)
    loader = create_loader(
        create_dataset("", root=job["root"], split="train", is_training=True, batch_size=job["batch"]),
        input_size=(3, job["size"], job["size"]),
        batch_size=job["batch"],
        is_training=True,
        scale=(job["scale"], 1.0),
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        color_jitter=job["colour"],
        interpolation="bilinear",
        num_workers=cores() if best else 4,
        device=torch.device("cpu"),
        use_prefetcher=True,
    )
    criterion = LabelSmoothingCrossEntropy(smoothing=0.1)
    model.train()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        if best:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=best):
            loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        optimizer.zero_grad()

    return rate_of(loader, step, job["epochs"])


def bare_loop(job: Record) -> float:
    """What most scripts do on a processor."""
    allow_torchvision()
    import torch
    from PIL import Image
    from torchvision import models, transforms

    colour = [transforms.ColorJitter(*[job["colour"]] * 3)] if job["colour"] else []
    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(job["size"], scale=(job["scale"], 1.0)),
            transforms.RandomHorizontalFlip(),
            *colour,
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Photographs(torch.utils.data.Dataset):
        files = sorted(Path(job["root"], "train").rglob("*.jpg"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            file = self.files[index]
            return change(Image.open(file).convert("RGB")), int(file.parent.name[-1])

    loader = torch.utils.data.DataLoader(Photographs(), batch_size=job["batch"], shuffle=True, num_workers=cores())
    network = models.get_model(job["model"], num_classes=CLASSES)
    return rate_of(loader, plain_step(network, weight_decay=1e-4, rate=0.02), job["epochs"])


# small pictures


def small_comparison(case: str, options: argparse.Namespace, scratch: Path) -> Comparison:
    (height, width, channels), (network, batch) = SMALL[case]
    chance = np.random.default_rng(0)
    shape = (options.small_pictures, height, width, channels)
    path = scratch / f"{case}.npy"
    np.save(path, chance.integers(0, 256, shape, dtype=np.uint8))
    batch = QUICK_BATCH if options.quick else batch
    job = {"pixels": str(path), "model": network, "epochs": options.epochs, "batch": batch}
    job["runs"] = str(scratch / "runs")
    sides = {"resnets": "resnets small", "resnets best": "resnets small best", "torchvision": "torchvision"}
    return Comparison(
        case=f"{case}: {network}, {height} px, {channels} channels, batch {batch}, in memory",
        settings={"pictures": options.small_pictures, "epochs": options.epochs},
        sides={side: partial(side_of, __file__, sides[side], job) for side in chosen(SMALL_SIDES, options)},
    )


def resnets_small(job: Record, *, best: bool) -> float:
    """`resnets.train` on arrays, as its command runs it."""
    keep_freed_memory()
    import resnets

    pixels = np.load(job["pixels"])
    lean: dict[str, Any] = {"optimizer": "sgd", "ema": 0.0} if best else {}
    config = resnets.TrainConfig(
        model=job["model"],
        epochs=job["epochs"],
        runs=job["runs"],
        batch=job["batch"],
        grow=1.0,
        seed=job["round"],
        **lean,
    )
    events: list[dict[str, Any]] = []
    resnets.train((pixels, np.arange(len(pixels)) % SMALL_CLASSES), config=config, on_event=events.append)
    config = next(event["plan"]["config"] for event in events if event["event"] == "plan")
    same = (config["batch"], config["augment"], config["flip"])
    assert same == (job["batch"], "pad-crop", True), f"{same}; are there enough pictures?"
    return float(last_epoch(events)["rate"])


def torchvision_small(job: Record) -> float:
    """The usual script for CIFAR-10."""
    import torch

    from resnets.networks import build

    torch.manual_seed(job["round"])
    pixels = np.load(job["pixels"])
    loader = torchvision_loader(pixels, np.arange(len(pixels)) % SMALL_CLASSES, batch=job["batch"])
    network = build(job["model"], num_classes=SMALL_CLASSES, in_channels=pixels.shape[3])
    return rate_of(loader, plain_step(network, weight_decay=5e-4, rate=0.1), job["epochs"])


# what the plain sides share


def plain_step(network: Any, *, weight_decay: float, rate: float) -> Callable[[Any, Any], None]:
    """fp32, NCHW, eager, SGD."""
    import torch

    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=weight_decay)
    network.train()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


LOOPS: dict[str, Callable[[Record], float]] = {
    "timm": partial(timm_loop, best=False),
    "timm best": partial(timm_loop, best=True),
    "bare": bare_loop,
    "resnets small": partial(resnets_small, best=False),
    "resnets small best": partial(resnets_small, best=True),
    "torchvision": torchvision_small,
}

if __name__ == "__main__":
    main()
