"""`resnets evaluate`."""

from dataclasses import replace
from typing import Any, Literal

from resnets.base.machine import keep_freed_memory
from resnets.base.options import taken_from
from resnets.base.world import world
from resnets.cli.commands import Argument, Command, Option, options_of
from resnets.cli.terminal import Terminal
from resnets.data.options import DataOptions


def run(given: dict[str, Any], terminal: Terminal) -> int:
    keep_freed_memory()
    options = taken_from(given, DataOptions)
    from resnets.verbs.evaluate import evaluate

    with terminal.progress("measuring", unit="pictures") as report:
        evaluation = evaluate(progress=report, options=options, **given)
    if not world().leads:
        return 0
    if terminal.json:
        terminal.emit(evaluation.to_json() | {"seconds": terminal.seconds()})
    else:
        terminal.say(evaluation.table())
    return 0


MODEL = Argument(name="model", help="a model file, a run folder, or weights of torchvision, timm or akamaster")
VIEWS = Option(
    name="views",
    hint=Literal["one", "flip", "flip-shift"],
    help="what an answer is the mean of: the picture, its mirror image too, or six views with shifts by a pixel",
)


def machine_options(precision: str) -> tuple[Option, ...]:
    """Where a network runs; precision: the help of that option."""
    options = (
        Option(name="batch", hint=int, help="pictures at a time"),
        Option(name="device", hint=str, help="cpu, cuda, cuda:N or mps"),
        Option(name="precision", hint=Literal["fp32", "bf16"], help=precision),
        Option(name="threads", hint=int, help="processor threads"),
    )
    return tuple(replace(option, group="The machine") for option in options)


COMMAND = Command(
    arguments=(MODEL, Argument(name="data", help="what resnets train takes: a folder, a file or a name")),
    options=(
        Option(
            name="split",
            hint=Literal["train", "val", "test", "all"],
            help="the part to measure; by default test, else val, else all",
        ),
        Option(
            name="score_weight",
            hint=tuple[str, ...],
            help="several label columns: how much one counts in the score, as NAME=X; by default as in training",
        ),
        VIEWS,
        Option(name="strict_data", hint=bool, help="a file that must be left out is an error"),
        Option(
            name="out",
            hint=str,
            metavar="PATH",
            help="write the answers to every picture: to a file (Parquet), or to a folder (answers/), in parts",
        ),
        *options_of(DataOptions),
        *machine_options("fp32 by default; in bf16 close calls are made in fp32"),
    ),
    details="Every figure has its n and its 95% interval; classes are matched by their ids. "
    "Work in parts goes on after what is done when the command is given again; torchrun shares it out.",
    examples=(
        "resnets evaluate runs/digits-resnet20 digits",
        "resnets evaluate model.safetensors pictures/ --split val --json",
        "torchrun --nproc-per-node 4 -m resnets evaluate model.safetensors pictures/ --out answers/",
    ),
    run=run,
)
