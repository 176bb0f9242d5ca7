"""`resnets.models`: the networks that can be built by name."""

from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import VARIANTS


def models() -> dict[str, ResNetSpec]:
    """Name to spec, family by family; `resnets.build(name)` builds one with random weights."""
    return dict(VARIANTS)
