"""What is printed when a command fails, and the exit status it ends with: one line, a traceback with --debug."""

import errno
import sys
import traceback

from resnets.base.errors import (
    Interrupted,
    NotFinite,
    OtherProcessFailed,
    ResnetsError,
    RunError,
    UsageError,
    is_out_of_memory,
)
from resnets.base.text import printable
from resnets.base.world import World, world

STOPPED_BY_FAILURE = 3
OUR_FAULT = 70
CTRL_C = 130
READER_GONE = 141  # 128 + SIGPIPE: what reads our output went away, as `head` does
UNUSABLE_PATH = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


class OutputClosed(Exception):
    """Whoever reads our stdout has gone; there is nobody left to print to."""


def failed(error: BaseException, *, debug: bool) -> int:
    """Print one line about `error` on stderr, after its traceback if `debug`; the exit status."""
    status, message = _explained(error)
    speaks, speaker = _speaker(error)
    if debug and not isinstance(error, OutputClosed):
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(printable(line), file=sys.stderr)
    if message and speaks:
        print(f"{speaker}: {printable(message)}", file=sys.stderr)
    return status


def _speaker(error: BaseException) -> tuple[bool, str]:
    """Whether this process, of several, is to tell of an error, and the name that it goes by.

    What all of them meet is told by the first; a wrong use by the first of each machine, which may lack something.
    """
    try:
        here = world()
    except UsageError:  # it is what is told
        here = World()
    if here.leads:
        return True, "resnets"
    theirs = isinstance(error, Interrupted | NotFinite | OtherProcessFailed)
    theirs = theirs or (here.local_rank > 0 and isinstance(error, UsageError | RunError))
    return not theirs, f"resnets (process {here.rank})"


def _explained(error: BaseException) -> tuple[int, str]:
    """Exit status and message."""
    if isinstance(error, ResnetsError):
        return error.exit_status, str(error)
    if isinstance(error, KeyboardInterrupt):
        return CTRL_C, "stopped by Ctrl-C"
    if isinstance(error, OutputClosed):
        return READER_GONE, ""
    if is_out_of_memory(error):
        return STOPPED_BY_FAILURE, "there is not enough memory; try a smaller --batch or --size"
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return STOPPED_BY_FAILURE, f"no space left on the disk{where}; free some space and try again"
        if error.errno in UNUSABLE_PATH and where:
            return 2, f"{error.strerror}{where}"
    what = f"{type(error).__name__}: {_in_one_line(error)}"
    return OUR_FAULT, f"a fault of ours: {what}; please report it with what the same command prints with --debug"


def _in_one_line(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).split("\n") if line.strip())
