"""What a residual network is, as data: every field has one meaning, and a variant is a row of fields.

Channels double from stage to stage, sides halve; `ResNetSpec.stages()` does that arithmetic once, so that the
blocks and the network are straight lines. This module imports no torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from resnets.base.errors import ModelFileError
from resnets.labels import LABEL
from resnets.networks import limits

Block = Literal["basic", "bottleneck", "preact_basic", "preact_bottleneck", "dawn", "vanilla"]
Act = Literal["relu", "hardswish"]
Stem = Literal["imagenet", "small", "whitened", "deep", "tiered", "strided"]

SMALL_PICTURE = 32  # pixels of the shorter side, up to which a stem that keeps the size is chosen
WHITENED_SIDE = 3  # pixels of the patches that a whitened stem looks at
EXPANSION = 4  # a bottleneck's output has four times the stage's channels (He et al. 2015, figure 5)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one block stands in its network.

    channels, inner, out: coming in, inside, going out. opens: it is its stage's first.
    stride: what the block divides the sides by. blur: a blur does it, behind the convolution that else would.
    dilation, dilation_after: of the first 3×3 convolution, and of those behind it.
    drop_path: the probability with which the branch is left out of a picture's pass in training.
    """

    channels: int
    inner: int
    out: int
    opens: bool
    stride: int
    blur: bool
    dilation: int
    dilation_after: int
    drop_path: float

    @property
    def conv_stride(self) -> int:
        """Of the convolution that strides, unless a blur does."""
        return 1 if self.blur else self.stride


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """A residual network.

    block: `basic` (two 3×3), `bottleneck` (1×1, 3×3, 1×1); with `preact_`, norm and ReLU come before each
        convolution; `dawn` and `vanilla` open each stage with a convolution and a max pool, then skip around
        two convolutions and around one.
    depths: blocks a stage. width: channels of the first stage, doubled in each further one.
    groups, group_width: the first stage's bottlenecks have groups × group_width channels inside (32x4d); 0: width.
    stride_in: the bottleneck's convolution that halves the sides: `3x3` (v1.5) or the first `1x1` (v1).
    stem: `imagenet` (7×7 stride 2, max pool), `small` (3×3, neither stride nor pool), `whitened` (the same, by
        fixed filters that whiten the pictures' patches, and their negatives), `deep` (three 3×3, max pool),
        `tiered` (the same, narrower at first), `strided` (deep, a strided 3×3 in place of the max pool).
    stem_width: channels that leave the stem; 0: width. A whitened stem has two a direction of a patch at most.
    shortcut: `A` (zero channels), `B` (1×1 where the shape changes), `C` (1×1 on every one), `D` (average pool,
        then 1×1), `none` (a plain network).
    attention: `se` (squeezed by se_reduction) or `eca` at the end of each branch. antialias: blur where strided.
    norm: `batch`, or `group` (32 groups). act: behind each norm, `relu`, or `hardswish` (Howard et al. 2019).
    pool_first: the max pool that opens a stage comes before its norm.
    zero_last: each branch's last scale starts at zero (Goyal et al. 2017).
    drop_path: of the last block, rising linearly from 0 at the first. dropout: before the heads.
    pool: `average` (linear heads), or `max` (heads without bias, scaled by 1/8, as ResNet-9 has them).
    hidden: width of a fully connected layer before the heads; 0: none.
    output_stride: stages that would divide the sides by more dilate instead; 0: none does.
    in_channels: of the pictures. heads: (name, classes), in order; () gives pooled features.
    """

    block: Block
    depths: tuple[int, ...]
    width: int = 64
    groups: int = 1
    group_width: int = 0
    stride_in: Literal["3x3", "1x1"] = "3x3"
    stem: Stem = "imagenet"
    stem_width: int = 0
    shortcut: Literal["A", "B", "C", "D", "none"] = "B"
    attention: Literal["none", "se", "eca"] = "none"
    se_reduction: int = 16
    antialias: bool = False
    norm: Literal["batch", "group"] = "batch"
    act: Act = "relu"
    pool_first: bool = False
    zero_last: bool = True
    drop_path: float = 0.0
    dropout: float = 0.0
    pool: Literal["average", "max"] = "average"
    hidden: int = 0
    output_stride: int = 0
    in_channels: int = 3
    heads: tuple[tuple[str, int], ...] = ((LABEL, 1000),)

    def __post_init__(self) -> None:
        pairs = self.heads.items() if isinstance(self.heads, Mapping) else self.heads
        object.__setattr__(self, "heads", limits.head_pairs(pairs))
        object.__setattr__(self, "depths", limits.whole_numbers("depths", self.depths))
        limits.check(self)

    @property
    def preact(self) -> bool:
        return self.block.startswith("preact")

    @property
    def normed(self) -> bool:
        """A norm follows each trained convolution, so that the size of its filters changes no answer."""
        return not self.preact and self.attention != "se"

    @property
    def pooled_stages(self) -> bool:
        """Each stage, the first too, opens with a convolution and a max pool."""
        return self.block in ("dawn", "vanilla")

    @property
    def stem_channels(self) -> int:
        asked = self.stem_width or self.width
        return min(asked, 2 * WHITENED_SIDE**2 * self.in_channels) if self.stem == "whitened" else asked

    @property
    def keeps_size(self) -> bool:
        """The stem gives maps of the pictures' size."""
        return self.stem in ("small", "whitened")

    @property
    def features(self) -> int:
        """The length of the pooled features."""
        return self.maps()["pooled"][0]

    def stages(self) -> tuple[tuple[Place, ...], ...]:
        """Every block's place, stage by stage."""
        expansion = EXPANSION if "bottleneck" in self.block else 1
        channels, total, dilation = self.stem_channels, 1 if self.keeps_size else 4, 1
        stages, block = [], 0
        for index, depth in enumerate(self.depths):
            stride = 2 if index or self.pooled_stages else 1
            dilation_before = dilation
            if self.output_stride and total * stride > self.output_stride:
                dilation, stride = dilation * stride, 1
            total *= stride
            inner = self.groups * (self.group_width or self.width) * 2**index
            out = self.width * 2**index * expansion
            places = []
            for position in range(depth):
                opens = position == 0
                places.append(
                    Place(
                        channels=channels,
                        inner=inner,
                        out=out,
                        opens=opens,
                        stride=stride if opens else 1,
                        blur=self.antialias and opens and (stride > 1 or dilation > dilation_before),
                        dilation=dilation_before if opens else dilation,
                        dilation_after=dilation,
                        drop_path=self.drop_path * block / max(1, sum(self.depths) - 1),
                    )
                )
                channels, block = out, block + 1
            stages.append(tuple(places))
        return tuple(stages)

    def maps(self) -> dict[str, tuple[int, int]]:
        """Name to (channels, what the sides are divided by) of each map; `pooled` has stride 0."""
        stem = 1 if self.keeps_size else 2
        maps, total = {"stem": (self.stem_channels, stem)}, 1 if stem == 1 else 4
        for index, places in enumerate(self.stages(), 1):
            total *= places[0].stride
            maps[f"stage{index}"] = (places[-1].out, total)
        return {**maps, "pooled": (places[-1].out, 0)}

    def to_json(self) -> dict[str, Any]:
        return {"kind": "resnet", **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ResNetSpec":
        """The spec that a model file holds. Raises ModelFileError: the file is a stranger's input."""
        given = {key: value for key, value in values.items() if key != "kind"}
        unknown = sorted(given.keys() - {field.name for field in fields(cls)})
        if values.get("kind") != "resnet" or unknown:
            what = f"unknown fields {', '.join(unknown)[:200]}" if unknown else f"kind {values.get('kind')!r:.100}"
            raise ModelFileError(f"the stored network cannot be used: {what}; a newer resnets may know it")
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"the stored network cannot be used: {error}") from error


def stem_for(size: tuple[int, int], spec: ResNetSpec) -> Stem:
    """The stem for pictures of (height, width): up to 32 pixels one that keeps the size, else the spec's own."""
    return "small" if min(size) <= SMALL_PICTURE and not spec.keeps_size else spec.stem
