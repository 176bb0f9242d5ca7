"""`resnets embed`."""

from pathlib import Path
from typing import Any, Literal

from resnets.base.errors import UsageError
from resnets.cli.commands import Command, Option
from resnets.cli.evaluate import MODEL, VIEWS, machine_options
from resnets.cli.filewise import DETAILS, OUT, PATH, answer_files, by_ending
from resnets.cli.terminal import Terminal


def run(given: dict[str, Any], terminal: Terminal) -> int:
    from resnets.evaluation.embeddings import write_embeddings
    from resnets.verbs.embed import embed, embed_in_parts

    return answer_files(
        given,
        terminal,
        doing="embedding",
        alone=embed,
        parts=embed_in_parts,
        form=_format,
        write=lambda rows, form, target, all_of: write_embeddings(rows, form, target, about=all_of.about),
    )


def _format(asked: str | None, out: Path | None, *, json: bool) -> Any:
    """The format that was asked for, else that of the ending of --out; JSON lines alone go to stdout."""
    form = asked or by_ending(out) or ("jsonl" if json and out is None else None)
    if form not in ("jsonl", "parquet") or (out is None and form == "parquet"):
        raise UsageError(
            "features are hundreds of numbers a picture: give --out FILE.parquet, FILE.jsonl or FOLDER/, or "
            "--json for JSON lines on stdout"
        )
    return form


COMMAND = Command(
    arguments=(MODEL, PATH),
    options=(
        VIEWS,
        Option(name="format", hint=Literal["jsonl", "parquet"], help="by default the ending of --out"),
        OUT,
        *machine_options("of the computation, fp32 by default"),
    ),
    details=f"Features are its last map, pooled: 512 numbers of a ResNet-18, 2,048 of a ResNet-50. {DETAILS}",
    examples=(
        "resnets embed runs/pictures-resnet18 photos/ --out features.parquet",
        "resnets embed model.safetensors 'shards/train-{000000..000009}.tar' --out features/",
        "torchrun --nproc-per-node 4 -m resnets embed model.safetensors photos/ --out features/",
    ),
    run=run,
)
