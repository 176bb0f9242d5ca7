"""The errors a user can meet, as one tree.

    ResnetsError                  status 2: nothing was written
    ├── UsageError                a wrong name, option or combination
    │   └── MissingExtra          an optional package is not installed
    ├── DataError                 pictures, labels or tables that cannot be used
    ├── ModelFileError            a model or weights file that cannot be used
    ├── RunError                  a run folder that cannot be made, locked or resumed
    ├── DownloadError             something remote that could not be had
    ├── Incomplete                status 1: done, but something asked for by name is missing
    ├── WorkStopped               status 3: work had begun; what was saved is kept
    │   ├── NotFinite             the loss became NaN or infinite
    │   ├── OutOfSpace            the disk is full
    │   └── OtherProcessFailed    of several processes, one that is waited for has ended
    └── Interrupted               status 130 or 143: Ctrl-C or SIGTERM, resumable

Every message is one line that says what, where, and what to try.
"""

import difflib
from collections.abc import Iterable


class ResnetsError(Exception):
    """The base of all expected errors; `exit_status` is what the command line ends with."""

    exit_status = 2


class UsageError(ResnetsError, ValueError):
    """A wrong name, option or combination of options."""


class MissingExtra(UsageError, ImportError):
    """An optional package is needed and not installed."""


class DataError(ResnetsError, ValueError):
    """Pictures, labels or tables that cannot be used."""


class ModelFileError(ResnetsError, ValueError):
    """A model or weights file that cannot be used."""


class RunError(ResnetsError):
    """A run folder that cannot be made, locked, read or resumed."""


class DownloadError(ResnetsError, OSError):
    """Something remote that could not be had."""


class Incomplete(ResnetsError):
    """The work is done, but something that was asked for by name is missing from the result."""

    exit_status = 1


class WorkStopped(ResnetsError):
    """A failure after work began; what was saved before is kept."""

    exit_status = 3


class NotFinite(WorkStopped):
    """The loss became NaN or infinite."""


class OutOfSpace(WorkStopped):
    """The disk is full."""


class OtherProcessFailed(WorkStopped):
    """Of several processes that work together, one that is waited for has ended, and says why itself."""


class Interrupted(ResnetsError):
    """Stopped by a signal; the work can be resumed."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


def unknown_name(kind: str, name: str, known: Iterable[str], *, list_all: str) -> UsageError:
    """A UsageError that names the nearest known names, then says how to list all of them."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    suggestion = f"did you mean {' or '.join(near)}? " if near else ""
    return UsageError(f"there is no {kind} named {name!r}; {suggestion}{list_all}")


def is_out_of_memory(error: BaseException) -> bool:
    """Python's, torch's on a GPU, and torch's on the processor, which has no class of its own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
