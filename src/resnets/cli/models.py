"""`resnets models`."""

from typing import Any

from resnets.cli.commands import Command
from resnets.cli.terminal import Terminal, table
from resnets.networks.spec import ResNetSpec
from resnets.verbs.models import models


def run(given: dict[str, Any], terminal: Terminal) -> int:
    named = models()
    if terminal.json:
        records = [{"name": name, **spec.to_json()} for name, spec in named.items()]
        terminal.emit({"models": records, "seconds": terminal.seconds()})
        return 0
    rows = [[name, *_cells(spec)] for name, spec in named.items()]
    for line in table(["name", "block", "blocks", "width", "stem", "shortcut", "more"], rows, right=[3]):
        terminal.say(line)
    return 0


def _cells(spec: ResNetSpec) -> list[str]:
    more = {
        "stride in 1x1": spec.stride_in == "1x1" and spec.block == "bottleneck",
        f"{spec.groups} groups of {spec.group_width}": spec.groups > 1,
        spec.attention: spec.attention != "none",
        "antialias": spec.antialias,
        f"{spec.norm} norm": spec.norm != "batch",
        f"drop path {spec.drop_path}": spec.drop_path > 0,
    }
    depths = "-".join(map(str, spec.depths))
    return [
        spec.block.replace("_", " "),
        depths,
        str(spec.width),
        spec.stem,
        spec.shortcut,
        ", ".join(words for words, holds in more.items() if holds),
    ]


COMMAND = Command(
    details="resnets summary NAME shows one of them layer by layer.",
    examples=("resnets models", "resnets models --json"),
    run=run,
)
