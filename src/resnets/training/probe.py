"""What the features of a network that is not trained are worth already: the floor that training must beat.

A logistic regression and the nearest neighbours, both on pooled features (as Kornblith et al. 2019 and Caron et
al. 2021 judge features), measured on the validation pictures.
"""

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from resnets.base.errors import UsageError
from resnets.base.streams import order
from resnets.data.batches import Pictures
from resnets.data.source import MISSING
from resnets.evaluation.predict import TorchBackend, batch_for, classify
from resnets.evaluation.statistics import wilson
from resnets.labels import Head
from resnets.networks.backbone import body
from resnets.networks.resnet import ResNet
from resnets.weights.modelfile import Model

PENALTY = 1e-3  # half the squared weights' share in the mean loss
NEIGHBOURS = 10  # that vote, by the cosine of their features
MOST = 10_000  # training pictures that are looked at, chosen by hash
ITERATIONS = 5000

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """right of n validation pictures, by a linear layer and by the nearest neighbours. pictures: learnt from."""

    head: str
    n: int
    pictures: int
    linear: int
    neighbours: int

    def line(self) -> str:
        low, high = wilson(self.linear, self.n) or (0.0, 1.0)
        return (
            f"probe of {self.head}: on features that are not trained, a linear layer has "
            f"{self.linear / self.n:.2%} of {self.n:,} validation pictures right "
            f"(95% interval {low * 100:.2f} to {high:.2%}), "
            f"{NEIGHBOURS} nearest neighbours {self.neighbours / self.n:.2%}; training must beat that"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def probe(
    network: torch.nn.Module, known: Pictures, new: Pictures, *, heads: dict[str, Head], device: str, threads: int
) -> list[Probe]:
    """A probe of each head with one class a picture; `known` is learnt from, `new` is measured.

    Raises UsageError where the network is not ours or `new` has no pictures.
    """
    if not isinstance(network, ResNet):
        raise UsageError("--probe needs a network of resnets: where the features of yours are is not known")
    if not len(new.rows):
        raise UsageError("--probe needs validation pictures, and there are none")
    known = replace(known, rows=np.sort(order(known.rows, seed=0, epoch=0)[:MOST]))
    plain = Model(network=copy.deepcopy(body(network)), heads={}, preprocess=known.preprocess)
    backend = TorchBackend(plain, device=device)
    batch = batch_for(known.preprocess)
    seen, asked = (classify(backend, part, batch=batch, threads=threads) for part in (known, new))
    found = []
    for name, head in heads.items():
        if head.kind != "single":
            continue
        truth, wanted = known.labels[name][seen.rows], new.labels[name][asked.rows]
        here, there = truth != MISSING, wanted != MISSING
        x, y = seen.logits["features"][here], truth[here]
        answers = _answers(x, y, asked.logits["features"][there])
        linear, neighbours = (int((answer == wanted[there]).sum()) for answer in answers)
        found.append(Probe(head=name, n=int(there.sum()), pictures=len(x), linear=linear, neighbours=neighbours))
    return found


def _answers(x: Features, y: npt.NDArray[np.int64], new: Features) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=1 / (PENALTY * len(x)), max_iter=ITERATIONS)
    linear = make_pipeline(StandardScaler(), regression).fit(x, y)
    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(x)), metric="cosine").fit(x, y)
    return linear.predict(new), nearest.predict(new)
