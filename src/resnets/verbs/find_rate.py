"""`resnets.find_rate`: a learning rate for a run, from a trial of many."""

from pathlib import Path
from typing import Any

from resnets.base.errors import UsageError
from resnets.evaluation.predict import threads_of
from resnets.training.config import TrainConfig
from resnets.training.default_weights import with_default_weights
from resnets.training.find_rate import RateTrial
from resnets.training.find_rate import find_rate as tried
from resnets.training.gallery import Gallery
from resnets.training.memory import fit
from resnets.training.plan import make_plan
from resnets.training.reproducible import kernels_of
from resnets.training.start import (
    OnProgress,
    as_weights_ask,
    first_weights,
    open_for_training,
    planned_network,
)


def find_rate(
    data: Any,
    *,
    config: TrainConfig | None = None,
    out: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> RateTrial:
    """Train a copy for a hundred steps at rates from low to high; nothing of it is kept.

    data, config: as `resnets.train` takes them. out: where to draw the losses over the rates (.png, .svg or .pdf).
    The answer is a tenth of the rate at which the loss was lowest; it differs by network, batch and data, and a
    rate that a published recipe was tuned for is often better. Raises WorkStopped where the loss never falls.
    """
    config = config or TrainConfig()
    progress = on_progress or (lambda label, done, total: None)
    if out is not None and not Path(out).parent.is_dir():
        raise UsageError(f"cannot write {out}: its folder is not there; choose another place for --find-lr")
    config = as_weights_ask(config, progress)
    opened = open_for_training(data, config, progress)
    config, _ = with_default_weights(config, opened, progress)
    with threads_of(config.used_threads), kernels_of(config):
        gallery = Gallery(opened, threads=config.threads, progress=progress)
        plan = make_plan(config, opened, measure=gallery.mean_std)
        network = planned_network(plan)
        plan = fit(plan, network).of(plan)
        first_weights(network, plan, gallery, progress)
        pictures = gallery.training(plan.preprocess, plan.augment)
        found = tried(plan, network, pictures, progress=lambda done, all: progress("trying rates", done, all))
    if out is not None:
        found.plot(Path(out))
    return found
