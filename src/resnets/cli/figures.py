"""Figures in words: each with its n, its interval, and the part it is of."""

from typing import Any

from resnets.base.text import printable

PARTS = {"val": "validation", "test": "test", "train": "training"}


def headline(head: str, figures: dict[str, Any], *, split: str | None) -> str:
    """98.89% of 360 test pictures right (top-1, 95% interval 97.18 to 99.57%)."""
    begin = f"{printable(head)}: " if head else ""
    of = f"{figures['n']:,} {PARTS.get(split or '', '')} pictures".replace("  ", " ")
    if "top1" in figures:
        low, high = figures["top1_interval"]
        interval = f"95% interval {low * 100:.2f} to {percent(high)}"
        return f"{begin}{percent(figures['top1'])} of {of} right (top-1, {interval})"
    if "map" in figures:
        low, high = figures["map_interval"]
        precision = f"mean average precision {figures['map']:.4f} (95% interval {low:.4f} to {high:.4f})"
        return f"{begin}{precision}, f1 {figures['f1_macro']:.4f} a class, of {of}"
    return f"{begin}f1 {figures['f1_micro']:.4f} over all classes of {of}"


def score_line(score: dict[str, Any]) -> str:
    """score 0.9312 (95% interval 0.9204 to 0.9411): root 2, vowel 1, consonant 1."""
    low, high = score["interval"]
    weights = ", ".join(f"{printable(name)} {weight:g}" for name, weight in score["weights"].items())
    return f"score {score['value']:.4f} (95% interval {low:.4f} to {high:.4f}): {weights}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
