"""One definition of an option: a field of a frozen dataclass, from which flag, TOML key, help and record come."""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from resnets.base.errors import UsageError, unknown_name

T = TypeVar("T")


def option(default: Any, help: str, *, group: str = "") -> Any:
    """A dataclass field with its one-line help; None as a default means: chosen, printed and recorded.

    `group` is the heading that the help lists it under.
    """
    return dataclasses.field(default=default, metadata={"help": help, "group": group})


def option_of(kind: type, name: str) -> Any:
    """The field of another dataclass, for a record that has the same option: one definition for both."""
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


def help_of(field: "dataclasses.Field[Any]") -> str:
    return str(field.metadata.get("help", ""))


def group_of(field: "dataclasses.Field[Any]") -> str:
    return str(field.metadata.get("group", ""))


def flag_of(name: str) -> str:
    """`weight_decay` -> `--weight-decay`."""
    return "--" + name.replace("_", "-")


def field_types(kind: type) -> dict[str, Any]:
    """The resolved type of every field."""
    return typing.get_type_hints(kind)


def taken_from(given: dict[str, Any], kind: type[T]) -> T:
    """Build the dataclass `kind` from those of `given` that are its fields; they are taken out of `given`."""
    names = [field.name for field in dataclasses.fields(kind) if field.name in given]  # type: ignore[arg-type]
    return kind(**{name: given.pop(name) for name in names})


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
        if name in given:
            raise UsageError(f"{where}: {key} is given twice, once with '-' and once with '_'; keep one of them")
        plain = tuple(value) if isinstance(value, list) else value
        if isinstance(plain, int) and not isinstance(plain, bool) and not _fits(plain, hints[name]):
            plain = float(plain)  # TOML writes 1 where 1.0 is meant
        if not _fits(plain, hints[name]):
            raise UsageError(f"{where}: {key} must be {describe(hints[name])}, got {value!r}")
        given[name] = plain
    return kind(**given)


def describe(hint: Any) -> str:
    """A type in words, None left out: 'a whole number', 'one of: sgd, adam'."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of: " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(part) for part in arguments if part is not types.NoneType)
    if origin is tuple:
        return f"a list, each {describe(arguments[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, str(hint))


def from_text(hint: Any, text: str) -> Any:
    """One value as a command line gives it; several numbers are divided by commas.

    Raises ValueError where the text is no such value (its message is not meant for users).
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        for choice in arguments:
            if str(choice) == text:
                return choice
        raise ValueError(text)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits([part for part in arguments if part is not types.NoneType], text)
    if origin is tuple:
        parts = [text] if arguments[0] is str else text.split(",")
        return tuple(from_text(arguments[0], part) for part in parts)
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return hint(text)


def _first_that_fits(hints: list[Any], text: str) -> Any:
    for hint in hints:
        with contextlib.suppress(ValueError):
            return from_text(hint, text)
    raise ValueError(text)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)  # True == 1
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(part, arguments[0]) for part in value)
    if hint in (int, float):
        return isinstance(value, hint) and not isinstance(value, bool)
    return isinstance(value, hint)
