"""File names as they are stored: what is not UTF-8 has a form that any file can hold, beside its bytes."""

from resnets.base.text import printable

shown = printable


def displayed(name: str) -> str:
    """A name that any UTF-8 file can hold: each byte that is not UTF-8 (a surrogate in Python) becomes `\\xNN`."""
    return name_bytes(name).decode("utf-8", errors="backslashreplace")


def name_bytes(name: str) -> bytes:
    """The bytes of a name as the file system has them."""
    return name.encode("utf-8", errors="surrogateescape")


def from_bytes(name: bytes) -> str:
    """The Python form of a file system's name; the inverse of `name_bytes`."""
    return name.decode("utf-8", errors="surrogateescape")


def stored(name: str) -> tuple[str, bytes | None]:
    """A name as a table keeps it: its shown form, and its bytes where that is another."""
    text, raw = displayed(name), name_bytes(name)
    return text, None if text.encode() == raw else raw
