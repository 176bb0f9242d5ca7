"""The command line: a verb is one file, which reads arguments, calls one public function and prints its record.

stdout has the result alone (with `--json` one object or JSON lines); progress, warnings and errors go to stderr.
"""

import atexit
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from resnets._version import VERSION


def program() -> NoReturn:
    """The `resnets` process: it ends once all is written and told, without tearing libraries down.

    Native libraries stop their threads in destructors, where now and then one aborts a process whose work is done.
    What was registered to run at the end still runs, before this.
    """
    status = [1]
    atexit.register(lambda: os._exit(status[0]))  # the first that is registered runs last
    status[0] = main()
    sys.exit(status[0])


def main() -> int:
    """Run the command line that the process was given; its exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  it lives as long as the process
        getattr(sys, name).reconfigure(errors="backslashreplace")  # no name may stop the printing of a result
    status = app(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        from resnets.cli.failures import OutputClosed, failed

        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else the interpreter's own flush at the end complains
        return status or failed(OutputClosed() if isinstance(error, BrokenPipeError) else error, debug=False)
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
