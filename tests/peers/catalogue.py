"""What torchvision and timm publish of their weights, as the rows of `weights/catalogue.csv`.

`python -m tests.peers.catalogue RESULTS > src/resnets/weights/catalogue.csv` writes the file anew; RESULTS is
`results/results-imagenet.csv` of timm's repository, which is not in its package.
"""

import csv
import re
import sys
from pathlib import Path
from typing import Any

from resnets.networks import VARIANTS
from resnets.weights.catalogue import COLUMNS
from tests.peers.references import timm, torchvision

TORCHVISION_TAGS = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF_STATISTICS = ((0.5,) * 3, (0.5,) * 3)
HUB = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"


def published() -> dict[str, dict[str, str]]:
    """Name -> the columns that the packages state; `top1` and `top5` of torchvision's alone."""
    return _of_timm() | _of_torchvision()


def _of_torchvision() -> dict[str, dict[str, str]]:
    models = torchvision().models
    rows = {}
    for name in VARIANTS:
        if name not in models.list_models():
            continue
        for weights in models.get_model_weights(name):
            pictures, figures = weights.transforms(), weights.meta["_metrics"]["ImageNet-1K"]
            row = _row(
                weights.url,
                size=pictures.crop_size[0],
                crop=pictures.crop_size[0] / pictures.resize_size[0],
                interpolation=pictures.interpolation.value,
                statistics=(tuple(pictures.mean), tuple(pictures.std)),
                licence="bsd-3-clause",
            )
            accuracy = {"top1": f"{figures['acc@1']:g}", "top5": f"{figures['acc@5']:g}"}
            rows[f"{name}.{TORCHVISION_TAGS[weights.name]}"] = row | accuracy
    return rows


def _of_timm() -> dict[str, dict[str, str]]:
    rows = {}
    for name, config in timm().models._registry._model_pretrained_cfgs.items():
        network, _, tag = name.partition(".")
        if network not in VARIANTS or not tag or tag == "untrained" or config.num_classes != 1000:
            continue
        rows[name] = _row(
            config.url or HUB.format(name),
            size=(config.test_input_size or config.input_size)[1],
            crop=config.test_crop_pct or config.crop_pct,
            interpolation=config.interpolation,
            statistics=(config.mean, config.std),
            licence=config.license,
        )
    return rows


def _row(url: str, *, size: int, crop: float, interpolation: str, statistics: Any, licence: str) -> dict[str, str]:
    digits = re.search(r"-([0-9a-f]{8})\.(?:pth|pt)$", url)
    return {
        "url": url,
        "sha256": digits[1] if digits else "",
        "size": str(size),
        "crop": f"{crop:.4g}",
        "interpolation": interpolation,
        "normalize": {IMAGENET_STATISTICS: "imagenet", HALF_STATISTICS: "half"}[statistics],
        "licence": licence,
        "top1": "",
        "top5": "",
    }


def _with_results(rows: dict[str, dict[str, str]], results: Path) -> dict[str, dict[str, str]]:
    with results.open() as handle:
        measured = {(line["model"], line["img_size"]): line for line in csv.DictReader(handle)}
    for name, row in rows.items():
        line = measured.get((name, row["size"]))
        if line is not None and not row["top1"]:
            row |= {"top1": f"{float(line['top1']):g}", "top5": f"{float(line['top5']):g}"}
    return rows


if __name__ == "__main__":
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    order = list(VARIANTS)
    rows = _with_results(published(), Path(sys.argv[1]))
    for name in sorted(rows, key=lambda name: (order.index(name.partition(".")[0]), name)):
        writer.writerow({"name": name, **rows[name]})
