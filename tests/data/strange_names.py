"""A small data set whose file and class names are a stranger's: every verb must show them as text alone."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

MARKUP_CLASS = "<img src=x onerror=alert(1)>&amp;\"'"
BYTES_CLASS = b"caf\xe9 \x1b[31mred"  # Latin-1, not UTF-8, with a terminal's escape sequence

FILE_NAMES: tuple[bytes, ...] = (
    b"=cmd|' C calc'!A0.png",
    b"+1+1.png",
    b"@SUM(1).jpg",
    b"-rf.png",
    b"a\nb.png",
    b"tab\tand\rreturn.png",
    b"\x1b]0;title\x07\x1b[2J.png",
    b'double"quote.png',
    b"it's.jpg",
    b"comma,semicolon;.png",
    b"<script>alert(1)<&>.png",
    b"{{7*7}}${7*7}.png",
    b"%s%n%00.png",
    b"$(touch x)`id`.jpg",
    b"key: [yaml, - !!python].png",
    b" space before and after .png",
    b"#comment.png",
    b"back\\slash\\xff.png",
    "ünï-\u202egnp.exe\u200b.png".encode(),
    "e\u0301-decomposed.png".encode(),
    b"\xff\xfe not utf-8.png",
    b"no ending",
)


def strange_folder(tmp_path: Path) -> Path:
    """`train` (22 pictures a class) and `val` (6 a class) of two classes, 16 x 16 pixels, no two equal.

    On file systems that refuse names that are not UTF-8 those are left out.
    """
    root = tmp_path / "strange <data> & 'names'"
    chance = np.random.default_rng(0)
    for part, names in (("train", FILE_NAMES), ("val", FILE_NAMES[:5] + FILE_NAMES[-2:-1])):
        for base, folder in ((40, MARKUP_CLASS.encode()), (160, BYTES_CLASS)):
            for name in names:
                pixels = chance.integers(base, base + 60, (16, 16, 3), dtype=np.uint8)
                _save(Image.fromarray(pixels), os.fsencode(root / part), folder, name)
    return root


def _save(picture: Image.Image, part: bytes, folder: bytes, name: bytes) -> None:
    try:
        os.makedirs(os.path.join(part, folder), exist_ok=True)
    except OSError:
        folder = folder.decode("latin-1").encode()
        os.makedirs(os.path.join(part, folder), exist_ok=True)
    try:
        with open(os.path.join(part, folder, name), "wb") as handle:
            picture.save(handle, "JPEG" if name.endswith(b"jpg") else "PNG")
    except OSError:
        if name.isascii():
            raise
