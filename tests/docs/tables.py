"""Tables of the pages that are made from the code: `python -m tests.docs.tables` writes all made parts anew."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import resnets
from resnets.base.options import describe, field_types, flag_of, group_of, help_of
from resnets.data.sources.digits import DigitsSource
from resnets.data.sources.named import CATALOGUE
from resnets.training.config import TrainConfig
from resnets.training.recipes import Facts, default_momentum, default_rate, default_weight_decay, recipe
from resnets.understanding.doctor.finding import KINDS
from tests.docs.pages import PAGES, made, replace_made, table
from tests.docs.samples import EXAMPLES, example, make_samples

COUNTED = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet50_v1", "resnet101_v1", "resnet152_v1"),
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
)
RECIPES = {  # heading -> what a column's defaults are chosen by
    "up to 64 px, under 5,000": Facts(pictures=4_999, size=(64, 64)),
    "up to 32 px, from 20,000": Facts(pictures=20_000, size=(32, 32)),
    "up to 64 px, from 5,000": Facts(pictures=5_000, size=(64, 64)),
    "larger, under 5,000": Facts(pictures=4_999, size=(65, 65)),
    "larger, from 5,000": Facts(pictures=5_000, size=(65, 65)),
    "from weights": Facts(pictures=4_999, size=(224, 224), pretrained=True),
}


def options() -> str:
    """Every option of `resnets train`, in groups."""
    hints = field_types(TrainConfig)
    groups: dict[str, list[list[str]]] = {}
    for field in dataclasses.fields(TrainConfig):
        values = describe(hints[field.name])
        cells = [f"`{flag_of(field.name)}`", values, shown_default(field.default), help_of(field)]
        groups.setdefault(group_of(field), []).append(cells)
    headings = ["option", "value", "default", "what it does"]
    return "\n\n".join(f"### {name}\n\n{table(headings, lines)}" for name, lines in groups.items())


def shown_default(default: object) -> str:
    """None is chosen by the plan, or off."""
    if default is None:
        return "chosen"
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ", ".join(map(str, default)) or "none"
    return str(default)


def recipes() -> str:
    """What is chosen by the pictures' size and number."""
    columns = []
    for facts in RECIPES.values():
        values, _ = recipe(facts)
        kind, fixed = values["optimizer"], values["fixed_norm"]
        values |= {
            "lr": default_rate(kind, values["batch"], pretrained=facts.pretrained, fixed_norm=fixed),
            "momentum": default_momentum(fixed_norm=fixed),
            "weight_decay": default_weight_decay(kind, facts, fixed_norm=fixed),
        }
        columns.append(values)
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [[f"`{name}`", *(_number(column.get(name)) for column in columns)] for name in names]
    return table(["default", *RECIPES], lines)


def _number(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def counts() -> str:
    """Parameters and multiply-adds, as `resnets summary NAME` has them."""
    lines = []
    for name in COUNTED:
        found = resnets.summary(name)
        size = "×".join(map(str, found.size))
        lines.append([f"`{name}`", size, f"{found.parameters:,}", f"{found.multiply_adds:,}"])
    return table(["network", "picture", "parameters", "multiply-adds"], lines)


def named_data() -> str:
    """The data sets by name: what is downloaded for each."""
    lines = [[f"`{DigitsSource.name}`", "nothing: it comes with scikit-learn", "0", ""]]
    for name, row in CATALOGUE.items():
        twin = next(first for first, same in CATALOGUE.items() if same == row)
        what = f"the same as `{twin}`" if twin != name else _files(row.layout, len(row.files))
        size = f"{sum(file.size for file in row.files) / 1e6:,.0f}"
        host = row.files[0].url.split("/")[2]
        lines.append([f"`{name}`", what, size, host])
    return table(["name", "files", "MB", "from"], lines)


def _files(layout: str, count: int) -> str:
    kinds = {"idx": f"{count} IDX files", "folder": "an archive of class folders"}
    return kinds.get(layout, "an archive of binary records")


def findings() -> str:
    """What the doctor can find."""
    lines = [[f"`{name}`", kind.says, "yes" if kind.pictures else ""] for name, kind in KINDS.items()]
    return table(["finding", "what it is", "can be left out"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "options": options,
    "recipes": recipes,
    "counts": counts,
    "named-data": named_data,
    "findings": findings,
}


def main() -> None:
    """Write every made part of every page anew."""
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(Path(folder))
        for page in PAGES:
            for name in made(page):
                replace_made(page, name, example(name, samples) if name in EXAMPLES else TABLES[name]())


if __name__ == "__main__":
    main()
