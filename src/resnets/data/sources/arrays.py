"""Pictures that are in memory already: arrays and lists with their labels, and map-style datasets such as torch's.

Labels are whole numbers or text, one a picture; rows of 0 and 1, where a picture may have several classes; or a
mapping from names to such, where a picture has several labels.
Pixels must be uint8, or floats that are exactly k / 255 (what ToTensor makes of them, and no normalisation
after it); those go back to uint8. Nothing else is scaled by a guess.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.base.errors import DataError
from resnets.base.text import some
from resnets.data.decode import to_pixels
from resnets.data.source import PARTS, Listing, Picture, Traits
from resnets.data.sources.targets import Columns, MapDataset, Stated, columns_of, heads_of, pair, stated_by
from resnets.preprocess import Pixels

EXACT = 1e-4  # how far, in units of 1/255, a float may lie from k / 255: the error of float32, not of a guess


class _Pairs:
    """Pictures and labels of equal length as a map-style dataset."""

    def __init__(self, pictures: Sequence[Any], labels: Any) -> None:
        for one in labels.values() if isinstance(labels, Mapping) else [labels]:
            if len(pictures) != len(one):
                raise DataError(
                    f"{len(pictures)} pictures cannot have {len(one)} labels; give one label a picture"
                )
        self.pictures = pictures
        self.targets = labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        if isinstance(self.targets, Mapping):
            return self.pictures[index], {name: one[index] for name, one in self.targets.items()}
        return self.pictures[index], self.targets[index]


class ArraySource:
    """Datasets in memory or of the user's own, one a part, or a single undivided one.

    parts: `train`, `val`, `test` -> a dataset, or a pair (pictures, labels); None -> an undivided one.
    classes: the classes in order, of labels 0, 1, 2, … or of the columns of 0 and 1, or a mapping from names of
    labels to such; else what each dataset calls `classes`; else numbers by value or text by code point.
    """

    def __init__(
        self,
        parts: Mapping[str | None, Any],
        *,
        classes: Stated | None = None,
        name: str = "arrays",
        traits: Traits | None = None,
    ) -> None:
        wrong = [part for part in parts if part is not None and part not in PARTS]
        if wrong or not parts or (None in parts and len(parts) > 1):
            raise DataError(
                f"parts of data in memory are called {', '.join(PARTS)}, got {some(list(map(str, parts)))}"
            )
        self.name = name
        self.traits = traits or Traits()
        self._datasets: dict[str | None, MapDataset] = {part: _dataset(given) for part, given in parts.items()}
        kinds = {type(dataset).__name__.strip("_") for dataset in self._datasets.values()}
        self.origin = f"{name} in memory ({', '.join(sorted(kinds))})"
        self._classes = classes
        self._starts = np.cumsum([0, *(len(dataset) for dataset in self._datasets.values())])
        self._lock = threading.Lock()  # a stranger's __getitem__ may not be made for threads

    def address(self) -> None:
        """In memory: a manifest cannot open it again."""

    def listing(self) -> Listing:
        columns: dict[str | None, Columns] = {}
        for part, dataset in self._datasets.items():
            if not len(dataset):
                raise DataError(f"{self.origin}: the {part or 'only'} part has no picture")
            _check_repeatable(dataset, self.origin)
            columns[part] = columns_of(dataset, self.origin)
        heads, labels = heads_of(columns, stated=self._stated(), origin=self.origin)
        rows = [(part, row) for part, dataset in self._datasets.items() for row in range(len(dataset))]
        return Listing(
            paths=[f"{part or 'picture'}/{row:06d}" for part, row in rows],
            heads=heads,
            labels=labels,
            parts=None if None in self._datasets else [str(part) for part, _ in rows],
        )

    def read(self, row: int) -> Picture:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        dataset = list(self._datasets.values())[part]
        with self._lock:
            item = dataset[int(row - self._starts[part])]
        return pixels_of(pair(item, self.origin)[0])

    def _stated(self) -> dict[str | None, Stated | None]:
        """What the classes of each part are called, by who made this source or by the part's dataset."""
        return {part: self._classes or stated_by(dataset) for part, dataset in self._datasets.items()}


def pixels_of(picture: Any) -> Picture:
    """A Pillow picture, array (H, W[, C]) or tensor ([C,] H, W) as uint8 (H, W[, C]); encoded bytes as they are.

    Raises DataError for pixels of another shape or scale.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Image.Image):
        return to_pixels(picture)
    if hasattr(picture, "detach"):  # a tensor; torch itself is not imported here
        values = picture.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
        if values.ndim == 3:
            values = np.moveaxis(values, 0, 2)
    else:
        values = np.asarray(picture)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"a picture must be (height, width) or (height, width, 1, 3 or 4), as a tensor channels first; "
            f"got {tuple(np.shape(picture))}"
        )
    return _bytes(values)


def _bytes(values: npt.NDArray[Any]) -> Pixels:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "f" and values.size:
        scaled = values.astype(np.float64) * 255
        nearest = np.rint(scaled)
        if nearest.min() >= 0 and nearest.max() <= 255 and float(np.abs(scaled - nearest).max()) < EXACT:
            return nearest.astype(np.uint8)
    raise DataError(
        f"pixels must be uint8, or k / 255 as ToTensor makes them, got {values.dtype} from {values.min():.4g} to "
        f"{values.max():.4g}; take Normalize, ToTensor and scaling out of the dataset: that is done later, once"
    )


def _dataset(given: Any) -> MapDataset:
    if isinstance(given, tuple) and len(given) == 2:
        return _Pairs(*given)
    if not hasattr(given, "__len__") or not hasattr(given, "__getitem__"):
        raise DataError(
            f"a dataset needs a length and items by number, got {type(given).__name__}; "
            "give (pictures, labels) or a map-style dataset"
        )
    return cast(MapDataset, given)


def _check_repeatable(dataset: MapDataset, origin: str) -> None:
    """The same item twice must be the same picture: augmentation belongs to training, where it can be replayed."""
    once, again = (pixels_of(pair(dataset[0], origin)[0]) for _ in range(2))
    if not np.array_equal(np.asarray(once), np.asarray(again)):
        raise DataError(
            f"{origin}: its first picture differs from one reading to the next; take random transforms out of the "
            "dataset: training augments by itself"
        )
