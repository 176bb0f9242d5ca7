"""`resnets shards`."""

from typing import Any

from resnets.base.options import taken_from
from resnets.base.text import counted, printable
from resnets.cli.commands import Argument, Command, Option, options_of
from resnets.cli.live import watching
from resnets.cli.terminal import Terminal
from resnets.data.options import DataOptions


def run(given: dict[str, Any], terminal: Terminal) -> int:
    options = taken_from(given, DataOptions)
    with watching(terminal) as watch:
        from resnets.verbs.shards import shards

        written = shards(options=options, progress=watch.progress, **given)
    if terminal.json:
        terminal.emit(written.to_json() | {"seconds": terminal.seconds()})
    else:
        parts = ", ".join(f"{count:,} {part}" for part, count in written.pictures.items())
        lost = (
            f"; {counted(len(written.left_out), 'file')} left out, see manifest.parquet"
            if written.left_out
            else ""
        )
        where = printable(str(written.outputs[0].parent))
        terminal.say(f"{counted(written.shards, 'shard')} in {where}: {parts}{lost}")
    return 0


COMMAND = Command(
    arguments=(
        Argument(name="data", help="what resnets train takes: a folder, a table, a manifest or a name"),
        Argument(name="out", help="the folder to make; it must not be there"),
    ),
    options=(
        Option(name="megabytes", hint=int, help="that a shard has at most, 256 by default"),
        Option(name="classes", hint=str, metavar="FILE", help="names of the classes: CSV with id,name"),
        Option(name="strict_data", hint=bool, help="a file that must be left out is an error"),
        *options_of(DataOptions),
    ),
    details="The bytes of every picture stay as they are; the shards are a source like any other.",
    examples=(
        "resnets shards pictures/ shards/",
        "resnets train shards/",
        "resnets evaluate model.safetensors 'shards/val-{000000..000004}.tar'",
    ),
    run=run,
)
