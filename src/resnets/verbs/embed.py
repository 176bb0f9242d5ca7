"""`resnets.embed`: the features that a network has of pictures, one row a file, in the order they were given."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnets.base.errors import UsageError
from resnets.base.machine import default_threads, pick_device
from resnets.base.world import world
from resnets.data.unlabelled import File, Files
from resnets.evaluation.embeddings import FEATURES, Embedding, write_embeddings
from resnets.evaluation.filewise import Answered, Answers, InParts, Progress, Runner, known_form

if TYPE_CHECKING:
    from resnets.evaluation.views import Views
    from resnets.weights.modelfile import Model


class Embeddings(Answers[Embedding]):
    """The embeddings as they are made. about: features (how many each has), model, precision and views."""

    def __init__(self, work: _Work, files: Files, progress: Progress | None) -> None:
        super().__init__(files, work.answered(files), progress)
        self.about = work.about


def embed(
    model: Model | Path | str,
    paths: Path | str | Iterable[Path | str],
    *,
    batch: int | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    views: Views = "one",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """The features of pictures; a file that cannot be read is an embedding with an error, and the rest goes on.

    Features are the network's last map, pooled: 512 numbers of a ResNet-18 or 34, 2,048 of a ResNet-50. They are
    not normalised to a length. A copy of the network without heads and hooks gives them.
    model: a model, with or without classes, or what `resnets.load` takes. paths, batch, threads: as for `predict`.
    precision: of the computation. views: whose mean the features are, as for `evaluate`.
    Raises UsageError and ModelFileError before the first embedding.
    """
    work = _work(model, pick_device(device), batch=batch, precision=precision, views=views, threads=threads)
    return Embeddings(work, Files(paths), progress)


def embed_in_parts(
    model: Model | Path | str,
    paths: Path | str | Iterable[Path | str],
    out: Path | str,
    *,
    form: Literal["jsonl", "parquet"] = "parquet",
    batch: int | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    views: Views = "one",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Answered:
    """The features of pictures into the folder `out`, in parts, as `predict_in_parts` writes predictions."""
    from resnets.evaluation.parts import identity, own_device

    form = known_form(form)
    where = own_device(device, world())
    work = _work(model, where, batch=batch, precision=precision, views=views, threads=threads)
    parts = InParts(
        folder=Path(out),
        form=form,
        batch=work.runner.batch,
        asked={"verb": "embed", "model": identity(work.model), "precision": precision, "views": views},
        answered=work.answered,
        write=lambda embeddings, path: write_embeddings(embeddings, form, path, about=work.about),
    )
    return parts.do(Files(paths), progress)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A network without heads that answers for files. about: what its answers are, for their file."""

    model: Model
    runner: Runner
    about: dict[str, Any]

    def answered(self, files: Iterable[File]) -> Generator[Embedding]:
        for path, outputs, reason in self.runner.outputs(files):
            yield (
                Embedding(path=path, error=reason) if reason else Embedding(path=path, features=outputs[FEATURES])
            )


def _work(
    model: Model | Path | str,
    device: str,
    *,
    batch: int | None,
    precision: Literal["fp32", "bf16"],
    views: Views,
    threads: int | None,
) -> _Work:
    """Raises UsageError for a network of another library, and for impossible numbers."""
    from resnets.evaluation.predict import TorchBackend, batch_for, without_heads
    from resnets.evaluation.views import with_views
    from resnets.networks.backbone import resnet_of
    from resnets.weights.loading import load
    from resnets.weights.modelfile import tensors_sha256

    if batch is not None and batch < 1:
        raise UsageError(f"--batch must be at least 1, got {batch}")
    loaded = load(model) if isinstance(model, str | Path) else model
    network = resnet_of(loaded.network, asks="embed")
    headless = without_heads(loaded)
    runner = Runner(
        backend=with_views(TorchBackend(headless, device=device, precision=precision), views),
        preprocess=loaded.preprocess,
        batch=batch or batch_for(loaded.preprocess),
        threads=threads or default_threads(),
    )
    about = {FEATURES: network.spec.features, "model": tensors_sha256(network.state_dict())}
    return _Work(model=headless, runner=runner, about={**about, "precision": precision, "views": views})
