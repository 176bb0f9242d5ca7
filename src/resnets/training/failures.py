"""What a run that cannot go on says: what happened, where, and what to try."""

from collections.abc import Callable, Mapping

from resnets.base.errors import NotFinite, WorkStopped
from resnets.base.text import printable
from resnets.training.config import TrainConfig
from resnets.training.position import Position


def nothing_readable(bad: Mapping[int, str], *, path: Callable[[int], str], resume: str) -> WorkStopped:
    """bad: row -> reason, of every picture of a batch. resume: the command that goes on with the run."""
    row, reason = next(iter(bad.items()))
    return WorkStopped(
        f"none of the {len(bad)} pictures of a batch could be read, such as {printable(path(row))} ({reason}); "
        f"is the disk still there? {resume} goes on from the last checkpoint"
    )


def not_finite(loss: float, position: Position, *, learning_rate: float, config: TrainConfig) -> NotFinite:
    """The loss was NaN or infinite."""
    cures = [f"--lr {(config.lr or 1) / 10:g}", "--clip 1"]
    if config.precision == "bf16":
        cures.append("--precision fp32")
    return NotFinite(
        f"the loss became {loss} at step {position.step} (epoch {position.epoch + 1}, learning rate "
        f"{learning_rate:g}); the last checkpoint is kept: try a new run with {' or '.join(cures)}"
    )
