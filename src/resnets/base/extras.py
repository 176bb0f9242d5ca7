"""Optional packages: imported where they are used, with the cure where they are missing."""

import importlib
from types import ModuleType

from resnets.base.errors import MissingExtra


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise MissingExtra that names the extra which brings it.

    A package that is there but lacks one of its own dependencies raises its own ImportError.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(
            f"{purpose} needs {package!r}; install it with: pip install 'resnets[{extra}]'"
        ) from error
