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
from resnets.networks.layers import norm, norm_act
from resnets.networks.pooled import DawnBlock, Opening, VanillaBlock
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
MAX_POOL_SCALE = 0.125  # of ResNet-9's logits (Page 2018)


def build(
    name_or_spec: str | ResNetSpec,
    *,
    num_classes: int | None = None,
    heads: Mapping[str, int] | None | EllipsisType = ...,
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
        self.bn1 = None if spec.preact else norm(spec, spec.stem_channels)
        self.act1 = nn.ReLU()
        self.maxpool = stem_pool(spec)
        for number, places in enumerate(spec.stages(), 1):
            self.add_module(f"layer{number}", nn.Sequential(*(block_at(spec, place) for place in places)))
        self.norm = norm(spec, spec.features) if spec.preact else None
        self.act = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1) if spec.pool == "average" else nn.AdaptiveMaxPool2d(1)
        self.dropout = nn.Dropout(spec.dropout)
        self.hidden = Hidden(spec.features, spec.hidden) if spec.hidden and spec.heads else None
        self.fc, self.heads = heads_of(spec)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) -> logits (B, K), or a dict of logits a head, or features (B, F)."""
        x = self.maxpool(self.stem(images))  # (B, C, H, W) -> (B, 64, H/4, W/4)
        for stage in self.stages():
            x = stage(x)  # each doubles the channels; all but the first halve the sides
        return self.classify(self.pool(x))

    def stem(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 64, H/2, W/2): what is there before the max pool."""
        x: Tensor = self.conv1(images)
        return x if self.bn1 is None else norm_act(self.bn1, x, act=self.act1)

    def stages(self) -> Iterator[nn.Module]:
        for number in range(1, len(self.spec.depths) + 1):
            yield getattr(self, f"layer{number}")

    def pool(self, x: Tensor) -> Tensor:
        """(B, F, H, W) -> (B, F)."""
        x = x if self.norm is None else norm_act(self.norm, x, act=self.act)
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
        return {**maps, "pooled": self.pool(x)}


def block_at(spec: ResNetSpec, place: Place) -> nn.Module:
    return Opening(spec, place) if spec.pooled_stages and place.opens else BLOCKS[spec.block](spec, place)


class Hidden(nn.Linear):
    """A fully connected layer with a ReLU: (B, F) -> (B, hidden)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(super().forward(x))


class ScaledLinear(nn.Linear):
    """A linear layer without bias whose logits are divided by 8: (B, F) -> (B, K)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * MAX_POOL_SCALE


class Heads(nn.Module):
    """Several linear heads on the same features: (B, F) -> {name: (B, K)}, in order.

    A head may have any name, `type` or `a.b` too: a dot is kept out of the module's name as `%2E`, and the
    modules are set without the check that refuses names which `nn.Module` itself has.
    """

    def __init__(self, heads: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, head in heads.items():
            self._modules[name.replace("%", "%25").replace(".", "%2E")] = head
        self.names = tuple(heads)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: head(x) for name, head in zip(self.names, self.children(), strict=True)}


def heads_of(spec: ResNetSpec) -> tuple[nn.Module | None, Heads | None]:
    """(`fc`, `heads`), of which one at most is there."""
    linear = nn.Linear if spec.pool == "average" else ScaledLinear
    made = {name: linear(spec.hidden or spec.features, classes) for name, classes in spec.heads}
    if len(made) == 1:
        return next(iter(made.values())), None
    return None, Heads(dict(made)) if made else None


def initialise(network: nn.Module) -> None:
    """Convolutions as He et al. 2015b, fan out; where the spec says so, each branch's last scale is zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(network, ResNet) and network.spec.zero_last:
        for block in (block for stage in network.stages() for block in stage.children()):
            if hasattr(block, "last"):
                nn.init.zeros_(getattr(block, block.last).weight)
