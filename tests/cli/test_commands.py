"""From tokens to values: only what was given by hand, in the types of the dataclass, with errors in our words."""

import dataclasses
from typing import Any, Literal

import pytest

from resnets.base.errors import UsageError
from resnets.base.options import option
from resnets.cli import app
from resnets.cli.commands import VERBS, Argument, Command, options_of, parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int | None = option(None, "passes over the pictures", group="How long")
    weight_decay: float = option(5e-4, "pull towards zero")
    optimizer: Literal["sgd", "adam"] | None = option(None, "how weights change")
    flip: bool | None = option(None, "mirror pictures")
    weights: str | None = option(None, "a file, or none")
    decay_at: tuple[float, ...] = option((0.5, 0.75), "shares of the run")
    track: tuple[str, ...] = option((), "trackers")


COMMAND = Command(
    arguments=(
        Argument(name="model", help="a model"),
        Argument(name="paths", help="pictures", many=True, required=False),
    ),
    options=options_of(Recipe),
    run=lambda given, terminal: 0,
)


def parsed(line: str) -> dict[str, Any]:
    given = parse("predict", COMMAND, line.split())
    assert given is not None
    return given


def refusal(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse("predict", COMMAND, line.split())
    return str(caught.value)


def test_only_what_was_given_by_hand_is_passed_on() -> None:
    assert parsed("m") == {"model": "m"}
    assert parsed("m --weight-decay 5e-4") == {"model": "m", "weight_decay": 5e-4}


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("--epochs 3", {"epochs": 3}),
        ("--epochs=3", {"epochs": 3}),
        ("--weight-decay -1", {"weight_decay": -1.0}),
        ("--optimizer adam", {"optimizer": "adam"}),
        ("--flip", {"flip": True}),
        ("--no-flip", {"flip": False}),
        ("--weights none", {"weights": "none"}),
        ("--decay-at 0.3,0.6", {"decay_at": (0.3, 0.6)}),
        ("--decay-at 0.3 --decay-at 0.6", {"decay_at": (0.3, 0.6)}),
        ("--track wandb --track tensorboard", {"track": ("wandb", "tensorboard")}),
        ("a b", {"paths": ("a", "b")}),
        ("a - b", {"paths": ("a", "-", "b")}),
        ("--epochs 3 -- --epochs", {"epochs": 3, "paths": ("--epochs",)}),
    ],
)
def test_flags_become_values_of_their_field_type(line: str, values: dict[str, Any]) -> None:
    assert parsed("m " + line) == {"model": "m", **values}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "resnets predict needs MODEL; see resnets predict --help"),
        ("m --ecpochs 3", "resnets predict has no option --ecpochs (did you mean --epochs?); see"),
        ("m --ecpochs=3", "resnets predict has no option --ecpochs (did you mean --epochs?); see"),
        ("m -z", "resnets predict has no option -z; see"),
        ("m --epochs", "--epochs needs a value; see"),
        ("m --epochs --flip", "--epochs needs a value; see"),
        ("m --epochs 1.5", "--epochs must be a whole number, got '1.5'"),
        ("m --epochs ten", "--epochs must be a whole number, got 'ten'"),
        ("m --optimizer sdg", "--optimizer must be one of: sgd, adam, got 'sdg' (did you mean sgd?)"),
        ("m --decay-at 0.3,x", "--decay-at must be a list, each a number, got '0.3,x'"),
        ("m --epochs 1 --epochs 2", "--epochs is given twice; keep one of them"),
        ("m --flip=perhaps", "--flip must be true or false, got 'perhaps'"),
    ],
)
def test_a_wrong_use_is_told_in_one_line(line: str, message: str) -> None:
    assert refusal(line).startswith(message)
    assert "\n" not in refusal(line)


def test_an_argument_that_must_be_there_at_least_once_is_asked_for() -> None:
    command = dataclasses.replace(
        COMMAND, arguments=(COMMAND.arguments[0], Argument(name="path", help="pictures", many=True))
    )
    with pytest.raises(UsageError, match="resnets predict needs MODEL PATH; see resnets predict --help"):
        parse("predict", command, ["m"])
    assert parse("predict", command, ["m", "p"]) == {"model": "m", "path": ("p",)}


def test_too_many_arguments_are_named() -> None:
    command = dataclasses.replace(COMMAND, arguments=COMMAND.arguments[:1])
    with pytest.raises(UsageError, match="resnets summary has no use for 'b'; see resnets summary --help"):
        parse("summary", command, ["a", "b"])


def test_help_lists_flags_choices_defaults_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse("predict", COMMAND, ["--help"]) is None
    shown = capsys.readouterr().out
    assert "Usage: resnets predict MODEL [PATHS...] [OPTIONS]" in shown
    for words in (
        "--flip --no-flip",
        "[choices: sgd, adam]",
        "[default: 0.5,0.75]",
        "How long",
        "--weight-decay X",
    ):
        assert words in shown
    assert shown.index("How long") < shown.index("Everywhere") < shown.index("--json")
    assert "--no-json" not in shown


def test_an_unknown_verb_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["trian", "digits"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "resnets: there is no verb named 'trian'; did you mean train? resnets --help lists the verbs\n"
    )


def test_a_flag_before_the_verb_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["--epochs", "3", "train"]) == 2
    assert "the verb comes first" in capsys.readouterr().err


def test_no_verb_is_a_wrong_use_that_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all(verb in printed.err for verb in VERBS)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_the_flags_that_mean_the_same_everywhere(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("--json", "--quiet", "--debug", "--version"):
        assert flag in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_an_unknown_flag_by_name(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app([verb, "a", "b", "--qiuet", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"resnets: resnets {verb} has no option --qiuet (did you mean --quiet?)")
    assert printed.err.count("\n") == 1


def test_the_version_is_answered_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    from resnets import __version__

    assert app(["--version"]) == 0
    assert app(["train", "--version"]) == 0
    assert app(["--version", "--json"]) == 0
    assert (
        capsys.readouterr().out
        == f'resnets {__version__}\nresnets {__version__}\n{{"version": "{__version__}"}}\n'
    )
