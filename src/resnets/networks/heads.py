"""The end of a network: one linear layer, or several by name.

Shapes: B pictures, F features, K classes.
"""

from urllib.parse import unquote

from torch import Tensor, nn

from resnets.networks.spec import ResNetSpec

MAX_POOL_SCALE = 0.125  # of the logits that follow a max pool (Page 2018)


class Hidden(nn.Linear):
    """A fully connected layer with a ReLU: (B, F) -> (B, hidden)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(super().forward(x))


class ScaledLinear(nn.Linear):
    """ResNet-9's: without bias, its logits divided by 8: (B, F) -> (B, K)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * MAX_POOL_SCALE


class Heads(nn.Module):
    """Several heads on the same features: (B, F) -> {name: (B, K)}, in order."""

    def __init__(self, heads: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, head in heads.items():
            self.add_module(module_name(name), head)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {head_name(name): head(x) for name, head in self.named_children()}


def module_name(head: str) -> str:
    """A head's name as a module's: a dot, and the start of a name that `nn.Module` has itself, stand as %XX."""
    name = head.replace("%", "%25").replace(".", "%2E")
    return f"%{ord(name[0]):02X}{name[1:]}" if hasattr(nn.Module(), name) else name


def head_name(module: str) -> str:
    """What `module_name` made a module's name of."""
    return unquote(module)


def heads_of(spec: ResNetSpec) -> tuple[nn.Module | None, Heads | None]:
    """(`fc`, `heads`) of a network, of which one at most is there."""
    linear = nn.Linear if spec.pool == "average" else ScaledLinear
    heads: dict[str, nn.Module] = {
        name: linear(spec.hidden or spec.features, classes) for name, classes in spec.heads
    }
    if len(heads) == 1:
        return next(iter(heads.values())), None
    return None, Heads(heads) if heads else None
