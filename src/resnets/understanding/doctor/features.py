"""What labels are judged by: features of a given model, or of networks trained briefly, each on the other folds.

n pictures, F features, K classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from resnets.data.augment.settings import Augment, default_augment
from resnets.data.batches import Batch, Pictures, batches_in_epoch, pictures_of, training_batches
from resnets.data.dataset import Data
from resnets.data.pack import Pack, make_pack
from resnets.evaluation.predict import TorchBackend, batch_for, classify, without_heads
from resnets.networks.backbone import body
from resnets.networks.resnet import ResNet, build
from resnets.networks.spec import SMALL_PICTURE, ResNetSpec
from resnets.preprocess import Preprocess
from resnets.training.optimizers import make_optimizer
from resnets.training.prepare import prepare
from resnets.training.schedule import rate
from resnets.training.step import Part, train_step
from resnets.understanding.doctor.facts import Facts, mean_and_deviation
from resnets.weights.modelfile import Model

LARGEST = 64  # pixels a side: larger pictures are scaled down for a brief training
SEEN, LEAST_EPOCHS, MOST_EPOCHS = 300_000, 3, 20  # pictures a brief training sees, and its bounds
WIDTH, DEPTHS = 32, (1, 1, 1)
RATE, DECAY, SMOOTHING, WARMUP = 0.1, 5e-4, 0.1, 0.2  # peak rate at a batch of 128; share of the steps

Rows = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]
Progress = Callable[[str, int, int | None], None]  # what is being done, how many are done, of how many


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where networks run, and whom they tell how far they are."""

    device: str
    threads: int
    progress: Progress


def model_features(model: Model, data: Data, rows: Rows, *, machine: Machine) -> tuple[Rows, Features]:
    """The pooled features of a network, frozen, and the rows that they are of (those that could be read)."""
    if isinstance(model.network, ResNet):  # else a network of another library: its logits
        model = without_heads(model)
    backend = TorchBackend(model, device=machine.device)
    pictures = pictures_of(data, rows, preprocess=model.preprocess)
    return _run(backend, pictures, machine, "features of the pictures")


class BriefNetworks:
    """Small networks for this data, each trained for a few epochs on some of its rows."""

    def __init__(self, data: Data, facts: Facts, rows: Rows, *, head: str, machine: Machine) -> None:
        self.data, self.head, self.machine = data, head, machine
        self.classes = len(data.heads[head])
        self.preprocess = brief_preprocess(data, facts, rows)
        self.epochs = int(np.clip(round(SEEN / max(1, len(rows))), LEAST_EPOCHS, MOST_EPOCHS))
        size = self.preprocess.size
        widths, heights = (numbers[rows] for numbers in data.sizes)
        self.augment, _ = default_augment(
            size=size,
            pictures=len(rows),
            traits=data.traits,
            same_size=bool((widths == size[1]).all() and (heights == size[0]).all()),
            resize=self.preprocess.resize,
        )
        self.pack: Pack | None = make_pack(
            data,
            np.sort(rows),
            preprocess=self.preprocess,
            threads=machine.threads,
            progress=lambda done, total: machine.progress("packing the pictures", done, total),
        )

    def words(self) -> str:
        """What the networks are, for people."""
        height, width = self.preprocess.size
        return f"small residual networks trained for {self.epochs} epochs at {width} x {height} pixels"

    def features(self, trained: Rows, judged: Rows, *, name: str) -> tuple[Rows, Features]:
        """Train a network on some rows; the features of both, in the order of the rows that could be read."""
        network = self._trained(trained, name)
        model = Model(network=body(network), heads={}, preprocess=self.preprocess)
        rows = np.concatenate([trained, judged])
        return _run(
            TorchBackend(model, device=self.machine.device),
            self._pictures(rows),
            self.machine,
            f"features, {name}",
        )

    def _pictures(self, rows: Rows) -> Pictures:
        return pictures_of(self.data, rows, preprocess=self.preprocess, pack=self.pack)

    def _trained(self, rows: Rows, name: str) -> ResNet:
        pictures = self._pictures(np.sort(rows))
        pictures = replace(pictures, labels={self.head: pictures.labels[self.head]})
        batch = min(128, max(8, len(rows) // 8))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            spec = ResNetSpec(
                block="basic",
                depths=DEPTHS,
                width=WIDTH,
                stem="small" if min(self.preprocess.size) <= SMALL_PICTURE else "imagenet",
                in_channels=len(self.preprocess.mean),
                heads=((self.head, self.classes),),
            )
            network = build(spec).to(self.machine.device)
        self._train(network, pictures, batch, name)
        return network.eval()

    def _train(self, network: ResNet, pictures: Pictures, batch: int, name: str) -> None:
        network.train()
        optimizer = make_optimizer(network, "sgd", momentum=0.9, weight_decay=DECAY)
        autocast = torch.autocast(torch.device(self.machine.device).type, enabled=False)
        left = self.augment.left_for_device(packed=pictures.whole)
        steps, step = self.epochs * batches_in_epoch(len(pictures.rows), batch), 0
        for epoch in range(self.epochs):
            with training_batches(
                pictures, augment=self.augment, batch=batch, seed=0, epoch=epoch, threads=self.machine.threads
            ) as batches:
                for one in batches:
                    if len(one.rows) > 1:  # batch norm cannot train on one picture
                        train_step(
                            network,
                            [partial(self._part, one, left, epoch, step)],
                            optimizer,
                            pictures=len(one.rows),
                            learning_rate=rate(
                                step,
                                schedule="cosine",
                                peak=RATE * batch / 128,
                                steps=steps,
                                warmup_steps=math.ceil(WARMUP * steps),
                            ),
                            label_smoothing=SMOOTHING,
                            clip=None,
                            autocast=autocast,
                        )
                    step += 1
                    self.machine.progress(f"training briefly, {name}", step, steps)

    def _part(self, batch: Batch, augment: Augment, epoch: int, step: int) -> Part:
        return prepare(
            batch,
            slice(None),
            augment=augment,
            preprocess=self.preprocess,
            device=torch.device(self.machine.device),
            seed=0,
            epoch=epoch,
            step=step,
        )


def brief_preprocess(data: Data, facts: Facts, rows: Rows) -> Preprocess:
    """The usual size of these pictures, LARGEST a side at most, squashed, with their mean and deviation."""
    widths, heights = (float(np.median(numbers[rows])) for numbers in data.sizes)
    scale = min(1.0, LARGEST / max(widths, heights))
    size = max(8, round(heights * scale)), max(8, round(widths * scale))
    mean, deviation = mean_and_deviation(facts, rows)
    grey = set(np.array(data.manifest.table["channels"].to_pylist(), dtype=object)[rows]) <= {"grey"}
    channels = slice(0, 1) if grey else slice(0, 3)
    return Preprocess(
        size=size,
        resize="squash",
        mean=mean[channels],
        std=deviation[channels],
        channels="grey" if grey else "rgb",
    )


def _run(backend: TorchBackend, pictures: Pictures, machine: Machine, name: str) -> tuple[Rows, Features]:
    """The rows that could be read, and all outputs of the network side by side (n, F)."""
    outputs = classify(
        backend,
        pictures,
        batch=batch_for(pictures.preprocess),
        threads=machine.threads,
        progress=lambda done, total: machine.progress(name, done, total),
    )
    return outputs.rows, np.concatenate(list(outputs.logits.values()), axis=1)
