"""Names are text, never markup: how a stranger's file or class name is shown in a terminal and in a table.

Names that are not UTF-8 carry lone surrogates (PEP 383), one a byte: U+DC80 to U+DCFF.
"""

import unicodedata
from collections.abc import Sequence

# control, format (bidirectional overrides, zero width), surrogate, unassigned and private, line and paragraph ends
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # part of correct spelling in several scripts, and harmless
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  # what spreadsheets take for a formula or skip before one


def printable(text: str) -> str:
    r"""The text in one line that is safe in a terminal: what does not show as itself is escaped (`\x1b`)."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def csv_cell(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it as a formula."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `2,000 epochs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def some(names: Sequence[str], limit: int = 3) -> str:
    """Names for one line of a message: up to `limit` of them, quoted, and how many more there are."""
    quoted = ", ".join(f"'{printable(name)}'" for name in names[:limit])
    return quoted if len(names) <= limit else f"{quoted} and {len(names) - limit} more"


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # the byte that was there
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
