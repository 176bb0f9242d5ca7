"""The pages of `docs/` as tests read them: blocks in fences, tables, and parts that are made from the code.

A part that is made from the code stands between `<!-- made: NAME -->` and `<!-- end -->`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

ANYTHING = "…"  # in an expected output: whatever stands there
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE = re.compile(r"<!-- made: ([\w-]+) -->\n(.*?)\n<!-- end -->", re.DOTALL)
_CELL = re.compile(r"(?<!\\)\|")  # a bar that is not escaped


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: `kind` is the word after the fence, `line` where the fence stands."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(kind=found[1], text=found[2], line=text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def made(page: Path) -> dict[str, str]:
    """The parts that are made from the code, by name."""
    return {found[1]: found[2] for found in _MADE.finditer(page.read_text("utf-8"))}


def replace_made(page: Path, name: str, text: str) -> None:
    """Write a part that is made from the code anew."""
    before = page.read_text("utf-8")
    start, end = f"<!-- made: {name} -->\n", "\n<!-- end -->"
    head, tail = before.split(start)
    page.write_text(head + start + text + end + tail.split(end, 1)[1], "utf-8")


def rows(text: str, *, first: str) -> list[list[str]]:
    """The cells of every table in `text` whose first heading is `first`, without the headings."""
    found: list[list[str]] = []
    wanted = False
    for line in text.splitlines():
        if not line.startswith("|"):
            wanted = False
            continue
        cells = [cell.strip() for cell in _CELL.split(line.strip()[1:-1])]
        if cells[0] == first:
            wanted = True
        elif wanted and set(line) - set("|-: "):
            found.append(cells)
    return found


def names_in(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def fits(expected: str, output: str) -> bool:
    """Whether an output is what a page shows, where `…` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split(ANYTHING))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def table(headings: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [headings, ["---"] * len(headings), *escaped])


def pretty(value: Any, *, indent: int = 0, before: int = 0, width: int = 100) -> str:
    """JSON with one line for what fits into it behind `before` letters."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent + before <= width or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + 2
    if isinstance(value, dict):
        keys = [json.dumps(key) + ": " for key in value]
        parts = [
            key + pretty(part, indent=inner, before=len(key))
            for key, part in zip(keys, value.values(), strict=True)
        ]
    else:
        parts = [pretty(part, indent=inner) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = ",\n".join(" " * inner + part for part in parts)
    return f"{opening}\n{lines}\n{' ' * indent}{closing}"
