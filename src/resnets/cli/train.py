"""`resnets train`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.base.errors import UsageError
from resnets.base.machine import keep_freed_memory
from resnets.base.options import flag_of
from resnets.base.program import command_line
from resnets.base.text import printable
from resnets.base.world import world
from resnets.cli.commands import Argument, Command, Option, options_of
from resnets.cli.figures import headline, score_line
from resnets.cli.live import watching
from resnets.cli.terminal import Terminal
from resnets.training.config import RESUMABLE, TrainConfig, read_config

if TYPE_CHECKING:
    from resnets.verbs.train import Run

PLACEHOLDER = "PICTURE.png"  # in the command to predict, where the data has no file to name


def run(given: dict[str, Any], terminal: Terminal) -> int:
    resume = given.pop("resume", None)
    data = given.pop("data", None)
    file = given.pop("config", None)
    plot = given.pop("find_lr", None)
    if resume is not None:
        _refuse_with_resume(given | ({} if plot is None else {"find_lr": plot}), data=data, file=file)
    elif file is not None:
        data_of_file, options = read_config(Path(file))
        given = options | given
        data = data or data_of_file
    if data is None and resume is None:
        raise UsageError(
            "resnets train needs DATA: a folder of class folders, a file, or a name such as digits; "
            "or --resume RUN; see resnets train --help"
        )
    config = TrainConfig(**given)
    keep_freed_memory()
    if plot is not None:
        return _find_rate(data, config, plot, terminal)
    with watching(terminal) as watch:
        watch.progress("loading torch", 0, None)
        from resnets.verbs.train import train

        finished = train(data, config=config, resume=resume, on_event=watch, on_progress=watch.progress)
    if not world().leads:
        return 0  # the first process speaks for all
    if terminal.json:
        terminal.emit(finished.to_json())
    else:
        for line in closing(finished):
            terminal.say(line)
    return 0


def _find_rate(data: str, config: TrainConfig, plot: str, terminal: Terminal) -> int:
    if world().size > 1:
        raise UsageError("--find-lr is for one process; start it without torchrun")
    with watching(terminal) as watch:
        watch.progress("loading torch", 0, None)
        from resnets.verbs.find_rate import find_rate

        found = find_rate(data, config=config, out=plot, on_progress=watch.progress)
    if terminal.json:
        terminal.emit(found.to_json() | {"outputs": [plot]})
    else:
        terminal.say(f"learning rate: {found.rate:.2g}, a tenth of the one at which the loss was lowest")
        terminal.say(f"plot:  {printable(plot)}")
        terminal.say(f"train: {printable(command_line('train', data, '--lr', f'{found.rate:.2g}'))}")
    return 0


def _refuse_with_resume(given: dict[str, Any], *, data: str | None, file: str | None) -> None:
    """A resumed run goes on as it was planned: what would change it is refused by name."""
    refused = [flag_of(name) for name in given if name not in RESUMABLE]
    refused += ["--config"] if file is not None else []
    refused += [f"DATA ({data})"] if data is not None else []
    if refused:
        allowed = ", ".join(map(flag_of, RESUMABLE))
        raise UsageError(
            f"{', '.join(refused)} cannot be given with --resume, which goes on as the run was planned and "
            f"takes {allowed}; leave it out, or start a new run"
        )


def closing(finished: "Run") -> list[str]:
    """The end of a run for people: its figures and what they are of, what was left out, how to predict."""
    lines = [
        f"{headline(name if len(finished.heads) > 1 else '', figures, split=finished.split)}"
        for name, figures in finished.heads.items()
    ]
    if finished.score is not None:
        lines.append(score_line(finished.score))
    if finished.left_out:
        lines.append(
            f"left out: {finished.left_out:,} files, named in {shown(finished.path / 'manifest.parquet')}"
        )
    picture = _a_picture(finished.path)
    command = command_line("predict", str(finished.model), PLACEHOLDER if picture is None else str(picture))
    return [*lines, f"model:    {shown(finished.model)}", f"predict:  {printable(command)}"]


def shown(path: Path) -> str:
    return printable(str(path))


def _a_picture(run: Path) -> Path | None:
    """The first validation or test picture that is a file with a name that can be typed."""
    from resnets.data.manifest import Manifest

    manifest = Manifest.read(run / "manifest.parquet")
    root = (manifest.address or {}).get("root")
    if root is None:
        return None
    rows = zip(manifest.table["split"].to_pylist(), manifest.paths(), strict=True)
    for part, path in rows:
        picture = Path(root) / path
        if part in ("val", "test") and str(picture).isprintable() and picture.is_file():
            nearer = os.path.relpath(picture)
            return picture if nearer.startswith("..") else Path(nearer)
    return None


COMMAND = Command(
    arguments=(
        Argument(
            name="data",
            help="a folder of class folders, a table (CSV, Parquet), IDX files, a manifest, or a name as digits",
            required=False,
        ),
    ),
    options=(
        Option(name="resume", hint=str, metavar="RUN", help="go on with this run folder", group="The run"),
        Option(name="config", hint=str, metavar="FILE", help="read options from a TOML file", group="The run"),
        Option(
            name="find_lr",
            hint=str,
            metavar="PLOT",
            help="train nothing: try rising rates for 100 steps, draw the losses (.png, .svg), name a rate",
            group="The update",
        ),
        *options_of(TrainConfig),
    ),
    details=(
        "What is not given is chosen from the data and the machine, printed with its reason, and written to the "
        "run's config.toml, which repeats the run."
    ),
    examples=(
        "resnets train digits",
        "resnets train pictures/ --epochs 20 --name first",
        "resnets train --resume runs/first",
        "resnets train --config runs/first/config.toml --seed 1 --name second",
    ),
    run=run,
)
