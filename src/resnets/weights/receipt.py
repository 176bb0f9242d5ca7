"""The receipt of a load: what became of every tensor, in counts, in one line and in a table."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from resnets.base.text import printable

Action = Literal["loaded", "renamed", "adapted", "reinitialised", "ignored"]
ACTIONS: tuple[Action, ...] = ("loaded", "renamed", "adapted", "reinitialised", "ignored")
IN_WORDS = {
    "loaded": "as they are",
    "renamed": "renamed",
    "adapted": "adapted",
    "reinitialised": "re-initialised",
    "ignored": "ignored",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor: its name in the network (empty if ignored) and in the file (empty if re-initialised).

    parameters: how many numbers that are trained it has; 0 for batch-norm statistics and counters.
    why: how it was adapted, or why it was re-initialised or ignored.
    """

    action: Action
    tensor: str
    source: str
    shape: tuple[int, ...]
    parameters: int = 0
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The account of one load.

    source: the file's name. sha256: of the whole file. layout: whose names it has. licence: as the file states it.
    folded: its batch norms hold folded statistics (mean 0, variance 1), to be recalibrated or frozen in training.
    assumptions: what the file does not say and was taken for granted. notes: what else should be known.
    """

    source: str
    sha256: str
    layout: str
    entries: tuple[Entry, ...]
    licence: str | None = None
    folded: bool = False
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def counts(self) -> dict[str, dict[str, int]]:
        """Action -> number of tensors and of parameters."""
        return {
            action: {
                "tensors": sum(entry.action == action for entry in self.entries),
                "parameters": sum(entry.parameters for entry in self.entries if entry.action == action),
            }
            for action in ACTIONS
        }

    def line(self) -> str:
        """The whole account in one line."""
        counts = self.counts()
        parts = []
        for action in ACTIONS:
            tensors, parameters = counts[action]["tensors"], counts[action]["parameters"]
            if tensors:
                part = f"{tensors:,} {IN_WORDS[action]} ({parameters:,} parameters)"
                parts.append(part + self._reasons(action))
        text = f"weights {printable(self.source)} ({self.layout}): {', '.join(parts) or 'no tensors'}"
        return f"{text}; sha256 {self.sha256[:12]}; licence: {printable(self.licence or 'not stated')}"

    def table(self) -> str:
        """One line a tensor, then assumptions and notes."""
        rows = [("tensor", "in the file", "shape", "what happened")]
        for entry in self.entries:
            source = "" if entry.source == entry.tensor else entry.source
            happened = IN_WORDS[entry.action].replace("as they are", "as it is")
            shape = "x".join(map(str, entry.shape)) or "scalar"
            rows.append(
                (entry.tensor, printable(source), shape, happened + (f": {entry.why}" if entry.why else ""))
            )
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]).rstrip() for row in rows]
        lines += [f"assumed: {text}" for text in self.assumptions]
        lines += [f"note: {text}" for text in self.notes]
        return "\n".join([*lines, self.line()])

    def to_json(self) -> dict[str, Any]:
        """Plain values; entries as lists of action, tensor, source, shape, parameters, why."""
        return {
            "source": self.source,
            "sha256": self.sha256,
            "layout": self.layout,
            "licence": self.licence,
            "folded": self.folded,
            "counts": self.counts(),
            "assumptions": list(self.assumptions),
            "notes": list(self.notes),
            "entries": [
                [entry.action, entry.tensor, entry.source, list(entry.shape), entry.parameters, entry.why]
                for entry in self.entries
            ],
        }

    def _reasons(self, action: Action) -> str:
        """The distinct reasons of an action, where they are few."""
        reasons = _distinct(entry.why for entry in self.entries if entry.action == action and entry.why)
        if not reasons:
            return ""
        return f": {reasons[0]}" + (f" and {len(reasons) - 1} other reasons" if len(reasons) > 1 else "")


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
