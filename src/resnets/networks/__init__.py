"""What a network is: `spec` says it as data, `blocks` and `resnet` build it, `variants` names it.

Names are loaded when they are asked for, so that reading a spec or a list of variants loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnets.networks.resnet import ResNet, build
    from resnets.networks.spec import ResNetSpec, stem_for
    from resnets.networks.variants import VARIANTS, variant

_WHERE = {
    "ResNet": "resnet",
    "ResNetSpec": "spec",
    "VARIANTS": "variants",
    "build": "resnet",
    "stem_for": "spec",
    "variant": "variants",
}

__all__ = ["VARIANTS", "ResNet", "ResNetSpec", "build", "stem_for", "variant"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
