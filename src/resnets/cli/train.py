"""`resnets train`."""

from typing import Any
from resnets.cli.commands import Argument, Command, Option, options_of
from resnets.cli.terminal import Terminal
from resnets.training.config import RESUMABLE, TrainConfig


def run(given: dict[str, Any], terminal: Terminal) -> int:
    print(given)
    return 0


COMMAND = Command(
    arguments=(
        Argument(
            name="data",
            help="Where the pictures are: a folder of class folders, a file or a name.",
            required=False,
        ),
    ),
    options=(Option(name="resume", hint=str, help="x"), *options_of(TrainConfig)),
    run=run,
    examples=("resnets train digits",),
)
