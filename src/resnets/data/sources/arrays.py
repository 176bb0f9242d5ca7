"""Pictures that are in memory already: arrays and lists with their labels, and map-style datasets such as torch's.

Pixels must be uint8, or floats that are exactly k / 255 (what ToTensor makes of them, and no normalisation
after it); those go back to uint8. Nothing else is scaled by a guess.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.base.errors import DataError
from resnets.base.text import some
from resnets.data.decode import to_pixels
from resnets.data.source import PARTS, TRAIN, Listing, Picture, Traits
from resnets.labels import LABEL, Head
from resnets.preprocess import Pixels

EXACT = 1e-4  # how far, in units of 1/255, a float may lie from k / 255: the error of float32, not of a guess


class MapDataset(Protocol):
    """A map-style dataset: items are (picture, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class _Pairs:
    """Pictures and labels of equal length as a map-style dataset."""

    def __init__(self, pictures: Sequence[Any], labels: Sequence[Any]) -> None:
        if len(pictures) != len(labels):
            raise DataError(f"{len(pictures)} pictures cannot have {len(labels)} labels; give one label a picture")
        self.pictures = pictures
        self.targets = labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        return self.pictures[index], self.targets[index]


class ArraySource:
    """Datasets in memory or of the user's own, one a part, or a single undivided one.

    parts: `train`, `val`, `test` -> a dataset, or a pair (pictures, labels); None -> an undivided one.
    classes: the classes in order, of labels 0, 1, 2, …; else what each dataset calls `classes`; else numbers by
    value or text by code point.
    """

    def __init__(
        self,
        parts: Mapping[str | None, Any],
        *,
        classes: Sequence[str] | None = None,
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
        values: dict[str | None, list[int | str]] = {}
        for part, dataset in self._datasets.items():
            if not len(dataset):
                raise DataError(f"{self.origin}: the {part or 'only'} part has no picture")
            _check_repeatable(dataset, self.origin)
            values[part] = _labels(dataset, self.origin)
        order, ids = self._class_ids(values)
        position = {name: number for number, name in enumerate(order)}
        rows = [(part, row) for part, column in values.items() for row in range(len(column))]
        return Listing(
            paths=[f"{part or 'picture'}/{row:06d}" for part, row in rows],
            heads={LABEL: Head(ids=order)},
            labels={LABEL: np.array([position[name] for name in ids], dtype=np.int64)},
            parts=None if None in self._datasets else [str(part) for part, _ in rows],
        )

    def read(self, row: int) -> Picture:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        dataset = list(self._datasets.values())[part]
        with self._lock:
            item = dataset[int(row - self._starts[part])]
        return pixels_of(_pair(item, self.origin)[0])

    def _class_ids(self, values: Mapping[str | None, Sequence[int | str]]) -> tuple[tuple[str, ...], list[str]]:
        """The classes in order, and the class of every row; each part by its own names where it states them."""
        leading = TRAIN if TRAIN in values else next(iter(values))
        general = self._classes or _stated(self._datasets[leading])
        ids = {
            part: _named(column, self._classes or _stated(self._datasets[part]) or general, self.origin)
            for part, column in values.items()
        }
        if general is not None:
            order = tuple(general)
        elif all(isinstance(value, int) for value in values[leading]):
            order = tuple(sorted(set(ids[leading]), key=int))
        else:
            order = tuple(sorted(set(ids[leading])))
        for part, column in ids.items():
            unknown = sorted(set(column) - set(order))
            if unknown:
                raise DataError(
                    f"{self.origin}: {part or 'a picture'} has the class {some(unknown)} that train lacks"
                )
        return order, [name for column in ids.values() for name in column]


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


def _stated(dataset: MapDataset) -> tuple[str, ...] | None:
    """What the dataset calls its classes (torchvision's name for it), where that is plain and unique text."""
    names = getattr(dataset, "classes", None)
    plain = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return tuple(names) if plain and names and len(set(names)) == len(names) else None


def _named(column: Sequence[int | str], stated: Sequence[str] | None, origin: str) -> list[str]:
    """Class ids of a part's labels: numbers by the stated names, or as text."""
    if stated is None:
        return [str(value) for value in column]
    wrong = next((value for value in column if isinstance(value, int) and not 0 <= value < len(stated)), None)
    if wrong is not None:
        raise DataError(f"{origin}: the label {wrong} is not one of its {len(stated)} classes")
    return [stated[value] if isinstance(value, int) else value for value in column]


def _pair(item: Any, origin: str) -> tuple[Any, Any]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{origin}: items must be pairs (picture, label), got {type(item).__name__}")
    return item[0], item[1]


def _check_repeatable(dataset: MapDataset, origin: str) -> None:
    """The same item twice must be the same picture: augmentation belongs to training, where it can be replayed."""
    once, again = (pixels_of(_pair(dataset[0], origin)[0]) for _ in range(2))
    if not np.array_equal(np.asarray(once), np.asarray(again)):
        raise DataError(
            f"{origin}: its first picture differs from one reading to the next; take random transforms out of the "
            "dataset: training augments by itself"
        )


def _labels(dataset: MapDataset, origin: str) -> list[int | str]:
    """Every label; torchvision's `targets` are taken where they agree with the first and the last item."""

    def of(row: int) -> int | str:
        return _label(_pair(dataset[row], origin)[1], origin)

    targets = getattr(dataset, "targets", None)
    if targets is not None and len(targets) == len(dataset):
        stated = [_label(value, origin) for value in targets]
        if stated[0] == of(0) and stated[-1] == of(len(dataset) - 1):
            return stated
    return [of(row) for row in range(len(dataset))]


def _label(value: Any, origin: str) -> int | str:
    plain = value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value
    if isinstance(plain, (int, str)) and not isinstance(plain, bool):
        return plain
    raise DataError(f"{origin}: a label must be a whole number or text, got {type(value).__name__}: {value!r:.60}")
