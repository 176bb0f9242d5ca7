"""One definition of an option: a field of a frozen dataclass, from which flag, TOML key, help and record come."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from resnets.base.errors import UsageError, unknown_name

T = TypeVar("T")


def option(default: Any, help: str) -> Any:
    """A dataclass field with its one-line help; None as a default means: chosen, printed and recorded."""
    return dataclasses.field(default=default, metadata={"help": help})


def help_of(field: "dataclasses.Field[Any]") -> str:
    return str(field.metadata.get("help", ""))


def flag_of(name: str) -> str:
    """`weight_decay` -> `--weight-decay`."""
    return "--" + name.replace("_", "-")


def field_types(kind: type) -> dict[str, Any]:
    """The resolved type of every field."""
    return typing.get_type_hints(kind)


def from_mapping(kind: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Build the dataclass `kind` from names and values, such as a TOML table; a wrong name or type is an error.

    Lists become tuples. Names may be written with `-` or `_`.
    """
    hints = field_types(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            raise unknown_name(f"option in {where}", key, known, list_all=f"known: {', '.join(known)}")
        plain = tuple(value) if isinstance(value, list) else value
        if isinstance(plain, int) and not isinstance(plain, bool) and not _fits(plain, hints[name]):
            plain = float(plain)  # TOML writes 1 where 1.0 is meant
        if not _fits(plain, hints[name]):
            raise UsageError(f"{where}: {key} must be {describe(hints[name])}, got {value!r}")
        given[name] = plain
    return kind(**given)


def describe(hint: Any) -> str:
    """A type in words: 'a whole number or none', 'one of: sgd, adam'."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of: " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(part) for part in arguments if part is not types.NoneType)
    if origin is tuple:
        return "a list"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, str(hint))


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is tuple:
        return isinstance(value, tuple)
    if hint in (int, float):
        return isinstance(value, hint) and not isinstance(value, bool)
    return isinstance(value, hint)
