"""The defaults of training, chosen from facts of the data, each measured (docs/results.md)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

SMALL_PIXELS = 64  # up to here pictures are called small
MANY_PICTURES = 5_000  # from here on
WHITENED_PIXELS, WHITENED_PICTURES = 32, 20_000  # up to and from here a network with a whitened stem is chosen
RATE_PER_128 = {"sgd": 0.1, "muon": 0.1}  # of a batch of 128; linear in the batch (Goyal et al. 2017)
PHOTOGRAPHS = "resnet18"  # the network for them, with weights or without
FINE_TUNING = 0.4  # of these rates where a run starts from weights
RATE = 1e-3  # of Adam and AdamW, whatever the batch
TURN_PER_128 = 0.06  # of muon where filters keep their norm; grows with the root of the batch (near Jordan 2024)
MOMENTUM, TURNING_MOMENTUM = 0.9, 0.6  # the second where filters keep their norm
Preset = Literal["fast", "standard", "best"]
# times the recipe's epochs, and the share of their size that pictures grow from at most
PRESETS: dict[str, tuple[float, float]] = {
    "fast": (0.4, 0.75),
    "standard": (1.0, 1.0),
    "best": (2.5, 1.0),
}
WEIGHT_DECAY = {"sgd": 1e-4, "adam": 1e-4, "adamw": 0.05, "muon": 0.01}


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


def recipe(facts: Facts, preset: Preset = "standard", *, whitened: bool = True) -> tuple[dict[str, Any], str]:
    """Defaults by option name, and the reason in one line; a preset changes how long, and how large the start.

    whitened: the network is still to be chosen, or has a whitened stem.
    """
    many = facts.pictures >= MANY_PICTURES
    if facts.pretrained:
        values = _values(PHOTOGRAPHS, batch=32, epochs=12, optimizer="sgd", label_smoothing=0.1)
        kind = "pretrained weights"
    elif whitened and max(facts.size) <= WHITENED_PIXELS and facts.pictures >= WHITENED_PICTURES:
        values = _values("resnet11_whitened", batch=512, epochs=10, optimizer="muon", label_smoothing=0.2)
        values |= {"ema": 0.99, "pad": max(1, round(min(facts.size) / 16)), "grow": 0.75}
        values |= {"fixed_norm": True, "schedule": "linear"}
        kind = "many small pictures"
    elif facts.small:
        values = _values("resnet20", batch=128, epochs=40 if many else 100, optimizer="muon", label_smoothing=0.0)
        kind = "small pictures"
    else:
        values = _values(PHOTOGRAPHS, batch=32, epochs=30 if many else 40, optimizer="sgd", label_smoothing=0.1)
        kind = "photographs"
    times, grow = PRESETS[preset]
    values["grow"] = min(grow, values.get("grow", 1.0))
    values["epochs"] = round(values["epochs"] * times)
    values["warmup"] = values["epochs"] * 0.05
    if preset != "standard":
        kind += f", {preset}"
    most = max(8, facts.pictures // 8)
    if values["batch"] > most:
        values["batch"] = most
        kind += f", batch an eighth of {facts.pictures:,} pictures"
    return values, kind


def _values(model: str, *, batch: int, epochs: int, optimizer: str, label_smoothing: float) -> dict[str, Any]:
    return {
        "model": model,
        "batch": batch,
        "epochs": epochs,
        "optimizer": optimizer,
        "fixed_norm": False,
        "schedule": "cosine",
        "label_smoothing": label_smoothing,
        "ema": 0.995,
    }


def default_rate(optimizer: str, batch: int, *, pretrained: bool = False, fixed_norm: bool = False) -> float:
    """The peak learning rate."""
    if fixed_norm:
        return TURN_PER_128 * math.sqrt(batch / 128)
    rate = RATE_PER_128[optimizer] * batch / 128 if optimizer in RATE_PER_128 else RATE
    return rate * FINE_TUNING if pretrained else rate


def default_momentum(*, fixed_norm: bool = False) -> float:
    return TURNING_MOMENTUM if fixed_norm else MOMENTUM


def default_weight_decay(optimizer: str, facts: Facts, *, fixed_norm: bool = False) -> float:
    """Weight decay; SGD's is larger on small pictures, whose networks see each of them more often."""
    if fixed_norm:
        return 0.0
    return 5e-4 if optimizer == "sgd" and facts.small else WEIGHT_DECAY[optimizer]
