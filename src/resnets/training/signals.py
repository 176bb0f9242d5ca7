"""Ctrl-C and SIGTERM: at once while a run is being prepared, after the step in hand while it trains."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from resnets.base.errors import Interrupted
from resnets.base.world import world

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal asked for the end. While `patient`, it is noted and the work ends at a good place.

    A second signal does not wait, unless there are several processes: whoever started them passes signals on, so
    that one comes twice, and ends what takes too long. `resume_command` goes into the message.
    """

    def __init__(self, resume_command: str) -> None:
        self.resume_command = resume_command
        self.patient = False
        self.number: int | None = None

    def interrupted(self) -> Interrupted:
        number = self.number or int(signal.SIGINT)
        return Interrupted(
            f"stopped by {signal.Signals(number).name}; go on with: {self.resume_command}", signal_number=number
        )

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        again = self.number is not None and world().size == 1
        self.number = number
        if again or not self.patient:
            raise self.interrupted()


@contextlib.contextmanager
def listening(resume_command: str) -> Iterator[Stop]:
    """Handle the signals inside the block, as before afterwards; outside the main thread nothing is handled."""
    stop = Stop(resume_command)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop._receive) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
