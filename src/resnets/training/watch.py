"""What an interactive Python session is shown of a run: its remarks, and a line an epoch."""

import sys
from typing import Any

from resnets.base.text import printable

JUDGED = (
    ("val_top1", "validation top-1", ".2%"),
    ("val_map", "validation mean average precision", ".4f"),
    ("val_score", "validation score", ".4f"),
)


def is_interactive() -> bool:
    """Whether somebody types into this Python: a notebook, IPython, or the interpreter's prompt."""
    return hasattr(sys, "ps1") or "IPython" in sys.modules


def show(event: dict[str, Any]) -> None:
    """Write what a person should see of an event to stderr."""
    if "text" in event:
        line = event["text"]
    elif event["event"] == "epoch":
        judged = "".join(f", {words} {event[name]:{form}}" for name, words, form in JUDGED if name in event)
        rate = f"{event['images_per_second']:,.0f} images/s, {event['seconds']:.1f} s"
        line = f"epoch {event['epoch']}: loss {event['loss']:.4f}{judged}, {rate}"
    elif event["event"] == "left_out":
        line = f"left out: {event['path']}: {event['reason']}"
    else:
        return
    sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()
