"""`resnets.models`: the networks that can be built by name, and the weights that are published for them."""

from typing import TYPE_CHECKING

from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import VARIANTS

if TYPE_CHECKING:
    from resnets.weights.catalogue import Published


def models() -> dict[str, ResNetSpec]:
    """Name to spec, family by family; `resnets.build(name)` builds one with random weights."""
    return dict(VARIANTS)


def weights() -> "dict[str, Published]":
    """Name to published weights, network by network; `resnets.load(name)` downloads them once."""
    from resnets.weights.catalogue import catalogue

    return dict(catalogue())
