"""The command line: a verb is one file, which reads arguments, calls one public function and prints its record.

stdout has the result alone (with `--json` one object or JSON lines); progress, warnings and errors go to stderr.
"""

import os
import sys
from collections.abc import Sequence

from resnets._version import VERSION


def main() -> int:
    """The `resnets` command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # no name may stop the printing of a result
    status = app(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        from resnets.cli.failures import READER_GONE

        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else the interpreter's own flush complains
        return status or READER_GONE
    return status


def app(argv: Sequence[str]) -> int:
    """Run one command and give its exit status; errors are printed, never raised."""
    before_dashes = argv[: argv.index("--")] if "--" in argv else argv
    if "--version" in before_dashes:
        print(f'{{"version": "{VERSION}"}}' if "--json" in before_dashes else f"resnets {VERSION}")
        return 0
    try:
        from resnets.cli.commands import dispatch

        return dispatch(list(argv))
    except (Exception, KeyboardInterrupt) as error:
        from resnets.cli.failures import failed

        return failed(error, debug="--debug" in before_dashes)
