"""File names as text: what is not UTF-8 has a form that can be stored and shown, and keeps its bytes."""


def displayed(name: str) -> str:
    """A name that any UTF-8 file can hold: each byte that is not UTF-8 (a surrogate in Python) becomes `\\xNN`."""
    return name_bytes(name).decode("utf-8", errors="backslashreplace")


def name_bytes(name: str) -> bytes:
    """The bytes of a name as the file system has them."""
    return name.encode("utf-8", errors="surrogateescape")


def from_bytes(name: bytes) -> str:
    """The Python form of a file system's name; the inverse of `name_bytes`."""
    return name.decode("utf-8", errors="surrogateescape")


def some(names: list[str], limit: int = 3) -> str:
    """Up to `limit` quoted names and how many more there are, for a one-line message; control characters escaped."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(displayed(name)) for name in names[:limit]) + more
