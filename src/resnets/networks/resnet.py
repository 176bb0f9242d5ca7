"""The network that a spec describes: stem, stages, pool, heads.

Shapes: B pictures, C channels, H×W pixels, F features, K classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import EllipsisType

from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.labels import LABEL
from resnets.networks.blocks import BasicBlock, Bottleneck, PreactBasic, PreactBottleneck
from resnets.networks.heads import Hidden, heads_of
from resnets.networks.layers import GlobalMaxPool, activation, norm, norm_act
from resnets.networks.pooled import DawnBlock, Opening, PoolFirstOpening, VanillaBlock
from resnets.networks.spec import Place, ResNetSpec
from resnets.networks.stems import stem_convolution, stem_pool
from resnets.networks.variants import variant

BLOCKS = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "preact_basic": PreactBasic,
    "preact_bottleneck": PreactBottleneck,
    "dawn": DawnBlock,
    "vanilla": VanillaBlock,
}
ENDS_IN_A_SCALE = (BasicBlock, Bottleneck, PreactBasic, PreactBottleneck, VanillaBlock)


def build(
    name_or_spec: str | ResNetSpec,
    *,
    num_classes: int | None = None,
    heads: Mapping[str, int] | EllipsisType | None = ...,
    in_channels: int | None = None,
) -> "ResNet":
    """A network with random weights, from a variant's name or a spec.

    num_classes: one head with so many classes. heads: name to classes of each head; None: pooled features.
    Raises UsageError for an unknown name or numbers that cannot be.
    """
    spec = variant(name_or_spec) if isinstance(name_or_spec, str) else name_or_spec
    if num_classes is not None:
        if heads is not ...:
            raise UsageError("build takes num_classes or heads, not both; several heads: heads={'root': 168, ...}")
        heads = {LABEL: num_classes}
    if heads is not ...:
        spec = replace(spec, heads=tuple((heads or {}).items()))
    if in_channels is not None:
        spec = replace(spec, in_channels=in_channels)
    return ResNet(spec)


class ResNet(nn.Module):
    """A residual network; `layer1`, `layer2`, … are its stages, and state dicts have torchvision's names.

    One head is the linear layer `fc`, and the network gives its logits, (B, K). Several heads are
    `heads.NAME`, and it gives a dict of them in the spec's order. Without heads it gives features, (B, F).
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = stem_convolution(spec)
        self.bn1 = None if spec.preact or spec.stem == "whitened" else norm(spec, spec.stem_channels)
        # whitening filters come with their negatives, of which ReLU keeps one each time
        self.act1 = nn.ReLU() if spec.stem == "whitened" else activation(spec)
        self.maxpool = stem_pool(spec)
        for number, places in enumerate(spec.stages(), 1):
            self.add_module(f"layer{number}", nn.Sequential(*(block_at(spec, place) for place in places)))
        self.norm = norm(spec, spec.features) if spec.preact else None
        self.act = activation(spec)
        self.avgpool = nn.AdaptiveAvgPool2d(1) if spec.pool == "average" else GlobalMaxPool()
        self.dropout = nn.Dropout(spec.dropout)
        self.hidden = Hidden(spec.features, spec.hidden) if spec.hidden and spec.heads else None
        self.fc, self.heads = heads_of(spec)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) -> logits (B, K), or a dict of logits a head, or features (B, F)."""
        x = self.maxpool(self.stem(images))  # (B, C, H, W) -> (B, 64, H/4, W/4)
        for stage in self.stages():
            x = stage(x)  # each doubles the channels; all but the first halve the sides
        return self.classify(self.pool(self.finish(x)))

    def stem(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 64, H/2, W/2): what is there before the max pool."""
        x: Tensor = self.conv1(images)
        if self.spec.preact:
            return x
        return self.act1(x) if self.bn1 is None else norm_act(self.bn1, x, act=self.act1)

    def finish(self, x: Tensor) -> Tensor:
        """The norm and ReLU that pre-activation blocks leave to their successor; (B, F, H, W) throughout."""
        return x if self.norm is None else norm_act(self.norm, x, act=self.act)

    def stages(self) -> Iterator[nn.Module]:
        for number in range(1, len(self.spec.depths) + 1):
            yield getattr(self, f"layer{number}")

    def pool(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> (B, F)."""
        pooled: Tensor = self.avgpool(x)
        return pooled.flatten(1)

    def classify(self, features: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, F) -> what `forward` gives."""
        head = self.fc if self.heads is None else self.heads
        if head is None:
            return features
        x = self.dropout(features)
        x = x if self.hidden is None else self.hidden(x)
        logits: Tensor | dict[str, Tensor] = head(x)
        return logits

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) -> `stem`, `stage1`, …, each (B, C, H, W), and `pooled` (B, F); see `ResNetSpec.maps`."""
        maps = {"stem": self.stem(images)}
        x = self.maxpool(maps["stem"])
        for number, stage in enumerate(self.stages(), 1):
            maps[f"stage{number}"] = x = stage(x)
        maps[f"stage{number}"] = x = self.finish(x)
        return {**maps, "pooled": self.pool(x)}


def block_at(spec: ResNetSpec, place: Place) -> nn.Module:
    if spec.pooled_stages and place.opens:
        return PoolFirstOpening(spec, place) if spec.pool_first else Opening(spec, place)
    return BLOCKS[spec.block](spec, place)


def initialise(network: ResNet) -> None:
    """Convolutions as He et al. 2015b, fan out; where the spec says so, each branch's last scale is zero."""
    for module in network.modules():
        if (
            isinstance(module, nn.Conv2d) and not module.weight.is_meta
        ):  # drawing on meta costs a second of imports
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if network.spec.zero_last:
        for block in (block for stage in network.stages() for block in stage.children()):
            if isinstance(block, ENDS_IN_A_SCALE):
                nn.init.zeros_(block.get_parameter(f"{block.last}.weight"))
