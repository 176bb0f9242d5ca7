"""Weights by name, such as `resnet50.tv2_in1k`: where they are, their hash, and what their publishers say of them.

Tags are timm's: `tv_in1k` and `tv2_in1k` are torchvision's IMAGENET1K_V1 and V2, for which size, crop and accuracy
are torchvision's. `catalogue.csv` holds what the two packages state (torchvision 0.28.0, timm 1.0.31), and the
accuracy of timm's tags from its `results/results-imagenet.csv`. Hashes are the digits in the publishers' file
names; where they publish none, nothing is downloaded.
"""

import csv
import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from resnets.base.download import download
from resnets.base.errors import UsageError, unknown_name
from resnets.base.files import cache_folder, sha256_of
from resnets.base.mirror import RemoteFile, mirrored, users_files
from resnets.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess

COLUMNS = ("name", "url", "sha256", "size", "crop", "interpolation", "normalize", "licence", "top1", "top5")
NON_COMMERCIAL = "non-commercial"
Progress = Callable[[str, int, int | None], None]  # what is done, bytes so far, bytes in all


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights for ImageNet-1k that somebody has published.

    file: its sha256 may be the first digits, or empty. top1, top5: percent of ImageNet's validation pictures, as
    published for `preprocess`; None where nothing is. licence: of the weights.
    """

    name: str
    file: RemoteFile
    preprocess: Preprocess
    licence: str
    top1: float | None
    top5: float | None

    @property
    def network(self) -> str:
        """The network's name."""
        return self.name.partition(".")[0]

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use."""
        return NON_COMMERCIAL not in self.licence


@functools.cache
def catalogue() -> dict[str, Published]:
    """Name -> weights, in the order of the networks."""
    text = resources.files("resnets.weights").joinpath("catalogue.csv").read_text("utf-8")
    return {row["name"]: _published(row) for row in csv.DictReader(text.splitlines())}


def published(name: str) -> Published:
    """The weights of that name. Raises UsageError with the nearest names."""
    known = catalogue()
    if name not in known:
        network = name.partition(".")[0]
        tags = [other for other in known if other.partition(".")[0] == network]
        every = f"of {network} there are {', '.join(tags)}" if tags else "resnets models --weights lists all"
        raise unknown_name("set of weights", name, known, list_all=every)
    return known[name]


def for_any_use(network: str) -> list[Published]:
    """A network's weights whose licence allows any use and whose file can be checked, the most accurate first."""
    usable = [row for row in catalogue().values() if row.network == network and row.commercial and row.file.sha256]
    return sorted(usable, key=lambda row: row.top1 or 0.0, reverse=True)


def is_cached(weights: Published) -> bool:
    """Whether `fetch` would download nothing: the file is there and has its hash."""
    file, path = _file_and_place(weights)
    return path.is_file() and sha256_of(path).startswith(file.sha256)


def fetch(weights: Published, *, progress: Progress | None = None) -> Path:
    """The file of published weights, from the cache or downloaded and checked.

    Raises UsageError where no hash is published, DownloadError and OutOfSpace.
    """
    file, path = _file_and_place(weights)
    if not file.sha256:
        raise UsageError(
            f"{weights.name} is published without a hash, so that it cannot be checked: download {file.url} "
            "yourself and give the file's path"
        )
    return download(
        mirrored(file, weights.name),
        path,
        sha256=file.sha256,
        size=file.size,
        progress=None if progress is None else functools.partial(progress, f"downloading {file.name}"),
    )


def _file_and_place(weights: Published) -> tuple[RemoteFile, Path]:
    file = users_files().get(weights.name, ((weights.file,), {}))[0][0]
    return file, cache_folder("weights", weights.name) / file.name


def of_hash(sha256: str) -> Published | None:
    """The published weights whose file has this hash."""
    known = catalogue()
    for name, (files, _) in users_files().items():
        if name in known and files[0].sha256 == sha256:
            return known[name]
    return next((row for row in known.values() if row.file.sha256 and sha256.startswith(row.file.sha256)), None)


def _published(row: dict[str, str]) -> Published:
    imagenet = row["normalize"] == "imagenet"
    licence = row["licence"]
    return Published(
        name=row["name"],
        file=RemoteFile(url=row["url"], sha256=row["sha256"]),
        preprocess=Preprocess(
            size=(int(row["size"]),) * 2,
            crop=float(row["crop"]),
            interpolation=row["interpolation"],  # type: ignore[arg-type]
            mean=IMAGENET_MEAN if imagenet else HALF,
            std=IMAGENET_STD if imagenet else HALF,
        ),
        licence=f"{licence} ({NON_COMMERCIAL})" if "-nc" in licence else licence,
        top1=float(row["top1"]) if row["top1"] else None,
        top5=float(row["top5"]) if row["top5"] else None,
    )
