"""A learning rate from a short trial whose rate rises step by step (Smith 2017, the range test)."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from resnets.base.errors import UsageError, WorkStopped
from resnets.base.extras import require
from resnets.base.files import write_bytes
from resnets.data.batches import Pictures
from resnets.training.plan import Plan
from resnets.training.trial import trial

STEPS = 100
SPAN = 1e5  # from the lowest rate to the highest
HIGHEST = {"sgd": 10.0, "muon": 10.0, "adam": 1.0, "adamw": 1.0}
SMOOTHING = 0.9  # of the running mean of the losses
BLOWN_UP = 2.0  # times the lowest loss: there is nothing more to learn from higher rates
FALLEN = 0.95  # of the first loss: less than this fall may be chance
SAFETY = 10.0  # the answer is the rate of the lowest loss, divided by this


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """rates, losses: of each step, the losses smoothed. rate: the answer."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    rate: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def plot(self, path: Path) -> None:
        """Write the losses over the rates as a picture, its kind by the ending (.png, .svg, .pdf)."""
        require("matplotlib", extra="report", purpose="the plot of the learning rates")
        import io

        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.rate, linestyle="--", label=f"{self.rate:.2g} is named")
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed")
        axes.legend()
        kind = path.suffix.lower().removeprefix(".")
        if kind not in figure.canvas.get_supported_filetypes():
            raise UsageError(f"cannot draw {path.name}: the ending must be .png, .svg or .pdf")
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, dpi=150)
        write_bytes(path, drawn.getvalue())


def find_rate(
    plan: Plan, network: nn.Module, pictures: Pictures, *, progress: Callable[[int, int], None]
) -> RateTrial:
    """Try rates from low to high on a copy of the network, a step each.

    Raises WorkStopped where the loss never falls, so that no rate can be named.
    """
    highest = HIGHEST[plan.config.optimizer or "sgd"]
    planned = np.geomspace(highest / SPAN, highest, STEPS).tolist()
    rates: list[float] = []
    losses: list[float] = []
    running, lowest = 0.0, math.inf
    for step, (_, loss) in enumerate(trial(plan, network, pictures, planned)):
        running = SMOOTHING * running + (1 - SMOOTHING) * loss
        smooth = running / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or smooth > BLOWN_UP * lowest:
            break
        lowest = min(lowest, smooth)
        rates.append(planned[step])
        losses.append(smooth)
        progress(step + 1, STEPS)
    return RateTrial(rates=tuple(rates), losses=tuple(losses), rate=chosen(rates, losses))


def chosen(rates: list[float], losses: list[float]) -> float:
    """A tenth of the rate at which the loss was lowest.

    Raises WorkStopped where it was never clearly below the first.
    """
    if not losses or min(losses) > FALLEN * losses[0]:
        raise WorkStopped(
            "the loss did not fall at any learning rate, so none can be named; are the labels right, and is there "
            "anything to tell them by? resnets inspect DATA looks"
        )
    return rates[int(np.argmin(losses))] / SAFETY
