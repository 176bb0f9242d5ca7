"""From a verb's arguments and options to values: the only module that knows cyclopts.

A verb's file holds a `COMMAND`. Options come from the fields of the dataclass that the verb's function takes
(`options_of`); only what was given by hand is passed on, so that every default stays with the function.
"""

import dataclasses
import difflib
import functools
import importlib
import inspect
import operator
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cyclopts import App, Group, Parameter
from cyclopts import exceptions as cyclopts_errors

from resnets.base.errors import UsageError, unknown_name
from resnets.base.options import describe, field_types, flag_of, from_text, group_of, help_of
from resnets.base.world import world
from resnets.cli.terminal import Terminal

VERBS = {
    "train": "Train a residual network on pictures.",
    "evaluate": "Measure a model on pictures whose classes are known.",
    "predict": "Say what is on pictures.",
    "embed": "Write the features that a network has of pictures, one row a file.",
    "inspect": "Say what is wrong with pictures and labels, before a run is spent on them.",
    "shards": "Write a data set as WebDataset shards: tar files that are read from end to end.",
    "models": "List the networks that can be built by name.",
    "summary": "Show a network layer by layer: output sizes, parameters, multiply-adds.",
    "bench": "Measure this machine: products, memory, decoding, and a training step beside a plain loop's.",
}
TOGETHER = ("train", "predict", "evaluate", "embed")  # what several processes, started by torchrun, do together
GLOBAL = "Everywhere"
METAVARS = {int: "N", float: "X", str: "TEXT", tuple[float, ...]: "X,X", tuple[str, ...]: "TEXT"}
STDIN = "\0-"  # what a lone `-` is while cyclopts parses, which takes it for an option; no argument can hold a NUL


@dataclass(frozen=True, kw_only=True)
class Argument:
    """A positional argument; `many` takes all that follow."""

    name: str
    help: str
    required: bool = True
    many: bool = False


@dataclass(frozen=True, kw_only=True)
class Option:
    """A flag: `name` is the parameter it sets, `hint` its type; `default` is only shown.

    negatable: there is a --no-NAME as well.
    """

    name: str
    hint: Any
    help: str
    group: str = "Options"
    default: str = ""
    metavar: str = ""
    negatable: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a verb takes, and the function that runs it with what was given: (values, terminal) -> exit status."""

    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    details: str = ""
    examples: tuple[str, ...] = ()
    run: Callable[[dict[str, Any], Terminal], int]


EVERYWHERE = (
    Option(name="json", hint=bool, help="print JSON on stdout, and nothing else there", group=GLOBAL),
    Option(name="quiet", hint=bool, help="print no progress and no warnings", group=GLOBAL),
    Option(name="debug", hint=bool, help="show the traceback of an error", group=GLOBAL),
    Option(name="version", hint=bool, help="print the version", group=GLOBAL),
)


def options_of(kind: type) -> tuple[Option, ...]:
    """One option a field of a dataclass made with `resnets.base.options.option`."""
    hints = field_types(kind)
    return tuple(
        Option(
            name=field.name,
            hint=hints[field.name],
            help=help_of(field),
            group=group_of(field) or "Options",
            default=_shown(field.default),
            negatable=_without_none(hints[field.name]) is bool,
        )
        for field in dataclasses.fields(kind)
    )


def dispatch(argv: list[str]) -> int:
    """Run the verb that `argv` begins with; the exit status. Raises UsageError for a wrong use."""
    leading = _leading_flags(argv)
    verb, *tokens = argv[len(leading) :] or [""]
    if verb in ("", "--help", "-h"):
        return _general_help(as_asked=verb != "")
    if verb.startswith("-"):
        raise UsageError(f"the verb comes first, then {verb}: resnets VERB {verb}; resnets --help lists the verbs")
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS, list_all="resnets --help lists the verbs")
    here = world()
    if here.size > 1 and verb not in TOGETHER:
        raise UsageError(f"resnets {verb} is for one process; start it without torchrun")
    command: Command = importlib.import_module(f"resnets.cli.{verb}").COMMAND
    given = parse(verb, command, leading + tokens)
    if given is None:
        return 0  # help was shown
    flags = {option.name: bool(given.pop(option.name, False)) for option in EVERYWHERE}
    quiet = flags["quiet"] or not here.leads
    with Terminal(json=flags["json"], quiet=quiet, debug=flags["debug"]) as terminal:
        return command.run(given, terminal)


def parse(verb: str, command: Command, tokens: Sequence[str]) -> dict[str, Any] | None:
    """What was given by hand, by name; None if help was asked for and shown. Raises UsageError."""
    options = (*command.options, *EVERYWHERE)
    app = _application(f"resnets {verb}", help=f"{VERBS[verb]} {command.details}", examples=command.examples)
    app.usage = " ".join(["Usage: resnets", verb, *map(_placeholder, command.arguments), "[OPTIONS]"])
    function = _as_function(verb, command.arguments, options)
    app.default(function)
    shielded = [STDIN if token == "-" else token for token in tokens]
    try:
        called, bound, _ = app.parse_args(shielded, exit_on_error=False, print_error=False)
    except cyclopts_errors.CycloptsError as error:
        raise _as_usage_error(verb, command.arguments, options, error) from error
    if called is not function:
        called(*bound.args, **bound.kwargs)
        return None
    return {name: _unshielded(value) for name, value in bound.arguments.items()}


def _leading_flags(argv: Sequence[str]) -> list[str]:
    """The global flags before the verb; they mean the same after it."""
    names = {flag_of(option.name) for option in EVERYWHERE}
    count = next((place for place, token in enumerate(argv) if token not in names), len(argv))
    return list(argv[:count])


def _general_help(*, as_asked: bool) -> int:
    """The list of verbs: on stdout when asked for, else on stderr, as a verb is missing."""
    app = _application(
        "resnets", help="Residual networks, from a folder of pictures to a model file that predicts."
    )
    for place, (verb, summary) in enumerate(VERBS.items()):
        app.command(_as_function(verb, (), ()), name=verb, help=summary, sort_key=place)
    app.default(_as_function("resnets", (), EVERYWHERE))
    if as_asked:
        app.help_print([])
        return 0
    app.help_print([], console=app.error_console)
    return UsageError.exit_status


def _application(name: str, *, help: str, examples: Sequence[str] = ()) -> App:
    epilogue = "\n".join(["Examples:", *(f"  {example}" for example in examples)]) if examples else None
    app = App(
        name=name,
        help=help,
        version_flags=[],
        help_format="plaintext",
        help_epilogue=epilogue,
        result_action="return_value",
    )
    app["--help"].group = (Group(GLOBAL, sort_key=1000),)
    app["--help"].help = "show this help"
    return app


def _as_function(verb: str, arguments: Sequence[Argument], options: Sequence[Option]) -> Callable[..., None]:
    """A function with the signature that cyclopts reads: positional arguments, then flags."""

    def function(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("only its signature is used")

    names = dict.fromkeys(option.group for option in options)  # in order of first mention; GLOBAL ends every list
    groups = {name: Group(name, sort_key=1000 if name == GLOBAL else place) for place, name in enumerate(names)}
    parameters = [_positional(argument) for argument in arguments]
    parameters += [_keyword(option, groups[option.group]) for option in options]
    function.__name__ = verb
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def _positional(argument: Argument) -> inspect.Parameter:
    kind = inspect.Parameter.VAR_POSITIONAL if argument.many else inspect.Parameter.POSITIONAL_ONLY
    kind_of_text: Any = str if argument.required or argument.many else str | None
    hint = typing.Annotated[kind_of_text, Parameter(help=argument.help, required=argument.required)]
    default = inspect.Parameter.empty if argument.required or argument.many else None
    return inspect.Parameter(argument.name, kind, default=default, annotation=hint)


def _keyword(option: Option, group: Group) -> inspect.Parameter:
    hint = _without_none(option.hint)
    parameter = Parameter(
        name=flag_of(option.name),
        help=option.help,
        group=group,
        show_default=option.default or False,
        negative=None if option.negatable else (),
        metavar=option.metavar or METAVARS.get(hint),
        converter=None if hint is bool else _converter(option),
    )
    # None is what is not given; once pydantic is imported, by a tracker say, cyclopts checks defaults by the hint
    annotation: Any = typing.Annotated[hint | None, parameter]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _placeholder(argument: Argument) -> str:
    name = argument.name.upper() + ("..." if argument.many else "")
    return name if argument.required else f"[{name}]"


def _converter(option: Option) -> Callable[[Any, Sequence[Any]], Any]:
    """cyclopts would round 1.5 to a whole number and read `none` as None; ours is strict, with our message."""

    def convert(_: Any, tokens: Sequence[Any]) -> Any:
        values = []
        for token in tokens:
            text = _unshielded(token.value)
            try:
                values.append(from_text(option.hint, text))
            except ValueError as error:
                near = _did_you_mean(text, typing.get_args(_without_none(option.hint)))
                raise UsageError(
                    f"{flag_of(option.name)} must be {describe(option.hint)}, got {text!r}{near}"
                ) from error
        return sum(values, ()) if isinstance(values[0], tuple) else values[-1]

    return convert


def _as_usage_error(
    verb: str, arguments: Sequence[Argument], options: Sequence[Option], error: cyclopts_errors.CycloptsError
) -> UsageError:
    """cyclopts' errors in our words, one line each."""
    see = f"see resnets {verb} --help"
    match error:
        case cyclopts_errors.UnknownOptionError():
            flag = (error.token.keyword or error.token.value).partition("=")[0]
            known = [flag_of(option.name) for option in options]
            return UsageError(f"resnets {verb} has no option {flag}{_did_you_mean(flag, known)}; {see}")
        case cyclopts_errors.CoercionError() if isinstance(error.__cause__, UsageError):
            return error.__cause__
        case cyclopts_errors.CoercionError() if error.token is not None and error.token.keyword:
            return UsageError(f"{error.token.keyword} must be true or false, got {error.token.value!r}; {see}")
        case cyclopts_errors.RepeatArgumentError():
            return UsageError(f"{error.token.keyword} is given twice; keep one of them")
        case cyclopts_errors.MissingArgumentError() if error.keyword is not None:
            return UsageError(f"{error.keyword} needs a value; {see}")
        case cyclopts_errors.MissingArgumentError():
            needed = " ".join(argument.name.upper() for argument in arguments if argument.required)
            return UsageError(f"resnets {verb} needs {needed}; {see}")
        case cyclopts_errors.UnusedCliTokensError():
            extra = _unshielded(error.unused_tokens[0]) if error.unused_tokens else ""
            return UsageError(f"resnets {verb} has no use for {extra!r}; {see}")
    error.verbose = False
    return UsageError(f"{' '.join(str(error).split())} {see}")


def _did_you_mean(text: str, known: Iterable[Any]) -> str:
    near = difflib.get_close_matches(text, [str(name) for name in known], n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _unshielded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_unshielded, value))
    return "-" if value == STDIN else value


def _without_none(hint: Any) -> Any:
    parts = tuple(part for part in typing.get_args(hint) if part is not type(None))
    return hint if len(parts) == len(typing.get_args(hint)) else functools.reduce(operator.or_, parts)


def _shown(default: Any) -> str:
    """A default as the help shows it; nothing for what is chosen or off."""
    if default is None or default is False or default == ():
        return ""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "yes" if default is True else str(default)
