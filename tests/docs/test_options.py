"""The options in `docs/training.md` are those of `TrainConfig`, and what it says of them holds."""

import dataclasses
from pathlib import Path

import pytest

import resnets
from resnets.base.errors import UsageError
from resnets.base.options import flag_of, help_of
from resnets.training.config import RESUMABLE, TrainConfig, read_config
from resnets.training.resume import refuse_other_options
from tests.docs.pages import DOCS, names_in, rows

PAGE = DOCS / "training.md"


def documented() -> dict[str, list[str]]:
    """Flag -> value, default, what it does."""
    return {names_in(flag)[0]: cells for flag, *cells in rows(PAGE.read_text("utf-8"), first="option")}


def test_every_option_is_in_the_table_once_and_nothing_else_is() -> None:
    flags = [names_in(cells[0])[0] for cells in rows(PAGE.read_text("utf-8"), first="option")]
    assert flags == [flag_of(field.name) for field in dataclasses.fields(TrainConfig)]


@pytest.mark.parametrize("field", dataclasses.fields(TrainConfig), ids=lambda field: field.name)
def test_the_table_says_what_an_option_takes_and_does(field: "dataclasses.Field[object]") -> None:
    value, default, help = documented()[flag_of(field.name)]
    assert help == help_of(field)
    for choice in ("sgd", "cosine", "pad-crop", "randaugment", "grey"):
        assert (choice in value) == (choice in str(field.type))
    if field.default is None:
        assert default == "chosen"
    elif isinstance(field.default, int | float | str) and not isinstance(field.default, bool):
        assert default == str(field.default)


def test_resume_takes_the_options_that_the_page_names() -> None:
    sentence = next(line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("`--resume` takes"))
    named = {name for name in names_in(sentence.partition(";")[0]) if name != "--resume"}
    assert named == {flag_of(name) for name in RESUMABLE}
    refuse_other_options(TrainConfig(epochs=3, threads=1, exact=True))
    with pytest.raises(UsageError, match="--lr cannot be given with --resume"):
        refuse_other_options(TrainConfig(lr=0.1))


def test_a_config_file_takes_the_keys_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('data = "digits"\nepochs = 3\nweight_decay = 0.001\n"label-smoothing" = 0.1\n')
    assert read_config(path) == ("digits", {"epochs": 3, "weight_decay": 0.001, "label_smoothing": 0.1})
    assert resnets.TrainConfig(**read_config(path)[1]).weight_decay == 0.001
