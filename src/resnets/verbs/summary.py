"""`resnets summary`: a network as a table, by its name or from a model file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resnets.base.errors import UsageError
from resnets.labels import LABEL
from resnets.networks.variants import VARIANTS, variant

if TYPE_CHECKING:
    from torch import nn

    from resnets.networks.spec import ResNetSpec
    from resnets.networks.summary import Summary
    from resnets.weights.receipt import Receipt


def summary(
    model: "str | Path | ResNetSpec | nn.Module",
    *,
    size: tuple[int, int] | None = None,
    num_classes: int | None = None,
) -> "Summary":
    """What each layer of a network gives, holds and costs: by its name, its spec, itself, or a model file.

    size: (height, width) in pixels; by default the model file's own, or what the network was made for.
    num_classes: of a named network. Raises UsageError for an unknown name, ModelFileError for a bad file.
    """
    from resnets.networks.summary import summary as layers_of

    if not isinstance(model, str | Path):  # a spec or a network
        if num_classes is not None:
            raise UsageError(
                "a spec or a network has classes of its own; a number of classes is for networks by name"
            )
        return layers_of(model, size)
    if model in VARIANTS or not _is_path(model):
        spec = variant(str(model))
        if num_classes is not None:
            spec = replace(spec, heads=((LABEL, num_classes),))
        return layers_of(spec, size)
    if num_classes is not None:
        raise UsageError(f"{model} has classes of its own; a number of classes is for networks by name")
    from resnets.weights.loading import load

    loaded = load(model)
    return layers_of(loaded.network, size or loaded.preprocess.size)


def receipt(model: str | Path) -> "Receipt":
    """What happens to every tensor of a weights file, and what is taken for granted, when it is loaded."""
    from resnets.weights.loading import find, load_weights

    return load_weights(find(model))[1]


def _is_path(model: str | Path) -> bool:
    return isinstance(model, Path) or "/" in model or "." in model or Path(model).exists()
