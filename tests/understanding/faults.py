"""Two thousand small pictures of which a few are not as they should be, and what the doctor is to say of each."""

import io
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24
CLASSES = ("ant", "bee", "Cat", "cat", "1", "01")
TRAIN, VAL = 280, 52  # pictures of each class
ALONE = "rare"  # a class of a few training pictures, and none for validation


@dataclass
class Planted:
    """kinds: kind of finding -> paths below the root, or classes. good: paths of which nothing is to be said."""

    root: Path
    kinds: dict[str, set[str]] = field(default_factory=dict)
    good: set[str] = field(default_factory=set)

    def plant(self, kind: str, *paths: str) -> None:
        self.kinds.setdefault(kind, set()).update(paths)
        self.good -= set(paths)


def picture(chance: np.random.Generator, side: int = SIDE) -> Image.Image:
    """Coloured clouds, of which no two are alike."""
    coarse = Image.fromarray(chance.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plant_faults(root: Path) -> Planted:
    chance = np.random.default_rng(7)
    planted = Planted(root)
    for part, count in (("train", TRAIN), ("val", VAL)):
        for name in CLASSES:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number:03}.png").write_bytes(encoded(picture(chance), compress_level=1))
                planted.good.add(f"{part}/{name}/{number:03}.png")
    places = iter(sorted(path for path in planted.good if path.startswith("train/")))
    _damaged(planted, chance, places)
    _unlike(planted, chance, places)
    _copies(planted, chance, places)
    _around(planted, chance)
    return planted


def _write(planted: Planted, path: str, content: bytes) -> str:
    place = planted.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return path


def _damaged(planted: Planted, chance: np.random.Generator, places: Iterator[str]) -> None:
    jpeg, png = encoded(picture(chance), "JPEG"), encoded(picture(chance))
    for content in (b"", b""):
        planted.plant("empty", _write(planted, next(places), content))
    large = encoded(picture(chance, 20 * SIDE), "JPEG")
    for content in (large[: len(large) // 2], large[:-99], png[: len(png) // 2]):
        planted.plant("truncated", _write(planted, next(places), content))
    hurt = bytearray(png)
    hurt[60:90] = bytes(30)
    planted.plant("damaged", _write(planted, next(places), bytes(hurt)))
    for content in (jpeg[:20], encoded(picture(chance), "WEBP")[:-40]):
        planted.plant("damaged", _write(planted, next(places), content))
    sides = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + png[24:29]
    huge = png[:12] + sides + zlib.crc32(sides).to_bytes(4, "big") + png[33:]
    planted.plant("bomb", _write(planted, next(places), huge))
    for content in (b"a list of files", b"<!DOCTYPE html><p>404", b"%PDF-1.7", b"PK\x03\x04", b"\0" * 50):
        planted.plant("not-a-picture", _write(planted, next(places), content))
    for name in ("lost.png", "train/lost.jpg"):
        planted.plant("outside", _write(planted, name, encoded(picture(chance), "JPEG")))


def _unlike(planted: Planted, chance: np.random.Generator, places: Iterator[str]) -> None:
    def add(kind: str, content: bytes, name: str = "") -> str:
        path = next(places)
        if name:
            (planted.root / path).unlink()
            planted.good.discard(path)
            path = str(Path(path).with_name(name))
        planted.plant(kind, _write(planted, path, content))
        return path

    for number in range(3):
        add("wrong-ending", encoded(picture(chance), "PNG"), f"ending-{number}.jpg")
        exif = Image.Exif()
        exif[0x0112] = 6
        planted.plant(
            "rare-format", add("rotated", encoded(picture(chance), "JPEG", exif=exif), f"phone-{number}.jpg")
        )
        add("grey", encoded(picture(chance).convert("L")))
        add("palette", encoded(picture(chance).quantize(64)))
        clear = picture(chance).convert("RGBA")
        clear.putpixel((0, 0), (0, 0, 0, 0))
        add("transparent", encoded(clear))
    frames = [picture(chance) for _ in range(3)]
    for kind, ending in (("GIF", "gif"), ("WEBP", "webp"), ("TIFF", "tif")):
        moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        path = add("animated", moving, f"moving.{ending}")
        planted.plant("rare-format", path)
        if kind == "GIF":
            planted.plant("palette", path)
        frames = [picture(chance) for _ in range(3)]
    for number in range(2):
        path = add("cmyk", encoded(picture(chance).convert("CMYK"), "JPEG"), f"print-{number}.jpg")
        planted.plant("rare-format", path)
        deep = np.asarray(picture(chance).convert("L")).astype(np.uint16) * 257
        planted.plant("grey", add("16-bit", encoded(Image.fromarray(deep))))
        add("tiny", encoded(picture(chance, 5)))
        add("huge", encoded(picture(chance, 5 * SIDE)))
        add("shape", encoded(picture(chance).resize((3 * SIDE + 8, SIDE - 4 * number))))
        colour = tuple(chance.integers(0, 256, 3).tolist())
        add("blank", encoded(Image.new("RGB", (SIDE, SIDE), colour)))
        faint = np.full((SIDE, SIDE, 3), 120 + number, dtype=np.uint8)
        faint[3, 4:7] = 250
        add("nearly-blank", encoded(Image.fromarray(faint)))
    add("odd-names", encoded(picture(chance)), "a\nline.png")
    add("odd-names", encoded(picture(chance)), "a space at the end ")
    for name in ("Photo.png", "photo.png"):
        planted.plant("colliding-names", _write(planted, f"train/ant/{name}", encoded(picture(chance))))


def _copies(planted: Planted, chance: np.random.Generator, places: Iterator[str]) -> None:
    bees = [path for path in places if path.startswith("train/bee/")]
    for number in range(3):
        original = planted.root / bees[number]
        copy = f"train/bee/copy-{number}.png"
        shutil.copy(original, planted.root / copy)
        planted.plant("duplicates", copy)
        near = f"train/bee/near-{number}.png"
        larger = Image.open(planted.root / bees[10 + number]).resize((40, 40), Image.Resampling.BICUBIC)
        planted.plant("near-duplicates", _write(planted, near, encoded(larger)))
    leaked = planted.root / "val/ant/000.png"
    path = "train/ant/leaked.png"
    shutil.copy(leaked, planted.root / path)
    planted.plant("leaks", path)
    planted.plant("duplicates", path)
    moved = np.roll(np.asarray(Image.open(planted.root / "val/bee/000.png")), 1, axis=1)
    path = _write(planted, "train/bee/leaked.png", encoded(Image.fromarray(moved)))
    planted.plant("leaks", path)
    planted.plant("near-duplicates", path)
    for number in (20, 21):
        other = f"train/cat/conflict-{number}.png"
        shutil.copy(planted.root / bees[number], planted.root / other)
        planted.plant("conflicts", bees[number], other)
        planted.plant("duplicates", other)


def _around(planted: Planted, chance: np.random.Generator) -> None:
    for number in range(4):
        path = _write(planted, f"train/{ALONE}/{number}.png", encoded(picture(chance)))
        planted.good.add(path)
    planted.kinds |= {
        "class-names": {"Cat = cat", "01 = 1"},
        "small-classes": {ALONE},
        "missing-classes": {ALONE},
    }
    for path in ("train/.DS_Store", "val/cat/Thumbs.db", "train/.ipynb_checkpoints/a.png", "__MACOSX/._a.png"):
        _write(planted, path, b"\0")
    planted.kinds["strays"] = {"train/.DS_Store", "val/cat/Thumbs.db", "train/.ipynb_checkpoints", "__MACOSX"}
    for path in ("train/empty", "train/ant/nothing"):
        (planted.root / path).mkdir()
    planted.kinds["empty-folders"] = {"train/empty", "train/ant/nothing"}
