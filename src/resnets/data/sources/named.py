"""Data sets by name: downloaded once, checked against a published SHA-256 before a byte is opened, and cached.

`base.mirror` says how the files are taken from elsewhere; an archive's row there may state its `unpacked_size`.

Checksums and sizes are those that TensorFlow Datasets (cifar10, cifar100, mnist, fashion_mnist, imagenette) and
FastAI.jl (imagewoof; sizes from fastai's checks.txt) publish for these URLs; the MD5 sums that the CIFAR page,
torchvision and the Fashion-MNIST repository publish belong to the same files.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from resnets.base.archive import unpack
from resnets.base.download import download, locked
from resnets.base.errors import unknown_name
from resnets.base.files import cache_folder
from resnets.base.mirror import RemoteFile, mirrored, unusable, users_files
from resnets.data.source import Listing, Picture, Source, Traits
from resnets.data.sources.cifar import CIFAR10, CIFAR100, CifarSource
from resnets.data.sources.cifar import TRAITS as CIFAR_TRAITS
from resnets.data.sources.folder import FolderSource
from resnets.data.sources.idx import FASHION_MNIST, MNIST, IdxSource

Progress = Callable[[str, int, int | None], None]  # what is done, bytes so far, bytes in all

TORONTO = "https://www.cs.toronto.edu/~kriz"
MNIST_BASE = "https://storage.googleapis.com/cvdf-datasets/mnist"
FASHION_BASE = (  # the data's own repository, at a fixed commit
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/"
    "data/fashion"
)
FASTAI = "https://s3.amazonaws.com/fast-ai-imageclas"

# WordNet id -> ImageNet's name, as https://github.com/fastai/imagenette lists them
IMAGENETTE_NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
IMAGEWOOF_NAMES = {
    "n02086240": "Shih-Tzu",
    "n02087394": "Rhodesian ridgeback",
    "n02088364": "beagle",
    "n02089973": "English foxhound",
    "n02093754": "Border terrier",
    "n02096294": "Australian terrier",
    "n02099601": "golden retriever",
    "n02105641": "Old English sheepdog",
    "n02111889": "Samoyed",
    "n02115641": "dingo",
}


@dataclass(frozen=True, kw_only=True)
class NamedData:
    """One data set of the catalogue.

    layout: what the files are: CIFAR's binary version, IDX files, or one archive of class folders.
    class_names: class id -> shown name, where the files themselves do not say. unpacked_size: the bytes that an
    archive is declared to hold, where that is more than its own size.
    """

    layout: Literal["cifar10", "cifar100", "idx", "folder"]
    files: tuple[RemoteFile, ...]
    traits: Traits
    class_names: Mapping[str, str]
    unpacked_size: int | None = None


def _idx(base: str, files: Mapping[str, tuple[str, int]], names: tuple[str, ...], traits: Traits) -> NamedData:
    return NamedData(
        layout="idx",
        files=tuple(
            RemoteFile(url=f"{base}/{name}-ubyte.gz", sha256=sha256, size=size)
            for name, (sha256, size) in files.items()
        ),
        traits=traits,
        class_names={str(number): name for number, name in enumerate(names)},
    )


def _archive(
    layout: Literal["cifar10", "cifar100", "folder"],
    url: str,
    sha256: str,
    size: int,
    class_names: Mapping[str, str] | None = None,
) -> NamedData:
    return NamedData(
        layout=layout,
        files=(RemoteFile(url=url, sha256=sha256, size=size),),
        traits=CIFAR_TRAITS,  # photographs, all of them
        class_names=class_names or {},
    )


IMAGENETTE_320 = _archive(
    "folder",
    f"{FASTAI}/imagenette2-320.tgz",
    "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
    341_663_724,
    IMAGENETTE_NAMES,
)
IMAGEWOOF_320 = _archive(
    "folder",
    f"{FASTAI}/imagewoof2-320.tgz",
    "7db6120fdb9ae079e26346f89e7b00d7f184f8137791609b97fd0405d3f92305",
    328_387_740,
    IMAGEWOOF_NAMES,
)

# Imagenette and Imagewoof come with shorter sides of 320 or 160 pixels, or in full size. Without a number the 320
# pixel one is meant: it serves inputs up to 224 pixels with room to crop, at a quarter of the download.
CATALOGUE: dict[str, NamedData] = {
    "cifar10": _archive(
        "cifar10",
        f"{TORONTO}/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
    ),
    "cifar100": _archive(
        "cifar100",
        f"{TORONTO}/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168_513_733,
    ),
    "mnist": _idx(
        MNIST_BASE,
        {
            "train-images-idx3": ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
            "train-labels-idx1": ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
            "t10k-images-idx3": ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
            "t10k-labels-idx1": ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
        },
        MNIST.names,
        MNIST.traits,
    ),
    "fashion-mnist": _idx(
        FASHION_BASE,
        {
            "train-images-idx3": ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
            "train-labels-idx1": ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
            "t10k-images-idx3": ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
            "t10k-labels-idx1": ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
        },
        FASHION_MNIST.names,
        FASHION_MNIST.traits,
    ),
    "imagenette": IMAGENETTE_320,
    "imagenette-320": IMAGENETTE_320,
    "imagenette-160": _archive(
        "folder",
        f"{FASTAI}/imagenette2-160.tgz",
        "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
        99_003_388,
        IMAGENETTE_NAMES,
    ),
    "imagenette-full": _archive(
        "folder",
        f"{FASTAI}/imagenette2.tgz",
        "6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
        1_557_161_267,
        IMAGENETTE_NAMES,
    ),
    "imagewoof": IMAGEWOOF_320,
    "imagewoof-320": IMAGEWOOF_320,
    "imagewoof-160": _archive(
        "folder",
        f"{FASTAI}/imagewoof2-160.tgz",
        "b5ffa16037e07f60882434f55b7814a3d44483f2a484129f251604bc0d0f8172",
        92_612_825,
        IMAGEWOOF_NAMES,
    ),
    "imagewoof-full": _archive(
        "folder",
        f"{FASTAI}/imagewoof2.tgz",
        "de3f58c4ea3e042cf3f8365fbc699288cfe1d8c151059040d181c221bd5a55b8",
        1_343_715_595,
        IMAGEWOOF_NAMES,
    ),
}


class NamedSource:
    """A data set of the catalogue: the source that reads its files, under the data set's own name and origin."""

    def __init__(self, name: str, row: NamedData, source: Source) -> None:
        self.name = name
        self.origin = f"{name} ({', '.join(f'{file.url} sha256 {file.sha256}' for file in row.files)})"
        self.traits = row.traits
        self._source = source

    def listing(self) -> Listing:
        return self._source.listing()

    def read(self, row: int) -> Picture:
        return self._source.read(row)

    def address(self) -> dict[str, object]:
        return {"kind": "named", "name": self.name}


def named_source(
    name: str, *, catalogue: Mapping[str, NamedData] = CATALOGUE, progress: Progress | None = None
) -> NamedSource:
    """The data set of that name, downloaded and unpacked where it is not in the cache yet.

    Raises UsageError for an unknown name, DownloadError (which says where a file can be put by hand), DataError
    and OutOfSpace.
    """
    catalogue = _with_users_rows(catalogue)
    if name not in catalogue:
        raise unknown_name("data set", name, catalogue, list_all=f"known: {', '.join(catalogue)}")
    row = catalogue[name]
    first_name = next(known for known, same in catalogue.items() if same == row)  # one folder for all its names
    key = hashlib.sha256("".join(file.sha256 for file in row.files).encode()).hexdigest()[:12]
    folder = cache_folder("data", f"{first_name}-{key}")
    with locked(folder):
        source = _open(name, row, folder, from_name=first_name, progress=progress)
    return NamedSource(name, row, source)


def _open(name: str, row: NamedData, folder: Path, *, from_name: str, progress: Progress | None) -> Source:
    if row.layout == "idx":
        for file in row.files:
            _have(file, folder, from_name=from_name, progress=progress)
        return IdxSource(folder, name=name, traits=row.traits, class_names=row.class_names)
    root = _unpacked(row, folder, from_name=from_name, progress=progress)
    if row.layout == "folder":
        return FolderSource(root, name=name, traits=row.traits, class_names=row.class_names)
    return CifarSource(root, {"cifar10": CIFAR10, "cifar100": CIFAR100}[row.layout], name=name)


def _have(file: RemoteFile, folder: Path, *, from_name: str, progress: Progress | None) -> Path:
    """The file in `folder`, downloaded if it is not there, checked in either case."""
    return download(
        mirrored(file, from_name),
        folder / file.name,
        sha256=file.sha256,
        size=file.size,
        progress=None if progress is None else partial(progress, f"downloading {file.name}"),
    )


def _unpacked(row: NamedData, folder: Path, *, from_name: str, progress: Progress | None) -> Path:
    """What the archive holds, below the one folder it begins with; the archive itself is not kept."""
    (file,) = row.files
    unpacked = folder / "unpacked"
    if not unpacked.exists():
        archive = _have(file, folder, from_name=from_name, progress=progress)
        unpack(
            archive,
            unpacked,
            declared_size=max(file.size or 0, row.unpacked_size or 0),
            progress=None if progress is None else partial(progress, f"unpacking {file.name}"),
        )
        archive.unlink()
    entries = list(unpacked.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked


def _with_users_rows(catalogue: Mapping[str, NamedData]) -> dict[str, NamedData]:
    """The catalogue with the files that RESNETS_CATALOGUE gives in place of its own."""
    rows = dict(catalogue)
    for name, (files, values) in users_files().items():
        if "." in name:
            continue  # weights
        if name not in rows:
            raise unknown_name("data set", name, rows, list_all=f"known: {', '.join(rows)}")
        if len(files) != len(rows[name].files):
            raise unusable(ValueError(f"{name} needs {len(rows[name].files)} files, got {len(files)}"))
        rows[name] = replace(rows[name], files=files, unpacked_size=values.get("unpacked_size"))
    return rows
