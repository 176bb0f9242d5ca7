"""Training throughput from JPEG files: `resnets train` without flags beside a bare loop of the same work.

    python benchmarks/throughput.py PHOTOS [PHOTOS …] [--rounds 3] [--out FILE.json]

PHOTOS: folders of JPEG files (any depth). They are copied into three classes, and both sides train ResNet-18 on
them at 224 pixels in batches of 32, in turns, an epoch each, every side in a process of its own. The bare loop is
what most scripts do: Pillow decode in a DataLoader with two workers, torchvision's random resized crop and flip,
fp32, NCHW, eager, SGD. Its rate and ours are pictures a second of the training epoch; start-up, validation
and the first two batches of either side are not counted in the bare loop's favour or against it: both rates are
pictures / seconds from the first batch asked for to the last step done.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH, SIZE, CLASSES = 32, 224, 3


def copy_photographs(sources: list[Path], root: Path) -> int:
    """Photographs in three classes under root/train, and a few more under root/val."""
    endings = (".jpg", ".jpeg")
    files = sorted(file for source in sources for file in source.rglob("*") if file.suffix.lower() in endings)
    for number, file in enumerate(files):
        part = "val" if number % 20 == 0 else "train"
        folder = root / part / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(file.read_bytes())
    return len(files)


def ours(root: Path, runs: Path) -> float:
    """Pictures a second of the one epoch, from the run's own log."""
    program = Path(sys.executable).with_name("resnets")
    command = [program, "train", root, "--epochs", "1", "--runs", runs, "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    newest = max(runs.iterdir(), key=lambda run: run.stat().st_mtime)
    events = [json.loads(line) for line in (newest / "events.jsonl").read_text().splitlines()]
    plan = next(event["plan"]["config"] for event in events if event["event"] == "plan")
    assert (plan["model"], plan["batch"], plan["size"]) == ("resnet18", BATCH, f"{SIZE}x{SIZE}"), plan
    return float(next(event["images_per_second"] for event in events if event["event"] == "epoch"))


def bare(root: Path) -> float:
    """The same epoch in a plain loop, in a fresh process (this file with --bare)."""
    output = subprocess.run([sys.executable, __file__, "--bare", root], check=True, capture_output=True, text=True)
    return float(output.stdout)


def bare_loop(root: Path) -> float:
    """What most scripts do on a processor."""
    import torch
    from PIL import Image

    library = torch.library.Library("torchvision", "DEF")  # torchvision's kernels are not needed here
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models, transforms

    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Photographs(torch.utils.data.Dataset):
        files = sorted((root / "train").rglob("*.jpg"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            file = self.files[index]
            return change(Image.open(file).convert("RGB")), int(file.parent.name[-1])

    loader = torch.utils.data.DataLoader(Photographs(), batch_size=BATCH, shuffle=True, num_workers=2)
    network = models.resnet18(num_classes=CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    started, pictures = time.monotonic(), 0
    for images, labels in loader:
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pictures += len(images)
    return pictures / (time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(bare_loop(arguments.photos[0]))
        return
    rates: dict[str, list[float]] = {"resnets": [], "bare": []}
    with tempfile.TemporaryDirectory() as scratch:
        root, runs = Path(scratch, "photographs"), Path(scratch, "runs")
        count = copy_photographs(arguments.photos, root)
        for turn in range(arguments.rounds):
            rates["resnets"].append(ours(root, runs))
            rates["bare"].append(bare(root))
            ours_now, bare_now = rates["resnets"][-1], rates["bare"][-1]
            print(f"round {turn + 1}: resnets {ours_now:.1f}, bare {bare_now:.1f} images/s", flush=True)
    ratios = [ours / bare for ours, bare in zip(rates["resnets"], rates["bare"], strict=True)]
    result = {"photographs": count, **rates, "ratio_median": statistics.median(ratios), "ratios": ratios}
    print(f"ratio: median {result['ratio_median']:.2f}, {min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
