"""The preprocessing and the classes that weights without any are taken to have."""

from resnets.labels import Head
from resnets.preprocess import Preprocess

IMAGENET_CLASSES = 1000
IMAGENET = Preprocess(size=(224, 224), crop=0.875, interpolation="bicubic")
CIFAR = Preprocess(size=(32, 32), crop=1.0)  # akamaster trained with ImageNet's mean and deviation
CIFAR10_CLASSES = (  # in the order of the data set's own numbers
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def cifar10_head() -> Head:
    """CIFAR-10's classes; their names are their ids."""
    return Head(ids=CIFAR10_CLASSES)


def numbered_head(classes: int) -> Head:
    """Classes without names: their positions, as text."""
    return Head(ids=tuple(map(str, range(classes))))
