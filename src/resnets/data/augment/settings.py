"""What a run does to its training pictures: resolved settings, and the defaults for given data."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from resnets.base.errors import UsageError
from resnets.data.source import Traits
from resnets.preprocess import Resize

Geometry = Literal["none", "pad-crop", "rrc"]
Border = Literal["zero", "edge", "reflect"]
Policy = Literal["none", "randaugment", "trivialaugment"]

SMALL_SIDE = 64  # pixels: up to here pictures are shifted, not cropped and enlarged
FEW_PICTURES = 1_000  # below it no colour is changed
MANY_PICTURES = 100_000  # from here on runs are long enough for the smallest crops
COLOUR = 0.2  # brightness, contrast and saturation change by up to this share
AFFINE, ELASTIC = 0.1, 0.04  # of writing: measured on digits by cross-validation
SCALE_MANY = 0.08  # Szegedy et al. 2015, section 6: crops from 8% of the area
SCALE_FEW = 0.35  # a short run sees each picture too seldom to learn it from slivers


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How training pictures are changed; every draw is a picture's own, whatever batch it is in.

    geometry: `none`; `pad-crop` (a shift by up to `pad` pixels); `rrc` (random resized crop).
    pad: pixels on each side; border: what they hold: zeros, the edge repeated, or a reflection without it.
    scale: the smallest share of the area that a random resized crop keeps; ratio: its width / height.
    affine: turn, zoom and shear: each entry of the 2x2 matrix leaves the identity's by up to this; 0 is off.
    elastic: a smooth random field moves pixels by up to this share of a side; 0 is off.
    stroke: lines become thicker or thinner by up to this many pixels a side; 0 is off.
    flip: the probability of a mirror image, left to right; at 0.5 the sides alternate, epoch by epoch.
    colour: brightness, contrast and saturation are multiplied by 1 - colour to 1 + colour; 0 is off.
    policy: `randaugment` (`policy_operations` of magnitude `policy_magnitude`, 0 to 30) or `trivialaugment`.
    erasing: the probability that a box is filled with the mean.
    mixup, cutmix: alpha of the beta distribution of the mixing weight; 0 is off; with both, each
        batch takes one of them.
    """

    geometry: Geometry = "none"
    pad: int = 0
    border: Border = "reflect"
    scale: float = SCALE_MANY
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    affine: float = 0.0
    elastic: float = 0.0
    stroke: float = 0.0
    flip: float = 0.0
    colour: float = 0.0
    policy: Policy = "none"
    policy_operations: int = 2
    policy_magnitude: float = 9
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", tuple(float(value) for value in self.ratio))
        for name, kind in (("geometry", Geometry), ("border", Border), ("policy", Policy)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"Augment.{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}"
                )
        for name in ("flip", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Augment.{name} must be a probability from 0 to 1, got {getattr(self, name)}")
        for name in ("mixup", "cutmix", "pad", "stroke"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(
                    f"Augment.{name} must be a number of at least 0, got {getattr(self, name)}; 0 is off"
                )
        for name in ("affine", "elastic"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"Augment.{name} must be from 0 to below 1, got {getattr(self, name)}; 0 is off")
        if not 0 <= self.colour <= 1:
            raise UsageError(f"Augment.colour must be from 0 to 1, got {self.colour}; 0 is off")
        if not 0 < self.scale <= 1:
            raise UsageError(f"Augment.scale must be above 0 and at most 1, got {self.scale}")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise UsageError(f"Augment.ratio must be (smallest, largest) above 0, got {self.ratio}")
        if not 0 <= self.policy_magnitude <= 30 or self.policy_operations < 1:
            raise UsageError(
                "Augment.policy_magnitude must be from 0 to 30 and policy_operations at least 1, "
                f"got {self.policy_magnitude} and {self.policy_operations}"
            )

    @property
    def mixes(self) -> bool:
        """Whether pictures are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def moves_alone(self) -> bool:
        """Whether pixels are only shifted and mirrored, before any mixing and erasing."""
        return self.geometry != "rrc" and not (
            self.affine or self.elastic or self.stroke or self.colour or self.policy != "none"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Augment":
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"the stored augmentation cannot be used: {error}") from error

    def left_for_device(self, *, packed: bool) -> "Augment":
        """What is still to do with a batch, where random resized crops may have been made in decoding.

        packed: the pictures came whole, as packed ones do (`batches.Pictures.whole`).
        """
        return replace(self, geometry="none") if self.geometry == "rrc" and not packed else self


def default_augment(
    *,
    size: tuple[int, int],
    pictures: int,
    traits: Traits,
    same_size: bool,
    resize: Resize,
    pad: int | None = None,
) -> tuple[Augment, str]:
    """The settings for this data, and the reason in a few words.

    size: (height, width) of the network's input. same_size: every picture has this size as it is stored.
    resize: how pictures are brought to `size`; a small picture that is squashed counts as a whole object, and one
    of any size that is cut to its ink as a drawing. pad: how far small pictures are shifted, None: an eighth.
    """
    flip = 0.0 if traits.mirror is False else 0.5
    mirrored = "no flip (a mirrored picture may be another class)" if flip == 0 else "flip"
    side = max(size)
    small = side <= SMALL_SIDE and (same_size or resize == "squash")
    drawings = traits.drawings or resize == "ink"
    if small or drawings:
        pad = pad or max(1, min(size) // 8)
        border: Border = "edge" if drawings else "reflect"
        shifted = Augment(geometry="pad-crop", pad=pad if min(size) > pad else 0, border=border, flip=flip)
        if flip == 0 or resize == "ink":
            distorted = replace(shifted, affine=AFFINE, elastic=ELASTIC)
            return distorted, f"shift by up to {pad} px, distortion and {mirrored}: writing"
        why = "drawings" if drawings else f"pictures of {side} pixels"
        return shifted, f"shift by up to {pad} px and {mirrored}: {why}"
    scale = SCALE_MANY if pictures >= MANY_PICTURES else SCALE_FEW
    colour = COLOUR if pictures >= FEW_PICTURES else 0.0
    coloured = f"colour {colour:g}" if colour else "no colour"
    return (
        Augment(geometry="rrc", scale=scale, flip=flip, colour=colour),
        f"random resized crop from {scale:.0%} of the area, {mirrored}, {coloured}: {pictures:,} photographs",
    )
