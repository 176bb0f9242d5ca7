"""How this program is called, for the commands that its messages tell people to type."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def own_command() -> list[str]:
    """What to type to run this program again, as it was run this time."""
    program = Path(sys.argv[0])
    if (program.parent.name, program.name) == ("resnets", "__main__.py"):
        return [sys.executable, "-m", "resnets"]
    found = shutil.which("resnets")
    if program.name != "resnets" or (found is not None and os.path.samefile(found, program)):
        return ["resnets"]
    return [str(program)]


def command_line(*arguments: str) -> str:
    """A command of this program as it can be typed into a shell here."""
    return shlex.join([*own_command(), *arguments])
