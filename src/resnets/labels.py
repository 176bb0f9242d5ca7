"""What a network's output means: a head and its classes, in an order that is made once and stored."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from resnets.base.errors import DataError, ModelFileError

LABEL = "label"  # the name of the only head where there is one
THRESHOLD = 0.5  # of a class for which none was chosen


@dataclass(frozen=True, kw_only=True)
class Head:
    """One question a network answers, and its classes in order.

    kind: `single` (one class a picture) or `multi` (any number of classes a picture).
    ids: unique, what matching goes by: a folder name, a WordNet id, a number as text.
    names: what is shown; names may repeat. Empty: the ids are shown.
    thresholds: for `multi`, the probability from which each class counts as present; empty: a half.
    """

    kind: Literal["single", "multi"] = "single"
    ids: tuple[str, ...]
    names: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "names", tuple(self.names) or self.ids)
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name in self.ids if self.ids.count(name) > 1)
            raise DataError(f"class ids must be unique, {twice!r} occurs twice; give it another id")
        if len(self.names) != len(self.ids):
            raise DataError(f"a head with {len(self.ids)} class ids needs as many names, got {len(self.names)}")
        if self.thresholds and len(self.thresholds) != len(self.ids):
            raise DataError(
                f"a head with {len(self.ids)} class ids needs as many thresholds, got {len(self.thresholds)}"
            )

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """The probability from which each class counts as present."""
        return self.thresholds or (THRESHOLD,) * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def index(self) -> dict[str, int]:
        """Class id to position."""
        return {name: position for position, name in enumerate(self.ids)}

    def named(self, name: str) -> tuple[str, ...]:
        """The ids of the classes that are shown by this name; there may be several."""
        return tuple(one for one, shown in zip(self.ids, self.names, strict=True) if shown == name)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Head":
        try:
            return cls(**values)
        except (TypeError, DataError) as error:
            raise ModelFileError(f"a stored head cannot be used: {error}") from error
