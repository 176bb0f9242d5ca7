"""Findings about what stands around the pictures in a folder: stray files, empty folders, links to folders."""

import os
from pathlib import Path

from resnets.data.dataset import Data
from resnets.data.sources.folder import STRAYS
from resnets.understanding.doctor.finding import Example, Finding, of_things


def surroundings(data: Data) -> list[Finding]:
    """Nothing for data that is no folder of class folders."""
    address = data.manifest.address or {}
    root = Path(str(address.get("root")))
    if address.get("kind") != "folder" or not root.is_dir():
        return []
    strays, empty, links = [], [], []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        inside = 0
        with os.scandir(root / prefix) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = prefix + entry.name
            if entry.name.startswith(".") or entry.name.casefold() in STRAYS:
                strays.append(path)
                continue
            inside += 1
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path + "/")
            elif entry.is_symlink() and entry.is_dir():
                links.append(path)
        if prefix and not inside:
            empty.append(prefix.removesuffix("/"))
    return [
        finding
        for kind, paths in (("strays", strays), ("empty-folders", empty), ("folder-links", links))
        for finding in of_things(kind, [Example(path=path) for path in sorted(paths)])
    ]
