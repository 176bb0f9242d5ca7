"""`resnets predict`."""

from pathlib import Path
from typing import Any, Literal

from resnets.base.errors import UsageError
from resnets.cli.commands import Command, Option
from resnets.cli.evaluate import MODEL, VIEWS, machine_options
from resnets.cli.filewise import DETAILS, OUT, PATH, answer_files, by_ending
from resnets.cli.terminal import Terminal


def run(given: dict[str, Any], terminal: Terminal) -> int:
    from resnets.evaluation.answers import write_predictions
    from resnets.verbs.predict import predict, predict_in_parts

    return answer_files(
        given,
        terminal,
        doing="predicting",
        alone=predict,
        parts=predict_in_parts,
        form=_format,
        write=lambda answers, form, target, _: write_predictions(answers, form, target),
    )


def _format(asked: str | None, out: Path | None, *, json: bool) -> Any:
    """The format that was asked for, else that of the ending of --out, else lines for people or for scripts."""
    if json and out is None and asked not in (None, "jsonl"):
        raise UsageError(f"--json prints JSON lines, --format {asked} something else; give one of them")
    if asked == "parquet" and out is None:
        raise UsageError("--format parquet needs a file to write to: give --out FILE.parquet")
    return asked or by_ending(out) or ("jsonl" if json else "table")


COMMAND = Command(
    arguments=(MODEL, PATH),
    options=(
        Option(name="top", hint=int, help="classes a picture, the likeliest first, where it has one class"),
        VIEWS,
        Option(
            name="format",
            hint=Literal["table", "jsonl", "csv", "parquet"],
            help="by default the ending of --out, else a table to read; --json gives jsonl",
        ),
        OUT,
        *machine_options("by default bf16 where the hardware multiplies it; its close calls are made in fp32"),
    ),
    details=DETAILS,
    examples=(
        "resnets predict runs/digits-resnet20 picture.png",
        "resnets predict model.safetensors photos/ '*.jpg' --top 3 --out answers.csv",
        "find photos -name '*.jpg' -print0 | resnets predict model.safetensors - --json",
        "torchrun --nproc-per-node 4 -m resnets predict model.safetensors photos/ --out answers/",
    ),
    run=run,
)
