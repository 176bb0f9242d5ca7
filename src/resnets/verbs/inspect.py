"""`resnets.inspect`: what is wrong with pictures and labels, before they cost a training run."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from resnets.base.errors import UsageError, unknown_name
from resnets.base.files import write_text
from resnets.base.machine import cores, pick_device
from resnets.base.text import printable
from resnets.understanding.doctor.finding import CAN_LEAVE_OUT, Example, Finding, in_order, of_rows
from resnets.understanding.doctor.inspection import Inspection, facts_in_words, measures

if TYPE_CHECKING:
    from resnets.data.dataset import Data
    from resnets.data.options import DataOptions
    from resnets.understanding.doctor.classes import Counts
    from resnets.understanding.doctor.facts import Facts
    from resnets.understanding.doctor.labels import Suspect
    from resnets.understanding.doctor.twins import Twins
    from resnets.weights.modelfile import Model

log = logging.getLogger("resnets")

Progress = Callable[[str, int, int | None], None]  # what is being done, how many are done, of how many

REPORT, MANIFEST = "report.html", "manifest.parquet"
PARTS = ("train", "val", "test", "all")


def inspect(
    data: Any,
    *,
    labels: bool = False,
    model: Model | Path | str | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    accept: int | Literal["all"] | None = None,
    leave_out: Sequence[str] = (),
    out: Path | str | None = None,
    classes: Path | str | None = None,
    options: DataOptions | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Decode every picture of a data set, and say what is wrong with them, their labels and their parts.

    data: what `open_data` takes, or what it gave. labels: look for wrong labels too (needs cleanlab); model: whose
    features they are judged by; split: the part that is judged, by default training and validation pictures.
    out: a folder for `report.html` and `manifest.parquet`, which `train` takes as data. Only files that cannot be
    used are left out there, and what the kinds of finding in leave_out name. accept: so many of the likeliest
    wrong labels are corrected there, in a column of their own.
    options: the columns of a table. progress: called with what is done, how many, of how many.
    Raises UsageError and DataError before anything is written.
    """
    started = time.monotonic()
    _refuse(labels=labels, model=model, split=split, accept=accept, leave_out=leave_out, out=out)
    tell = progress or (lambda label, done, total: None)
    if labels:
        from resnets.understanding.doctor.labels import cleanlab_filter

        tell("loading cleanlab", 0, None)
        cleanlab_filter()
    opened = _opened(data, classes, options, tell)
    folder = None if out is None else _folder(Path(out), data)
    return _inspected(
        opened,
        folder,
        labels=labels,
        model=model,
        split=split,
        accept=accept,
        leave_out=leave_out,
        device=device,
        threads=threads,
        tell=tell,
        started=started,
    )


def _refuse(
    *, labels: bool, model: Any, split: str | None, accept: Any, leave_out: Sequence[str], out: Any
) -> None:
    """What cannot go together."""
    for kind in leave_out:
        if kind not in CAN_LEAVE_OUT:
            known = f"--leave-out takes {', '.join(CAN_LEAVE_OUT)}"
            raise unknown_name("finding to leave out", kind, CAN_LEAVE_OUT, list_all=known)
    needs_labels = {"--model": model, "--split": split, "--accept": accept}
    given = [flag for flag, value in needs_labels.items() if value is not None]
    given += ["--leave-out labels"] * ("labels" in leave_out)
    if given and not labels:
        raise UsageError(f"{given[0]} is about wrong labels, which are looked for with --labels; add it")
    if split is not None and split not in PARTS:
        raise UsageError(f"--split must be one of {', '.join(PARTS)}, got {split!r}")
    if accept is not None and accept != "all" and (isinstance(accept, str) or accept < 1):
        raise UsageError(f"--accept must be a number of at least 1, or all; got {accept!r}")
    if out is None and (accept is not None or leave_out):
        flag = "--accept" if accept is not None else "--leave-out"
        raise UsageError(f"{flag} is written to a manifest; say where with --out FOLDER")


def _opened(data: Any, classes: Path | str | None, options: DataOptions | None, tell: Progress) -> Data:
    from resnets.data.dataset import Data, open_data

    if isinstance(data, Data):
        return data
    return open_data(
        data,
        classes=None if classes is None else Path(classes),
        for_training=False,
        options=options,
        progress=partial(tell, "reading the files"),
        download_progress=tell,
    )


def _folder(out: Path, data: Any) -> Path:
    """The folder, made and writable. Raises UsageError; also where corrections would be lost."""
    from resnets.data.manifest import Manifest, is_manifest
    from resnets.understanding.doctor.record import corrections

    shown = printable(str(out))
    try:
        out.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except FileExistsError as error:
        raise UsageError(f"cannot write to {shown}: it is a file; give --out a folder") from error
    except FileNotFoundError as error:
        raise UsageError(
            f"cannot write to {shown}: the folder above it is not there; choose another --out"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write to {shown}: {error.strerror}; choose another --out") from error
    manifest = out / MANIFEST
    goes_on = isinstance(data, str | Path) and manifest.exists() and manifest.samefile(data)
    if manifest.exists() and not goes_on:
        held = corrections(Manifest.read(manifest)) if is_manifest(manifest) else 0
        if held:
            raise UsageError(
                f"{shown} has a manifest with {held} corrected labels, which would be lost; choose another --out, "
                f"or inspect that manifest: {printable(str(manifest))}"
            )
    return out


def _inspected(
    data: Data,
    folder: Path | None,
    *,
    labels: bool,
    model: Model | Path | str | None,
    split: str | None,
    accept: int | Literal["all"] | None,
    leave_out: Sequence[str],
    device: str | None,
    threads: int | None,
    tell: Progress,
    started: float,
) -> Inspection:
    from resnets.understanding.doctor import facts as doctor
    from resnets.understanding.doctor.classes import class_counts
    from resnets.understanding.doctor.record import Opinion, annotated, corrections, reasons

    facts = doctor.look(data, threads=threads, progress=tell)
    counts = class_counts(data, facts.failed)
    twins = _twins(data, facts, tell)
    notes: list[str] = []
    if twins.small:
        notes.append(f"near duplicates are not looked for in pictures of less than 16 pixels ({twins.small:,})")
    unreadable = data.left_out | facts.failed
    findings = _findings(data, facts, twins, counts, unreadable)
    suspects: tuple[Suspect, ...] = ()
    if labels:
        judged = _judged(data, facts, model, split=split, device=device, threads=threads, tell=tell)
        suspects = judged.suspects
        notes += judged.said
        findings = in_order([*findings, *_about_labels(data, suspects)])
    keepers = twins.keepers()
    left_out = reasons(findings, leave_out, keepers, data) | unreadable
    accepted = suspects if accept == "all" else suspects[: accept or 0]
    opinion = Opinion(
        left_out=left_out,
        keepers=keepers,
        suggested=_by_head(suspects),
        accepted=_by_head(accepted),
    )
    manifest = annotated(data, findings, opinion)
    inspection = Inspection(
        data=data.name,
        files=len(data),
        kept=len(data) - len(left_out),
        left_out=tuple((data.path(row), reason) for row, reason in sorted(left_out.items())),
        strays=data.strays,
        beside=data.beside,
        **measures(data, facts),
        classes=counts,
        findings=findings,
        decoded=facts.decoded,
        corrected=corrections(manifest),
        notes=tuple(notes),
        manifest=manifest,
        outputs=() if folder is None else (folder / REPORT, folder / MANIFEST),
        seconds=time.monotonic() - started,
    )
    if folder is not None:
        tell("writing the report", 0, None)
        _write(folder, inspection, data)
    return inspection


def _twins(data: Data, facts: Facts, tell: Progress) -> Twins:
    from resnets.understanding.doctor.pictures import even_rows
    from resnets.understanding.doctor.twins import find_twins

    tell("comparing the pictures", 0, None)
    return find_twins(
        facts,
        data.manifest.table["content"].to_pylist(),
        np.stack(data.sizes, axis=1),
        data.manifest.table["split"].to_pylist(),
        even=even_rows(facts).tolist(),
    )


def _findings(
    data: Data, facts: Facts, twins: Twins, counts: dict[str, Counts], unreadable_files: Mapping[int, str]
) -> tuple[Finding, ...]:
    from resnets.understanding.doctor.classes import about_classes
    from resnets.understanding.doctor.drift import drift
    from resnets.understanding.doctor.pictures import copies, unlike_others, unreadable
    from resnets.understanding.doctor.surroundings import surroundings

    return in_order(
        [
            *unreadable(data, unreadable_files),
            *copies(data, twins),
            *unlike_others(data, facts),
            *about_classes(counts),
            *drift(data, facts, counts),
            *surroundings(data),
        ]
    )


def _judged(
    data: Data,
    facts: Facts,
    model: Model | Path | str | None,
    *,
    split: str | None,
    device: str | None,
    threads: int | None,
    tell: Progress,
) -> Any:
    from resnets.evaluation.predict import threads_of
    from resnets.understanding.doctor.features import Machine
    from resnets.understanding.doctor.labels import judge_labels
    from resnets.weights.loading import load

    loaded = load(model, progress=tell) if isinstance(model, str | Path) else model
    machine = Machine(device=pick_device(device), threads=threads or cores(), progress=tell)
    with threads_of(threads):
        return judge_labels(data, facts, split=split, model=loaded, machine=machine)


def _about_labels(data: Data, suspects: Sequence[Suspect]) -> list[Finding]:
    several = len(data.heads) > 1
    examples = (
        Example(
            path=data.path(one.row),
            row=one.row,
            note=(f"{one.head}: " if several else "") + f"{one.given}, rather {one.suggested} ({one.other:.0%})",
        )
        for one in suspects
    )
    return of_rows("labels", (one.row for one in suspects), examples)


def _by_head(suspects: Sequence[Suspect]) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for one in suspects:
        found.setdefault(one.head, {})[one.row] = one.suggested
    return found


def _write(folder: Path, found: Inspection, data: Data) -> None:
    from resnets.understanding.doctor.page import Contents, page

    contents = Contents(
        title=f"Inspection of {found.data}",
        facts=facts_in_words(found) | {f"note {number}": note for number, note in enumerate(found.notes, 1)},
        counts=found.classes,
        labels=_shown_labels(data),
    )
    write_text(folder / REPORT, page(data, found.findings, contents))
    found.manifest.write(folder / MANIFEST)


def _shown_labels(data: Data) -> dict[int, str]:
    """Row -> its classes and its part, as shown below a picture."""
    from resnets.data.manifest import head_column

    table = data.manifest.table
    columns = [table[head_column(head)].to_pylist() for head in data.heads]
    shown = {}
    for row, (part, *values) in enumerate(zip(table["split"].to_pylist(), *columns, strict=True)):
        texts = [
            " and ".join(value) if isinstance(value, list) else value for value in values if value is not None
        ]
        shown[row] = ", ".join([*texts, *([part] if part else [])])
    return {row: text for row, text in shown.items() if text}
