"""`docs/networks.md` names every network and every field of a spec."""

import dataclasses

from resnets.networks.spec import ResNetSpec
from resnets.networks.variants import VARIANTS
from tests.docs.pages import DOCS, names_in, rows

PAGE = (DOCS / "networks.md").read_text("utf-8")


def test_every_name_is_in_the_table_once_in_the_order_of_the_list() -> None:
    named = [name for _, names in rows(PAGE, first="family") for name in names_in(names)]
    assert named == list(VARIANTS)


def test_every_field_of_a_spec_is_in_the_table_in_its_order() -> None:
    found = [name for cells in rows(PAGE, first="field") for name in names_in(cells[0])]
    assert sorted(found) == sorted(field.name for field in dataclasses.fields(ResNetSpec))


def test_the_table_states_the_defaults_of_a_spec() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(ResNetSpec)}
    words = {"no": False, "yes": True}
    for names, _, stated in rows(PAGE, first="field"):
        for name, default in zip(names_in(names), stated.split(", "), strict=False):
            shown = default.partition(" (")[0].strip("`")
            real = defaults[name]
            if real is not dataclasses.MISSING and name != "heads":
                assert words.get(shown, shown) == real or shown == f"{real:g}", name
