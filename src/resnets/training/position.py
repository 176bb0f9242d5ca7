"""Where a run stands."""

from dataclasses import dataclass, field
from typing import Any

from resnets.training.schedule import Course


@dataclass(kw_only=True)
class Position:
    """Where a run stands: the counters of a checkpoint.

    step: steps done. epoch, batch: where the next step is. loss, pictures: sums over this epoch so far.
    best, best_epoch: the highest validation figure, and where it was.
    bad: row -> reason, pictures found unreadable during training. departures: why the run is no longer exact.
    seconds: worked so far, with all that was resumed. course: where the run was shortened, to end in time.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    pictures: int = 0
    best: float | None = None
    best_epoch: int | None = None
    bad: dict[int, str] = field(default_factory=dict)
    departures: list[str] = field(default_factory=list)
    stopped_early: bool = False
    seconds: float = 0.0
    course: Course | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Position":
        course = values.get("course")
        bad = {int(row): reason for row, reason in values["bad"].items()}
        return cls(**values | {"bad": bad, "course": None if course is None else Course(**course)})
