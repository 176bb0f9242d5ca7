"""From a folder of pictures to a residual network that is trained, checked and shipped.

    import resnets

    run = resnets.train("pictures/")          # a folder of class folders, a table, or a name
    resnets.evaluate(run.model, "pictures/")
    model = resnets.load(run.model)

Importing this package imports no torch; each name is fetched when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from resnets._version import VERSION as __version__

if TYPE_CHECKING:
    from resnets.base.errors import (
        DataError,
        DownloadError,
        Incomplete,
        Interrupted,
        MissingExtra,
        ModelFileError,
        NotFinite,
        OtherProcessFailed,
        OutOfSpace,
        ResnetsError,
        RunError,
        UsageError,
        WorkStopped,
    )
    from resnets.data.dataset import open_data
    from resnets.data.options import DataOptions
    from resnets.networks.backbone import Backbone, features
    from resnets.networks.convert import to_timm, to_torchvision
    from resnets.networks.resnet import ResNet, build
    from resnets.networks.spec import ResNetSpec
    from resnets.networks.unet import UNet
    from resnets.training.config import TrainConfig
    from resnets.training.recalibrate import recalibrate
    from resnets.verbs.embed import embed, embed_in_parts
    from resnets.verbs.evaluate import evaluate
    from resnets.verbs.find_rate import find_rate
    from resnets.verbs.inspect import inspect
    from resnets.verbs.models import models
    from resnets.verbs.predict import predict, predict_in_parts
    from resnets.verbs.shards import shards
    from resnets.verbs.summary import summary
    from resnets.verbs.train import Run, train
    from resnets.weights.loading import load
    from resnets.weights.modelfile import save

_HOMES = {
    "Backbone": "networks.backbone",
    "DataError": "base.errors",
    "DataOptions": "data.options",
    "DownloadError": "base.errors",
    "Incomplete": "base.errors",
    "Interrupted": "base.errors",
    "MissingExtra": "base.errors",
    "ModelFileError": "base.errors",
    "NotFinite": "base.errors",
    "OtherProcessFailed": "base.errors",
    "OutOfSpace": "base.errors",
    "ResNet": "networks.resnet",
    "ResNetSpec": "networks.spec",
    "ResnetsError": "base.errors",
    "Run": "verbs.train",
    "RunError": "base.errors",
    "TrainConfig": "training.config",
    "UNet": "networks.unet",
    "UsageError": "base.errors",
    "WorkStopped": "base.errors",
    "build": "networks.resnet",
    "embed": "verbs.embed",
    "embed_in_parts": "verbs.embed",
    "evaluate": "verbs.evaluate",
    "features": "networks.backbone",
    "find_rate": "verbs.find_rate",
    "inspect": "verbs.inspect",
    "load": "weights.loading",
    "models": "verbs.models",
    "open_data": "data.dataset",
    "predict": "verbs.predict",
    "predict_in_parts": "verbs.predict",
    "recalibrate": "training.recalibrate",
    "save": "weights.modelfile",
    "shards": "verbs.shards",
    "summary": "verbs.summary",
    "to_timm": "networks.convert",
    "to_torchvision": "networks.convert",
    "train": "verbs.train",
}

__all__ = [
    "Backbone",
    "DataError",
    "DataOptions",
    "DownloadError",
    "Incomplete",
    "Interrupted",
    "MissingExtra",
    "ModelFileError",
    "NotFinite",
    "OtherProcessFailed",
    "OutOfSpace",
    "ResNet",
    "ResNetSpec",
    "ResnetsError",
    "Run",
    "RunError",
    "TrainConfig",
    "UNet",
    "UsageError",
    "WorkStopped",
    "__version__",
    "build",
    "embed",
    "embed_in_parts",
    "evaluate",
    "features",
    "find_rate",
    "inspect",
    "load",
    "models",
    "open_data",
    "predict",
    "predict_in_parts",
    "recalibrate",
    "save",
    "shards",
    "summary",
    "to_timm",
    "to_torchvision",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resnets' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"resnets.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
