"""The defaults of training, chosen from facts of the data, each measured (docs/results.md)."""

from dataclasses import dataclass
from typing import Any

SMALL_PIXELS = 64  # up to here pictures are called small


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What defaults are chosen by.

    pictures: training pictures. size: (height, width) of the network's input, pixels. pretrained: the run starts
    from weights.
    """

    pictures: int
    size: tuple[int, int]
    pretrained: bool = False

    @property
    def small(self) -> bool:
        return max(self.size) <= SMALL_PIXELS


def recipe(facts: Facts) -> tuple[dict[str, Any], str]:
    """Defaults by option name, and the reason in one line."""
    if facts.small:
        epochs = 40 if facts.pictures >= 5000 else 100
        values: dict[str, Any] = {
            "model": "resnet20",
            "batch": 128,
            "epochs": epochs,
            "lr_per_128": 0.1,
            "weight_decay": 5e-4,
            "label_smoothing": 0.0,
            "warmup": epochs * 0.05,
            "ema": 0.995,
        }
        kind = "small pictures"
    else:
        epochs = 30 if facts.pictures >= 5000 else 40
        values = {
            "model": "resnet18",
            "batch": 32,
            "epochs": epochs,
            "lr_per_128": 0.1,
            "weight_decay": 1e-4,
            "label_smoothing": 0.1,
            "warmup": epochs * 0.05,
            "ema": 0.995,
        }
        kind = "photographs"
    values |= {"optimizer": "sgd", "schedule": "cosine"}
    most = max(8, facts.pictures // 8)
    if values["batch"] > most:
        values["batch"] = most
        kind += f", batch an eighth of {facts.pictures:,} pictures"
    return values, kind


def default_rate(optimizer: str, batch: int, values: dict[str, Any]) -> float:
    """The peak rate: linear in the batch for SGD (Goyal et al. 2017) and Muon, 0.001 for Adam and AdamW."""
    return float(values["lr_per_128"]) * batch / 128 if optimizer in ("sgd", "muon") else 1e-3
