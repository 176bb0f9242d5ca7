"""The thousand classes of ImageNet: index, WordNet id and name. A WordNet id means the same class everywhere."""

import csv
import functools
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources

from resnets.labels import Head


@functools.cache
def imagenet_head() -> Head:
    """ImageNet-1k: ids are WordNet ids in sorted order, which the weights have too; two names occur twice."""
    text = resources.files("resnets.data").joinpath("imagenet_classes.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return Head(ids=tuple(row["wnid"] for row in rows), names=tuple(row["name"] for row in rows))


def with_imagenet_names(heads: Mapping[str, Head]) -> dict[str, Head]:
    """The heads, in which a class that is called by its WordNet id alone is shown by its name."""
    imagenet = imagenet_head()
    names = dict(zip(imagenet.ids, imagenet.names, strict=True))
    return {
        key: replace(
            head,
            names=tuple(
                names.get(one, name) if name == one else name
                for one, name in zip(head.ids, head.names, strict=True)
            ),
        )
        for key, head in heads.items()
    }
