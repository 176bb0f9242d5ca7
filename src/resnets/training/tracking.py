"""Trackers beside `events.jsonl`: TensorBoard and Weights & Biases, for figures alone, never for pictures.

A tracker that fails is named in one warning and left out from then on; a run never stops for it.
"""

import contextlib
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from resnets.base.errors import unknown_name
from resnets.base.extras import require
from resnets.base.files import write_text

TENSORBOARD_FOLDER, WANDB_ID = "tensorboard", "wandb-id"  # inside the run folder
DEFAULT_PROJECT = "resnets"

log = logging.getLogger("resnets")


class Tracker(Protocol):
    """What a tracker does; any method may raise anything."""

    def log(self, step: int, figures: Mapping[str, float]) -> None: ...

    def summary(self, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """The trackers of one run; nothing here raises."""

    def __init__(self, trackers: dict[str, Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures of one global step."""
        self._each(lambda tracker: tracker.log(step, _plain(figures)))

    def summary(self, figures: Mapping[str, float]) -> None:
        """The figures of the whole run."""
        self._each(lambda tracker: tracker.summary(_plain(figures)))

    def close(self) -> None:
        """Write and send what is left; the trackers are let go."""
        self._each(lambda tracker: tracker.close())
        self._trackers.clear()

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            if not _attempt(name, partial(action, tracker)):
                del self._trackers[name]
                with contextlib.suppress(Exception), _quiet():  # its failure has been told
                    tracker.close()


def check_trackers(names: Sequence[str]) -> None:
    """Raise UsageError for an unknown tracker and MissingExtra for one whose package is not installed."""
    for name in names:
        if name not in OPENERS:
            raise unknown_name("tracker", name, OPENERS, list_all=f"known: {', '.join(OPENERS)}")
        with _quiet():
            require(name, extra=name, purpose=f"Tracking with {name}")


def open_trackers(
    names: Sequence[str], *, run_folder: Path, run_name: str, config: dict[str, Any], project: str | None
) -> Trackers:
    """Open the named trackers for the run in `run_folder`; a resumed run is gone on with under its old id.

    Raises as `check_trackers` does; a tracker that cannot be opened is left out with a warning.
    """
    check_trackers(names)
    opened: dict[str, Tracker] = {}
    for name in dict.fromkeys(names):
        _attempt(name, partial(_open, opened, name, run_folder, run_name, config, project))
    return Trackers(opened)


def _open(
    opened: dict[str, Tracker],
    name: str,
    run_folder: Path,
    run_name: str,
    config: dict[str, Any],
    project: str | None,
) -> None:
    opened[name] = OPENERS[name](run_folder, run_name, config, project)


def _attempt(name: str, action: Callable[[], None]) -> bool:
    """Whether the action went well; a failure is a warning, since foreign code may raise anything."""
    try:
        with _quiet():
            action()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(
            "tracking with %s failed and is off for this run: %s (events.jsonl has every figure)", name, reason
        )
        return False
    return True


def _quiet() -> "warnings.catch_warnings[None]":
    return warnings.catch_warnings(action="ignore")


def _plain(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


class _TensorBoard:
    """Scalars in RUN/tensorboard; a resumed run hides what was logged from its first step on."""

    def __init__(self, run_folder: Path, run_name: str, config: dict[str, Any], project: str | None) -> None:
        self._folder = run_folder / TENSORBOARD_FOLDER
        self._folder.mkdir(exist_ok=True)
        self._writer: Any = None
        self._step = 0

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        self._step = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def summary(self, figures: Mapping[str, float]) -> None:
        self.log(self._step, {f"summary/{name}": value for name, value in figures.items()})

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _WandB:
    """One W&B run, whose id is kept in RUN/wandb-id; no code, git state or terminal output is taken along.

    Where nobody is logged in, nothing is asked: the figures are kept in the run folder, to be sent later.
    """

    def __init__(self, run_folder: Path, run_name: str, config: dict[str, Any], project: str | None) -> None:
        self._set = _set_environment(run_folder)
        try:
            self._run = _wandb_run(run_folder, run_name, config, project)
        except BaseException:
            self._restore_environment()
            raise

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def summary(self, figures: Mapping[str, float]) -> None:
        self._run.summary.update(dict(figures))

    def close(self) -> None:
        try:
            self._run.finish()
        finally:
            self._restore_environment()

    def _restore_environment(self) -> None:
        for name in self._set:
            os.environ.pop(name, None)


def _set_environment(run_folder: Path) -> list[str]:
    """Keep W&B inside the run folder and silent where the user has not said otherwise; which names were set."""
    folder = run_folder.absolute() / "wandb"  # W&B puts its runs into WANDB_DIR/wandb
    folder.mkdir(exist_ok=True)
    wanted = {
        "WANDB_DIR": str(folder.parent),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_ARTIFACT_DIR": str(folder / "artifacts"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    if not Path("~/.config/wandb").expanduser().exists():  # else it may name the user's own server
        wanted["WANDB_CONFIG_DIR"] = str(folder / "config")
    added = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in added})
    return added


def _wandb_run(run_folder: Path, run_name: str, config: dict[str, Any], project: str | None) -> Any:
    import wandb

    options: dict[str, Any] = {}
    if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(prompt=False, verify=False):
        options["mode"] = "offline"
        log.warning(
            "wandb has no API key, so figures are kept in %s; after `wandb login`, send them with `wandb sync`",
            run_folder / "wandb",
        )
    id_file = run_folder / WANDB_ID
    if id_file.exists():
        options |= {"id": id_file.read_text().strip(), "resume": "allow"}
    else:
        options["id"] = secrets.token_hex(4)
        write_text(id_file, options["id"] + "\n")
    return wandb.init(
        project=project or os.environ.get("WANDB_PROJECT", DEFAULT_PROJECT),
        name=run_name,
        config=config,
        reinit="create_new",  # a run that the user has open is left alone
        settings=wandb.Settings(silent=True, console="off", save_code=False, disable_code=True, disable_git=True),
        **options,
    )


OPENERS: dict[str, Callable[[Path, str, dict[str, Any], str | None], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
}
