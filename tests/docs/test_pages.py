"""Every page of `docs/`: its code prints what stands below it, and its commands, links and tables are right."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from resnets.cli.commands import VERBS, parse
from resnets.training.config import TrainConfig
from tests.docs.pages import PAGES, ROOT, Block, blocks, fits, made
from tests.docs.samples import EXAMPLES, command, inside
from tests.docs.tables import TABLES

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
every_table = pytest.mark.parametrize(
    ("page", "name"),
    [(page, name) for page in PAGES for name in made(page) if name not in EXAMPLES],
    ids=lambda value: value if isinstance(value, str) else value.stem,
)


@every_page
def test_the_code_of_a_page_gives_what_stands_below_it(page: Path, tmp_path: Path) -> None:
    found = blocks(page)
    names: dict[str, Any] = {"__name__": "__main__"}
    with inside(tmp_path):
        for block, following in zip(found, [*found[1:], None], strict=False):
            where = f"{page.name}:{block.line}"
            if block.kind == "console":
                check_console(block, where)
            if block.kind == "python":
                printed = run_python(block, names, where)
                expected = following.text if following is not None and following.kind == "text" else ""
                assert fits(expected, printed), f"{where} prints\n{printed}\nand the page shows\n{expected}"


def run_python(block: Block, names: dict[str, Any], where: str) -> str:
    """What a block prints; `names` are those of the page so far."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        exec(compile("\n" * block.line + block.text, where, "exec"), names)
    return stream.getvalue()


def check_console(block: Block, where: str) -> None:
    """Run each line after `$ `, and compare what it says with the lines up to the next."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == "resnets", f"{where}: only resnets is run here, not {program}"
        _, said = command(*arguments, errors=True)
        assert fits(expected, said), f"{where}: {line}\nsays\n{said}\nand the page shows\n{expected}"


@every_page
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    for block in blocks(page):
        if block.kind != "sh":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["resnets"]:
                continue
            verb, *rest = words[1:]
            assert verb in VERBS, f"{page.name}:{block.line}: {line}"
            given = parse(verb, importlib.import_module(f"resnets.cli.{verb}").COMMAND, rest)
            assert given is not None, line
            if verb == "train":
                options = {name: value for name, value in given.items() if name in TrainConfig.__annotations__}
                TrainConfig(**options)


@every_page
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(place), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """What headings can be linked by: small letters, spaces as dashes, no other signs."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_table
def test_a_table_of_a_page_is_what_the_code_says(page: Path, name: str) -> None:
    assert made(page)[name] == TABLES[name](), "write it anew: python -m tests.docs.tables"


def test_the_readme_links_every_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    pages = [page.relative_to(ROOT).as_posix() for page in PAGES]
    assert [page for page in pages if f"({page})" not in readme] == []


def test_a_page_that_shows_another_output_would_be_found() -> None:
    assert fits("a … c\n", "a b c")
    assert not fits("a … c\n", "a b d")
