"""`resnets.predict`: what is on pictures, one answer a file, in the order they were given."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resnets.base.errors import UsageError
from resnets.base.machine import default_threads, pick_device
from resnets.base.world import world
from resnets.data.unlabelled import File, Files
from resnets.evaluation.answers import Prediction, answer, write_predictions
from resnets.evaluation.filewise import Answered, Answers, InParts, Progress, Runner, known_form

if TYPE_CHECKING:
    from resnets.evaluation.predict import Precision
    from resnets.evaluation.views import Views
    from resnets.weights.modelfile import Model

Predictions = Answers[Prediction]


def predict(
    model: Model | Path | str,
    paths: Path | str | Iterable[Path | str],
    *,
    top: int = 5,
    batch: int | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    views: Views = "one",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Classify pictures; a file that cannot be read is a prediction with an error, and the rest goes on.

    model: a model, or what `resnets.load` takes. paths: files, folders (all pictures below, sorted), WebDataset
    shards (`shard.tar`, all pictures in it) and patterns such as `*.jpg`; any iterable, which is read as it is
    needed, so that millions of files need no memory.
    top: classes a file; where it may have several, those above their thresholds.
    batch: pictures at a time; None is by their size.
    threads: of the processor; None is all of them. precision: None is bf16 where the hardware multiplies it, else
    fp32; with bf16 close calls are made in fp32 (`evaluation.close_calls`). views: as for `evaluate`.
    Raises UsageError and ModelFileError before the first prediction.
    """
    work = _work(
        model, pick_device(device), top=top, batch=batch, precision=precision, views=views, threads=threads
    )
    files = Files(paths)
    return Answers(files, work.answered(files), progress)


def predict_in_parts(
    model: Model | Path | str,
    paths: Path | str | Iterable[Path | str],
    out: Path | str,
    *,
    form: Literal["jsonl", "parquet"] = "jsonl",
    top: int = 5,
    batch: int | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    views: Views = "one",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Answered:
    """Classify pictures into the folder `out`, in parts: what is done is never done again, by whoever.

    The answers are those of `predict`, in files `part-00000-of-00012.jsonl`, in the order of the paths. Several
    processes (torchrun) share the parts; the first one waits for those of the others. Given again after a death,
    the same call, with any number of processes, does what is missing.
    Raises UsageError where the folder has other files, or the answers of another model, other paths or options.
    """
    from resnets.evaluation.parts import identity, own_device

    form = known_form(form)
    where = own_device(device, world())
    work = _work(model, where, top=top, batch=batch, precision=precision, views=views, threads=threads)
    parts = InParts(
        folder=Path(out),
        form=form,
        batch=work.runner.batch,
        asked={
            "verb": "predict",
            "model": identity(work.model),
            "top": top,
            "precision": work.precision,
            "views": views,
        },
        answered=work.answered,
        write=lambda answers, path: write_predictions(answers, form, path),
    )
    return parts.do(Files(paths), progress)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A model that answers for files."""

    model: Model
    runner: Runner
    precision: Precision
    top: int
    views: Views

    def answered(self, files: Iterable[File]) -> Generator[Prediction]:
        for path, logits, reason in self.runner.outputs(files):
            if reason:
                yield Prediction(path=path, error=reason)
            else:
                yield answer(path, logits, self.model.heads, top=self.top, views=self.views)


def _work(
    model: Model | Path | str,
    device: str,
    *,
    top: int,
    batch: int | None,
    precision: Precision | None,
    views: Views,
    threads: int | None,
) -> _Work:
    """Raises UsageError for a model without classes, and for impossible numbers."""
    from resnets.evaluation.close_calls import backend_for, fastest_for
    from resnets.evaluation.predict import batch_for
    from resnets.weights.loading import load

    if top < 1 or (batch is not None and batch < 1):
        raise UsageError(f"--top and --batch must be at least 1, got {top} and {batch}")
    loaded = load(model) if isinstance(model, str | Path) else model
    if not loaded.heads:
        raise UsageError("the model has no classes to predict; it gives features, which resnets embed writes")
    precision = precision or fastest_for(loaded, device)
    runner = Runner(
        backend=backend_for(loaded, device=device, precision=precision, views=views),
        preprocess=loaded.preprocess,
        batch=batch or batch_for(loaded.preprocess),
        threads=threads or default_threads(),
    )
    return _Work(model=loaded, runner=runner, precision=precision, top=top, views=views)
