"""File names as text: what is not UTF-8 has a form that can be stored, and nothing that a terminal would obey."""


def displayed(name: str) -> str:
    """A name that any UTF-8 file can hold: each byte that is not UTF-8 (a surrogate in Python) becomes `\\xNN`."""
    return name_bytes(name).decode("utf-8", errors="backslashreplace")


def name_bytes(name: str) -> bytes:
    """The bytes of a name as the file system has them."""
    return name.encode("utf-8", errors="surrogateescape")


def from_bytes(name: bytes) -> str:
    """The Python form of a file system's name; the inverse of `name_bytes`."""
    return name.decode("utf-8", errors="surrogateescape")


def shown(name: str) -> str:
    """A name for a message or a terminal: control characters, and those that turn writing round, are escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in displayed(name))


def some(names: list[str], limit: int = 3) -> str:
    """Up to `limit` names in quotes, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{shown(name)}'" for name in names[:limit]) + more
