"""The record of one inspection, its facts in words and as JSON."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.manifest import Manifest
from resnets.data.source import PARTS
from resnets.understanding.doctor.classes import Counts
from resnets.understanding.doctor.facts import Facts, mean_and_deviation
from resnets.understanding.doctor.finding import Finding


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found in one data set.

    files: all rows; kept, left_out: how many can be used, path and reason of the others. strays, beside: files
    that are no rows. pictures: part -> how many. mean, std: RGB in [0, 1], every picture counting the same.
    widths, heights: least, median, largest, in pixels. formats, channels: how many of each. classes: head ->
    counts. decoded: files that were decoded this time; the others were known. corrected: labels, by the manifest.
    notes: what else is to be said. manifest: one row a file, with the findings as columns.
    """

    data: str
    files: int
    kept: int
    left_out: tuple[tuple[str, str], ...]
    strays: int
    beside: int
    pictures: dict[str, int]
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    formats: dict[str, int]
    channels: dict[str, int]
    classes: dict[str, Counts]
    findings: tuple[Finding, ...]
    decoded: int
    corrected: int
    notes: tuple[str, ...]
    manifest: Manifest = field(repr=False, compare=False)
    outputs: tuple[Path, ...] = ()
    seconds: float = field(compare=False)

    def finding(self, kind: str) -> Finding | None:
        """The finding of this kind, None where nothing was found."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    def to_json(self) -> dict[str, Any]:
        plain = ("data", "files", "kept", "strays", "beside", "pictures", "mean", "std", "formats", "channels")
        return {
            **{name: getattr(self, name) for name in plain},
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
            "widths": list(self.widths),
            "heights": list(self.heights),
            "classes": {
                head: {
                    name: {part: int(numbers[place]) for part, numbers in counts.of_part.items()}
                    for place, name in enumerate(counts.ids)
                }
                for head, counts in self.classes.items()
            },
            "without_label": {head: counts.without for head, counts in self.classes.items()},
            "findings": [finding.to_json() for finding in self.findings],
            "decoded": self.decoded,
            "corrected": self.corrected,
            "notes": list(self.notes),
            "outputs": [str(path) for path in self.outputs],
            "seconds": round(self.seconds, 3),
        }


def measures(data: Data, facts: Facts) -> dict[str, Any]:
    """What is said of the pictures as a whole; zeros where none can be decoded."""
    rows = facts.rows()
    table = data.manifest.table
    mean, std = mean_and_deviation(facts, rows) if len(rows) else ((0.0,) * 3, (0.0,) * 3)
    sides = [
        tuple(int(np.quantile(numbers[rows], share)) if len(rows) else 0 for share in (0, 0.5, 1))
        for numbers in data.sizes
    ]
    values = {name: np.array(table[name].to_pylist(), dtype=object)[rows] for name in ("format", "channels")}
    return {
        "pictures": {part: len(np.intersect1d(data.rows(part), rows)) for part in PARTS if len(data.rows(part))},
        "widths": sides[0],
        "heights": sides[1],
        "mean": tuple(round(value, 4) for value in mean),
        "std": tuple(round(value, 4) for value in std),
        "formats": dict(Counter(values["format"].tolist()).most_common()),
        "channels": dict(Counter(values["channels"].tolist()).most_common()),
    }


def facts_in_words(found: Inspection) -> dict[str, str]:
    """The facts for people: heading -> text."""
    parts = ", ".join(f"{count:,} {part}" for part, count in found.pictures.items())
    others = {"left out": len(found.left_out), "beside": found.beside, "stray": found.strays}
    counted = [f"{count:,} {word}" for word, count in others.items() if count]
    (narrow, width, wide), (low, height, high) = found.widths, found.heights
    one_size = (narrow, low) == (wide, high)
    sizes = (
        f"{width} x {height}" if one_size else f"{narrow} x {low} to {wide} x {high}, median {width} x {height}"
    )
    kinds = ", ".join(f"{count:,} {name}" for name, count in [*found.formats.items(), *found.channels.items()])
    words = {
        "files": ", ".join([f"{found.files:,}", f"{found.kept:,} kept", *counted]),
        "parts": parts,
        "classes": ", ".join(
            f"{len(counts.ids):,}" + f" of {printable(head)}" * (len(found.classes) > 1)
            for head, counts in found.classes.items()
        ),
        "pixels": sizes,
        "stored as": kinds,
        "mean": ", ".join(f"{value:.4f}" for value in found.mean) + " (RGB, 0 to 1)",
        "deviation": ", ".join(f"{value:.4f}" for value in found.std),
    }
    without = {head: counts.without for head, counts in found.classes.items() if counts.without}
    if without:
        words["no label"] = ", ".join(f"{count:,} of {printable(head)}" for head, count in without.items())
    if found.corrected:
        words["corrected"] = f"{found.corrected:,} labels"
    return words
