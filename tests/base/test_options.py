"""One definition of an option: flags, TOML tables and their errors come from dataclass fields."""

import dataclasses
import tomllib
from typing import Any, Literal

import pytest

from resnets.base.errors import UsageError
from resnets.base.options import describe, flag_of, from_mapping, from_text, group_of, help_of, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int | None = option(None, "how often every picture is seen", group="How long")
    weight_decay: float = option(5e-4, "pull of the weights towards zero")
    optimizer: Literal["sgd", "adam"] = option("sgd", "how weights are changed")
    stages: Literal[1, 2] = option(1, "how many stages")
    flip: bool | None = option(None, "mirror pictures")
    track: tuple[str, ...] = option((), "trackers")


def test_a_field_carries_its_default_and_help() -> None:
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    assert help_of(fields["weight_decay"]) == "pull of the weights towards zero"
    assert group_of(fields["epochs"]) == "How long"
    assert group_of(fields["flip"]) == ""
    assert Recipe() == from_mapping(Recipe, {}, where="x")


def test_a_field_name_becomes_a_flag() -> None:
    assert flag_of("weight_decay") == "--weight-decay"


def test_a_toml_table_becomes_the_record() -> None:
    table = tomllib.loads("""
        epochs = 3
        weight-decay = 1
        optimizer = "adam"
        flip = false
        track = ["wandb", "tensorboard"]
    """)
    recipe = from_mapping(Recipe, table, where="run.toml")
    assert recipe == Recipe(
        epochs=3, weight_decay=1.0, optimizer="adam", flip=False, track=("wandb", "tensorboard")
    )
    assert isinstance(recipe.weight_decay, float)


def test_an_unknown_key_gets_the_nearest_and_its_file() -> None:
    with pytest.raises(
        UsageError, match=r"no option in run\.toml named 'wieght_decay'; did you mean weight_decay"
    ):
        from_mapping(Recipe, {"wieght_decay": 1.0}, where="run.toml")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epochs", "three", "a whole number"),
        ("epochs", 1.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("weight_decay", "much", "a number"),
        ("weight_decay", True, "a number"),
        ("optimizer", "sdg", "one of: sgd, adam"),
        ("optimizer", ["sgd"], "one of: sgd, adam"),
        ("stages", True, "one of: 1, 2"),
        ("flip", 1, "true or false"),
        ("flip", {"yes": True}, "true or false"),
        ("track", "wandb", "a list, each text"),
        ("track", ["wandb", 3], "a list, each text"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_is_wanted_and_what_came(key: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_mapping(Recipe, {key: value}, where="run.toml")
    assert str(caught.value) == f"run.toml: {key} must be {expected}, got {value!r}"


def test_a_key_written_in_both_ways_is_refused() -> None:
    with pytest.raises(UsageError, match=r"run\.toml: weight-decay is given twice"):
        from_mapping(Recipe, {"weight_decay": 1.0, "weight-decay": 2.0}, where="run.toml")


def test_types_are_described_in_words() -> None:
    assert describe(int | None) == "a whole number"
    assert describe(int | str) == "a whole number or text"
    assert describe(tuple[float, ...]) == "a list, each a number"


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int | None, "30", 30),
        (float | None, "1e-3", 1e-3),
        (float, "3", 3.0),
        (str | None, "none", "none"),
        (bool | None, "false", False),
        (int | str, "3", 3),
        (int | str, "three", "three"),
        (Literal["sgd", "adam"] | None, "adam", "adam"),
        (Literal[1, 2], "2", 2),
        (tuple[float, ...], "0.5, 0.75", (0.5, 0.75)),
        (tuple[str, ...], "a,b", ("a,b",)),
    ],
)
def test_text_becomes_the_value_that_its_type_asks_for(hint: Any, text: str, value: Any) -> None:
    result = from_text(hint, text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int | None, "1.5"),
        (int, "many"),
        (float, ""),
        (bool, "maybe"),
        (Literal["sgd"], "sdg"),
        (int | None, "none"),
    ],
)
def test_text_that_is_no_such_value_is_refused(hint: Any, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the caller says what is wrong
        from_text(hint, text)
