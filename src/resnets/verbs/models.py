"""`resnets.models`: the networks that can be built by name, and the weights that are published for them."""

from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import VARIANTS
from resnets.weights.catalogue import Published, catalogue


def models() -> dict[str, ResNetSpec]:
    """Name to spec, family by family; `resnets.build(name)` builds one with random weights."""
    return dict(VARIANTS)


def weights() -> dict[str, Published]:
    """Name to published weights, network by network; `resnets.load(name)` downloads them once."""
    return dict(catalogue())
