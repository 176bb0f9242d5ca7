"""ResNet-20 as most scripts train it on small pictures: a DataLoader, fp32, NCHW, SGD, a cosine; resumable.

    python benchmarks/plain_loop.py CIFAR10 --out plain-cifar10/             # 30 epochs; the same command goes on
    python benchmarks/plain_loop.py FASHION --out plain-fashion/
    python benchmarks/plain_loop.py CIFAR10 --epochs 2                       # how long two epochs take

Pad by 4 (28 pixels: 3) and crop, flip, batches of 128, rate 0.1, momentum 0.9 (Nesterov), weight decay 5e-4. All
training pictures are trained on; the test pictures are looked at once, at the end. A state is kept after every
epoch; `epochs.jsonl` has the seconds and the loss of each, `result.json` the accuracy.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from resnets.base.machine import cores
from small import pixels_of, torchvision_loader

BATCH, RATE, MOMENTUM, WEIGHT_DECAY = 128, 0.1, 0.9, 5e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="what `resnets train` takes")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the state is kept; without it nothing is, nor tested")
    options = parser.parse_args()
    print(json.dumps(run(options.data, epochs=options.epochs, seed=options.seed, out=options.out)))


def run(data: str, *, epochs: int, seed: int, out: Path | None = None) -> dict[str, Any]:
    """`seconds` of these epochs alone; with `out` the state is taken up and kept there, and `top1` measured."""
    import torch

    from resnets.networks import build

    torch.set_num_threads(cores())
    torch.manual_seed(seed)
    pixels, labels = pixels_of(data, "train")
    loader = torchvision_loader(pixels, labels, batch=BATCH)
    network = build("resnet20", num_classes=int(labels.max()) + 1, in_channels=pixels.shape[3]).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    begun = 0
    if out is not None:
        out.mkdir(exist_ok=True)
        begun = restore(out / "state.pt", network, optimizer)
    seconds = 0.0
    for epoch in range(begun, epochs):
        torch.manual_seed(1000 * seed + epoch)
        started = time.monotonic()
        loss = train_epoch(network, optimizer, loader, epoch=epoch, epochs=epochs)
        took = time.monotonic() - started
        seconds += took
        if out is not None:
            keep(out / "state.pt", network, optimizer, epoch + 1)
            with (out / "epochs.jsonl").open("a") as lines:
                lines.write(json.dumps({"epoch": epoch + 1, "seconds": round(took, 2), "loss": loss}) + "\n")
    result: dict[str, Any] = {"epochs": epochs, "seconds": round(seconds, 2), "pictures": len(pixels)}
    if out is not None:
        result["top1"] = top1(network, data)
        (out / "result.json").write_text(json.dumps(result) + "\n")
    return result


def train_epoch(network: Any, optimizer: Any, loader: Any, *, epoch: int, epochs: int) -> float:
    """The mean loss over the batches; the rate falls along a cosine, step by step."""
    import torch

    total = 0.0
    for number, (images, labels) in enumerate(loader):
        done = (epoch + number / len(loader)) / epochs
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * done))
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def top1(network: Any, data: str) -> float:
    import torch

    loader = torchvision_loader(*pixels_of(data, "test"), batch=BATCH, training=False)
    network.eval()
    with torch.no_grad():
        right = [(network(images).argmax(1) == labels).float() for images, labels in loader]
    return float(torch.cat(right).mean())


def keep(path: Path, network: Any, optimizer: Any, epochs: int) -> None:
    import torch

    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epochs}
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def restore(path: Path, network: Any, optimizer: Any) -> int:
    """How many epochs are done."""
    import torch

    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"])


if __name__ == "__main__":
    main()
