"""Where pictures come from: one file a kind of source, and the one chain that recognises them."""

from pathlib import Path
from typing import Any

from resnets.data.source import Source
from resnets.data.sources.digits import DigitsSource
from resnets.data.sources.folder import FolderSource


def find_source(spec: Any) -> Source:
    if spec == "digits":
        return DigitsSource()
    return FolderSource(Path(spec))
