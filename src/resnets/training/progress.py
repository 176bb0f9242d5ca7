"""What a display hears of a run while it trains: how far it is, and how fast."""

import time
from collections.abc import Callable
from typing import Any

from resnets.training.efficiency import Efficiency

SHOWN_SECONDS = 0.2  # how often a display hears of progress


class Progress:
    """Tells `on_event` of progress a few times a second; nothing of it is written down."""

    def __init__(self, efficiency: Efficiency, on_event: Callable[[dict[str, Any]], None]) -> None:
        self.efficiency, self.on_event = efficiency, on_event
        self.shown_at = 0.0
        self.begin()

    def begin(self) -> None:
        """An epoch begins, or the rest of one: rates are counted from here."""
        self.efficiency.begin()
        self.started = time.monotonic()

    def add(self, pictures: int, size: tuple[int, int]) -> None:
        """Count a step of so many pictures of (height, width)."""
        self.efficiency.add(pictures, size)

    def show(self, waited: float, where: Callable[[], dict[str, int]]) -> None:
        """Tell of it, where it is time to. waited: seconds for pictures since `begin`."""
        now = time.monotonic()
        if now - self.shown_at < SHOWN_SECONDS:
            return
        self.shown_at = now
        self.efficiency.measure()
        self.on_event({"event": "progress", **where(), **self.rates(waited)})

    def rates(self, waited: float) -> dict[str, float]:
        """Pictures a second since `begin`, and the shares of time and of the machine that an epoch tells."""
        seconds = max(1e-9, time.monotonic() - self.started)
        rates = {
            "images_per_second": self.efficiency.pictures.total() / seconds,
            "waiting": waited / seconds,
        }
        share = self.efficiency.share(seconds)
        return rates if share is None else rates | {"matrix_share": share}
