"""What an interactive Python session is shown of a run: its remarks, and a line an epoch."""

import sys
from typing import Any


def is_interactive() -> bool:
    """Whether somebody types into this Python: a notebook, IPython, or the interpreter's prompt."""
    return hasattr(sys, "ps1") or "IPython" in sys.modules


def show(event: dict[str, Any]) -> None:
    """Write what a person should see of an event to stderr."""
    if "text" in event:
        sys.stderr.write(f"{event['text']}\n")
    elif event["event"] == "epoch":
        judged = f", validation top-1 {event['val_top1']:.2%}" if "val_top1" in event else ""
        sys.stderr.write(
            f"epoch {event['epoch']}: loss {event['loss']:.4f}{judged}, {event['images_per_second']:,.0f} images/s, "
            f"{event['seconds']:.1f} s\n"
        )
    elif event["event"] == "left_out":
        sys.stderr.write(f"left out: {ascii(event['path'])}: {event['reason']}\n")
    sys.stderr.flush()
