"""`resnets summary`."""

from dataclasses import asdict
from typing import Any

from resnets.base.errors import UsageError
from resnets.cli.commands import Argument, Command, Option
from resnets.cli.terminal import Terminal, table


def run(given: dict[str, Any], terminal: Terminal) -> int:
    from resnets.training.config import parse_size
    from resnets.verbs.summary import summary

    if given.get("receipt"):
        return _receipt(given, terminal)
    size = parse_size(given["size"]) if "size" in given else None
    result = summary(given["model"], size=size, num_classes=given.get("classes"))
    if terminal.json:
        terminal.emit({**asdict(result), "seconds": terminal.seconds()})
        return 0
    rows = [
        [
            layer.name,
            layer.kind,
            " × ".join(map(str, layer.output)),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds:,}",
        ]
        for layer in result.layers
    ]
    headings = ["layer", "kind", "output", "parameters", "multiply-adds"]
    for line in table(headings, rows, right=[2, 3, 4]):
        terminal.say(line)
    height, width = result.size
    terminal.say(
        f"{result.parameters:,} parameters; {in_words(result.multiply_adds)} multiply-adds "
        f"for one picture of {result.channels} × {height} × {width}"
    )
    return 0


def _receipt(given: dict[str, Any], terminal: Terminal) -> int:
    from resnets.verbs.summary import receipt

    if given.keys() & {"size", "classes"}:
        raise UsageError("--receipt is of a file as it is, without --size and --classes")
    account = receipt(given["model"])
    if terminal.json:
        terminal.emit({**account.to_json(), "seconds": terminal.seconds()})
    else:
        terminal.say(account.table())
    return 0


def in_words(count: int) -> str:
    """4.09 G, 40.55 M."""
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:,}"


COMMAND = Command(
    arguments=(Argument(name="model", help="a network's name (resnets models lists them) or a model file"),),
    options=(
        Option(name="size", hint=str, metavar="N|HxW", help="the picture's size in pixels"),
        Option(name="classes", hint=int, help="how many classes a named network tells apart"),
        Option(name="receipt", hint=bool, help="what happens to every tensor of a weights file when it is loaded"),
    ),
    examples=(
        "resnets summary resnet50 --size 224",
        "resnets summary resnet50-0676ba61.pth --receipt",
        "resnets summary runs/digits-resnet20/model.safetensors",
    ),
    run=run,
)
