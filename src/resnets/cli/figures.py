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
    return f"{begin}f1 {figures['f1_micro']:.4f} over all classes of {of}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
