"""Names are text, never markup: how a stranger's file or class name is shown in a terminal and in a table.

Names that are not UTF-8 carry lone surrogates (PEP 383), one a byte: U+DC80 to U+DCFF.
"""

import unicodedata

# control, format (bidirectional overrides, zero width), surrogate, unassigned and private, line and paragraph ends
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # part of correct spelling in several scripts, and harmless
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  # what spreadsheets take for a formula or skip before one


def printable(text: str) -> str:
    r"""The text with everything that does not show as itself escaped (`\x1b`, `\u202e`); one line, safe in a terminal."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def csv_cell(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it as a formula."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def utf8(text: str) -> str:
    r"""The text with lone surrogates escaped (`\xff`), for files that hold nothing but UTF-8, such as Parquet."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return "".join(_escaped(character) if "\ud800" <= character <= "\udfff" else character for character in text)


def shortened(names: "list[str] | tuple[str, ...]", *, most: int = 5) -> str:
    """Names for one line of a message: the first few, quoted, and how many more there are."""
    shown = ", ".join(f"'{printable(name)}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # the byte that was there
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
