"""The table of `docs/deep-dive.md` is what its commands resolve to for data like Imagenette."""

import importlib
import io
import shlex
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnets.cli.commands import parse
from resnets.data.dataset import Data, open_data
from resnets.data.source import TRAIN, VAL, Listing
from resnets.data.sources.named import CATALOGUE
from resnets.labels import LABEL, Head
from resnets.training.config import TrainConfig
from resnets.training.plan import make_plan
from tests.docs.pages import DOCS, blocks, names_in, rows

PAGE = DOCS / "deep-dive.md"
TRAINING, VALIDATION = 9_469, 20  # pictures: Imagenette's, and enough
SHORT = {"track"}  # given in the commands and told beside the table


class LikeImagenette:
    """As many training pictures as Imagenette has, of its size and classes, and every one a blank of its own."""

    name, origin = "imagenette", "blank pictures"
    traits = CATALOGUE["imagenette"].traits

    def __init__(self) -> None:
        stream = io.BytesIO()
        Image.new("RGB", (426, 320)).save(stream, "PNG")
        self.blank = stream.getvalue()

    def listing(self) -> Listing:
        count = TRAINING + VALIDATION
        return Listing(
            paths=[f"{row:05d}.png" for row in range(count)],
            heads={LABEL: Head(ids=tuple(CATALOGUE["imagenette"].class_names))},
            labels={LABEL: np.arange(count) % 10},
            parts=[TRAIN] * TRAINING + [VAL] * VALIDATION,
        )

    def address(self) -> None:
        return None

    def read(self, row: int) -> bytes:
        return self.blank + str(row).encode()


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(LikeImagenette())


def commands() -> list[dict[str, Any]]:
    """The options of the page's three commands: the short one, the literal one, ours."""
    lines = [block.text.replace("\\\n", " ") for block in blocks(PAGE) if block.kind == "sh"][:3]
    command = importlib.import_module("resnets.cli.train").COMMAND
    return [parse("train", command, shlex.split(line)[2:]) or {} for line in lines]


def resolved(options: dict[str, Any], data: Data) -> dict[str, str]:
    """Option -> its value as the table writes it."""
    config = TrainConfig(**{name: value for name, value in options.items() if name != "data"})
    plan = make_plan(config, data, measure=lambda _: pytest.fail("nothing is to be measured"))
    return {name: shown(value) for name, value in vars(plan.config).items()}


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def test_the_short_command_is_the_one_that_is_promised() -> None:
    asked, _, ours = commands()
    assert asked == {
        "data": "imagenette",
        "model": "resnet34",
        "stem": "small",
        "optimizer": "adam",
        "epochs": 10,
        "resize": "squash",
        "normalize": "half",
        "track": ("wandb",),
    }
    assert ours == {"data": "imagenette"}


def test_the_table_has_what_the_three_commands_resolve_to(data: Data) -> None:
    short, literal, ours = (resolved(options, data) for options in commands())
    table = {names_in(cells[0])[0]: cells[1:4] for cells in rows(PAGE.read_text("utf-8"), first="option")}
    for name, cells in table.items():
        assert cells == [literal[name], short[name], ours[name]], name


def test_the_table_has_every_option_in_which_the_commands_differ(data: Data) -> None:
    short, literal, ours = (resolved(options, data) for options in commands())
    machine = {"precision", "threads", "device"}
    beside = {"scale", "recalibrate"}  # they follow from others in the table
    differing = {name for name in ours if len({short[name], literal[name], ours[name]}) > 1}
    table = {names_in(cells[0])[0] for cells in rows(PAGE.read_text("utf-8"), first="option")}
    assert differing - machine - beside - SHORT == table
