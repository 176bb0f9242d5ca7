"""The bounds of a spec, checked once and before any memory is taken: a model file's spec is a stranger's input."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from resnets.base.errors import UsageError

if TYPE_CHECKING:
    from resnets.networks.spec import ResNetSpec

STAGES = 5
DEPTH = 512  # blocks a stage; ResNet-1202 has 200
HEADS = 256
HEAD_NAME = 200  # characters
PARAMETERS = 2_000_000_000
NUMBERS = {  # field: lowest, highest
    "width": (1, 4096),
    "groups": (1, 4096),
    "group_width": (0, 4096),
    "stem_width": (0, 4096),
    "se_reduction": (1, 1024),
    "hidden": (0, 65_536),
    "in_channels": (1, 1024),
}
CLASSES = (1, 1_000_000)


def whole(name: str, value: Any, lowest: int, highest: int, *, of: str = "ResNetSpec") -> int:
    """The number, if it is one from lowest to highest; else a UsageError that names the field."""
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise UsageError(f"{of}.{name} must be a whole number from {lowest} to {highest}, got {_shown(value)}")
    return value


def whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    """Blocks a stage, as a tuple."""
    if not isinstance(values, tuple | list) or not 1 <= len(values) <= STAGES:
        raise UsageError(
            f"ResNetSpec.{name} must be a list of 1 to {STAGES} whole numbers, one a stage, got {_shown(values)}; "
            "ResNet-50 has (3, 4, 6, 3)"
        )
    return tuple(whole(f"{name}[{index}]", value, 1, DEPTH) for index, value in enumerate(values))


def head_pairs(pairs: Iterable[Any]) -> tuple[tuple[str, int], ...]:
    """(name, classes) of each head, as tuples."""
    try:
        given = [(name, classes) for name, classes in pairs]
    except (TypeError, ValueError):
        raise UsageError(
            f"ResNetSpec.heads must be pairs of a name and a number of classes, got {_shown(pairs)}; "
            'such as (("label", 10),)'
        ) from None
    if len(given) > HEADS:
        raise UsageError(f"ResNetSpec.heads can be {HEADS} at most, got {len(given)}")
    for name, classes in given:
        if not isinstance(name, str) or not 1 <= len(name) <= HEAD_NAME:
            raise UsageError(
                f"ResNetSpec.heads must have names of 1 to {HEAD_NAME} characters, got {_shown(name)}"
            )
        whole(f"heads[{_shown(name)}]", classes, *CLASSES)
    if len({name for name, _ in given}) != len(given):
        raise UsageError(
            f"ResNetSpec.heads must have names that differ, got {_shown([name for name, _ in given])}"
        )
    return tuple(given)


def check(spec: "ResNetSpec") -> None:
    """Raise UsageError for a spec that is no network, or one too large to be meant."""
    for name, hint in get_type_hints(type(spec)).items():
        value = getattr(spec, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise UsageError(f"ResNetSpec.{name} must be one of {', '.join(get_args(hint))}, got {_shown(value)}")
        if hint is bool and not isinstance(value, bool):
            raise UsageError(f"ResNetSpec.{name} must be true or false, got {_shown(value)}")
        if hint is float and not (type(value) in (int, float) and 0 <= value < 1):
            raise UsageError(f"ResNetSpec.{name} must be a probability in [0, 1), got {_shown(value)}")
    for name, (lowest, highest) in NUMBERS.items():
        whole(name, getattr(spec, name), lowest, highest)
    if type(spec.output_stride) is not int or spec.output_stride not in (0, 8, 16, 32):
        raise UsageError(f"ResNetSpec.output_stride must be 0, 8, 16 or 32, got {_shown(spec.output_stride)}")
    _check_together(spec)
    count = parameters_about(spec)
    if count > PARAMETERS:
        raise UsageError(
            f"this ResNetSpec has about {count / 1e9:.0f} thousand million parameters, more than {PARAMETERS:,}; "
            "lower width, depths or heads"
        )


def _check_together(spec: "ResNetSpec") -> None:
    """Fields that a block or a shortcut cannot honour are refused, never ignored."""
    bottleneck = "bottleneck" in spec.block
    if not bottleneck and (spec.groups != 1 or spec.group_width or spec.stride_in != "3x3"):
        raise UsageError(
            f"ResNetSpec.groups, group_width and stride_in belong to bottlenecks, not to block={spec.block!r}; "
            "leave them out"
        )
    if spec.antialias and (spec.stride_in != "3x3" or spec.stem == "strided"):
        raise UsageError(
            "ResNetSpec.antialias goes with stride_in='3x3' and a stem that has a max pool or no stride"
        )
    if spec.zero_last and (spec.shortcut == "none" or spec.block == "dawn"):
        raise UsageError(
            f"ResNetSpec.zero_last must be False with shortcut={spec.shortcut!r} and block={spec.block!r}: "
            "a branch that starts at zero would pass nothing on, or never learn"
        )
    if spec.shortcut == "none" and spec.drop_path:
        raise UsageError(
            "ResNetSpec.drop_path must be 0 with shortcut='none': nothing leads around a dropped branch"
        )
    if spec.shortcut == "A" and spec.stem_channels > spec.stages()[0][0].out:
        raise UsageError(
            f"ResNetSpec.shortcut='A' adds channels and cannot take away any of the stem's {spec.stem_channels}; "
            "choose shortcut='B'"
        )
    if spec.pooled_stages and (spec.attention != "none" or spec.antialias or spec.output_stride or spec.drop_path):
        raise UsageError(
            f"ResNetSpec.attention, antialias, output_stride and drop_path have no place in block={spec.block!r}"
        )
    if spec.pooled_stages and spec.shortcut != "B":
        raise UsageError(
            f"ResNetSpec.shortcut must be B (no shape changes) with block={spec.block!r}, got {spec.shortcut!r}"
        )
    if spec.pool_first and not spec.pooled_stages:
        raise UsageError(
            f"ResNetSpec.pool_first has no place in block={spec.block!r}, whose stages open without a pool"
        )
    if spec.stem == "whitened" and spec.stem_channels % 2:
        raise UsageError(
            f"ResNetSpec.stem_width must be even with stem='whitened', got {spec.stem_channels}: each filter has "
            "its negative"
        )
    if spec.stem in ("deep", "tiered", "strided") and spec.stem_channels < 8:
        raise UsageError(
            f"ResNetSpec.stem_width must be 8 at least with stem={spec.stem!r}, got {spec.stem_channels}"
        )


def parameters_about(spec: "ResNetSpec") -> int:
    """The parameters of convolutions and heads, within some percent."""
    bottleneck, count = "bottleneck" in spec.block, 0
    for place in (place for places in spec.stages() for place in places):
        if bottleneck:
            count += place.inner * (place.channels + place.out) + 9 * place.inner**2 // spec.groups
        else:
            count += 9 * place.out * (place.channels + place.out)
    classes = sum(classes for _, classes in spec.heads)
    return count + spec.features * spec.hidden + (spec.hidden or spec.features) * classes


def _shown(value: Any) -> str:
    """A stranger's value, short and in one line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
