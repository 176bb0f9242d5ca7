"""How a decoded picture becomes a network's input: one record that data, weights, evaluation and shipping share.

The record is data, never code, so that another runtime can follow it; this module imports no torch.
Sizes and crops round as torchvision's `Resize` and `CenterCrop` do.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.base.errors import ModelFileError, UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB in [0, 1], over ImageNet's training pictures
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)  # mean and deviation that bring [0, 1] to [-1, 1]
CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
PILLOW_MODES = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

INK = 48  # of 255: how far a pixel's brightness is from the border's to count as drawn

Channels = Literal["grey", "rgb", "rgba"]
Resize = Literal["crop", "squash", "ink"]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, crop and normalise.

    size: (height, width) of the network's input, in pixels.
    resize: `crop` keeps the aspect ratio: the picture is scaled until it covers size / crop, and the
        centre is cut out; `squash` scales both sides to `size`; `ink` keeps what is drawn: the box around all that
        differs from the picture's border is scaled until it fits into crop * size, centred on the border's shade.
    crop: the share of the scaled picture's shorter side that the centre crop keeps, in (0, 1]; of `ink`, the share
        of the size that the box may take.
    interpolation: nearest, bilinear, bicubic or lanczos, antialiased as Pillow does.
    mean, std: one number a channel, for values in [0, 1].
    channels: grey, rgb or rgba.
    """

    size: tuple[int, int]
    resize: Resize = "crop"
    crop: float = 0.875
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: Channels = "rgb"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(side) for side in self.size))
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if len(self.size) != 2 or not all(1 <= side <= 8192 for side in self.size):
            raise UsageError(f"Preprocess.size must be (height, width) from 1 to 8192 pixels, got {self.size}")
        if self.channels not in CHANNELS:
            raise UsageError(f"Preprocess.channels must be one of {', '.join(CHANNELS)}, got {self.channels!r}")
        if self.resize not in get_args(Resize):
            names = ", ".join(get_args(Resize))
            raise UsageError(f"Preprocess.resize must be one of {names}, got {self.resize!r}")
        if self.interpolation not in FILTERS:
            names = ", ".join(FILTERS)
            raise UsageError(f"Preprocess.interpolation must be one of {names}, got {self.interpolation!r}")
        if not 0 < self.crop <= 1:
            raise UsageError(f"Preprocess.crop must be above 0 and at most 1, got {self.crop}")
        count = CHANNELS[self.channels]
        if len(self.mean) != count or len(self.std) != count:
            raise UsageError(
                f"Preprocess.mean and std must have {count} numbers for {self.channels} pictures, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if not all(value > 0 for value in self.std):
            raise UsageError(f"Preprocess.std must be above 0, got {self.std}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocess":
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"the stored preprocessing cannot be used: {error}") from error


def fit(picture: Image.Image, preprocess: Preprocess) -> Pixels:
    """A decoded picture (mode L, RGB or RGBA) resized and cropped: uint8 (H, W, C), not yet normalised."""
    height, width = preprocess.size
    pillow_filter = FILTERS[preprocess.interpolation]
    if preprocess.resize == "squash":
        if picture.size != (width, height):
            picture = picture.resize((width, height), pillow_filter)
    elif preprocess.resize == "ink":
        picture = _ink(picture, height, width, preprocess.crop, pillow_filter)
    else:
        picture = _covering(picture, height / preprocess.crop, width / preprocess.crop, pillow_filter)
        left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
        if (left, top) != (0, 0) or picture.size != (width, height):
            picture = picture.crop((left, top, left + width, top + height))
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _covering(picture: Image.Image, height: float, width: float, pillow_filter: Image.Resampling) -> Image.Image:
    """Scale until the picture covers (height, width), keeping its aspect ratio; the longer side rounds down."""
    height, width = round(height), round(width)
    if picture.height * width <= picture.width * height:  # the height is the side that must fit
        new = (max(width, int(height * picture.width / picture.height)), height)
    else:
        new = (width, max(height, int(width * picture.height / picture.width)))
    return picture if new == picture.size else picture.resize(new, pillow_filter)


def _ink(
    picture: Image.Image, height: int, width: int, share: float, pillow_filter: Image.Resampling
) -> Image.Image:
    """What is drawn, as large as `share` of (height, width) allows; a blank picture whole."""
    grey = np.asarray(picture.convert("L"), dtype=np.int16)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    shade = int(np.median(border))
    drawn = np.abs(grey - shade) > INK
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if len(rows):
        picture = picture.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    scale = min(share * height / picture.height, share * width / picture.width)
    tall, wide = max(1, round(picture.height * scale)), max(1, round(picture.width * scale))
    ground = (*(shade,) * min(3, len(picture.getbands())), 255)[: len(picture.getbands())]
    sheet = Image.new(picture.mode, (width, height), ground)
    sheet.paste(picture.resize((wide, tall), pillow_filter), ((width - wide) // 2, (height - tall) // 2))
    return sheet
