"""`resnets models`."""

from typing import Any

from resnets.cli.commands import Command, Option
from resnets.cli.terminal import Terminal, table
from resnets.networks.spec import ResNetSpec
from resnets.verbs.models import models, weights


def run(given: dict[str, Any], terminal: Terminal) -> int:
    if given.get("weights"):
        return _weights(terminal)
    named = models()
    if terminal.json:
        records = [{"name": name, **spec.to_json()} for name, spec in named.items()]
        terminal.emit({"models": records, "seconds": terminal.seconds()})
        return 0
    rows = [[name, *_cells(spec)] for name, spec in named.items()]
    for line in table(["name", "block", "blocks", "width", "stem", "shortcut", "more"], rows, right=[3]):
        terminal.say(line)
    return 0


def _weights(terminal: Terminal) -> int:
    rows = weights().values()
    if terminal.json:
        records = [
            {
                "name": row.name,
                "url": row.file.url,
                "sha256": row.file.sha256 or None,
                "size": row.preprocess.size[0],
                "top1": row.top1,
                "top5": row.top5,
                "licence": row.licence,
            }
            for row in rows
        ]
        terminal.emit({"weights": records, "seconds": terminal.seconds()})
        return 0
    cells = [
        [
            row.name,
            f"{row.top1:.2f}%" if row.top1 is not None else "",
            str(row.preprocess.size[0]),
            row.licence + ("" if row.file.sha256 else ", by hand: no hash is published"),
        ]
        for row in rows
    ]
    for line in table(["weights", "top-1", "pixels", "licence"], cells, right=[1, 2]):
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
    options=(
        Option(name="weights", hint=bool, help="list published weights: accuracy on ImageNet, pixels, licence"),
    ),
    details="resnets summary NAME shows one of them layer by layer.",
    examples=("resnets models", "resnets models --weights", "resnets models --json"),
    run=run,
)
