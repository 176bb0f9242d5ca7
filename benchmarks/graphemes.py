"""More training pictures for a network that reads graphemes: every combination in every font that shapes it.

    python benchmarks/graphemes.py DATA OUT
    python benchmarks/graphemes.py DATA OUT --fonts /usr/share/fonts/truetype --fonts MORE --compose 8
    python benchmarks/graphemes.py DATA OUT --each 0 --writing WRITTEN --without writer2

DATA: a folder in Kaggle's layout with `holdout_combinations.csv` and the script `make_graphemes.py` that drew its
pictures; the script needs uharfbuzz, and Pillow with raqm. OUT: a new folder with `labels.csv`, which `resnets
train` takes, and its pictures. The held-out combinations are the validation part, as DATA drew them, and nothing
else: DATA's other pictures and those drawn here are the training part. `--compose N` also draws combinations that
are in no list: every root with every vowel sign and with every consonant sign, each in up to N fonts. WRITTEN: a
table of handwriting whose writers, all but one, are added to the training part; the one that is left out is the
test part.
The fonts named by the script come from DATA's list; every `*.ttf` below a further `--fonts` folder is used too.
"""

import argparse
import csv
import importlib.util
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

HEADS = ("grapheme_root", "vowel_diacritic", "consonant_diacritic")
COLUMNS = ("image", *HEADS, "grapheme", "font", "split")
FONTS = Path("/usr/share/fonts/truetype")

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fonts", type=Path, action="append", help=f"the first has DATA's fonts ({FONTS})")
    parser.add_argument("--each", type=int, default=1, help="pictures a combination and font")
    parser.add_argument("--compose", type=int, default=0, help="fonts of a combination that is in no list")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writing", type=Path, help="folder with labels.csv and writers")
    parser.add_argument("--without", help="the writer that is left out")
    options = parser.parse_args()
    folders = options.fonts or [FONTS]
    (options.out / "images").mkdir(parents=True)
    held_out = {key(row) for row in table(options.data / "holdout_combinations.csv")}
    rows = [*given(options.data, held_out, options.out)]
    if options.each:
        rows += drawn(options, held_out, folders, random.Random(options.seed))
    if options.writing:
        rows += written(options.writing, options.without, options.out)
    with open(options.out / "labels.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    shutil.copyfile(options.data / "class_map.csv", options.out / "class_map.csv")
    parts = {part: sum(row["split"] == part for row in rows) for part in ("train", "val", "test")}
    print(", ".join(f"{count:,} {part}" for part, count in parts.items() if count))


def table(path: Path) -> list[Row]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def key(row: Row) -> tuple[int, ...]:
    return tuple(int(row[head]) for head in HEADS)


def given(data: Path, held_out: set[tuple[int, ...]], out: Path) -> Iterator[Row]:
    """The pictures of DATA itself."""
    labels = {row["image_id"]: row for row in table(data / "train.csv")}
    for path in sorted(data.glob("train_image_data_*.parquet")):
        columns = pq.read_table(path)
        ids = columns["image_id"].to_pylist()
        pixels = np.stack([column.to_numpy() for column in columns.columns[1:]], axis=1).reshape(-1, 137, 236)
        for image_id, picture in zip(ids, pixels, strict=True):
            row = labels[image_id]
            part = "val" if key(row) in held_out else "train"
            yield stored(Image.fromarray(picture), f"{image_id}.png", row, "", part, out)


def drawn(
    options: argparse.Namespace, held_out: set[tuple[int, ...]], folders: list[Path], rng: random.Random
) -> Iterator[Row]:
    """New pictures of the combinations that are not held out."""
    script: Any = module_of(options.data / "make_graphemes.py")
    fonts = [script.Font(folders[0] / font) for font in script.FONTS]
    fonts += [script.Font(path) for folder in folders[1:] for path in sorted(folder.rglob("*.ttf"))]
    listed = {key(row): row["grapheme"] for row in table(options.data / "train.csv")}
    composed = combined(script, options.data, set(listed.values())) if options.compose else {}
    for combination, grapheme in sorted((composed | listed).items()):
        if combination in held_out:
            continue
        able = [font for font in fonts if font.shapes(script.shown(grapheme))]
        if combination not in listed:
            able = rng.sample(able, min(options.compose, len(able)))
        labels = {"grapheme": grapheme, **dict(zip(HEADS, combination, strict=True))}
        for font in able:
            for number in range(options.each):
                picture = Image.fromarray(script.draw(grapheme, font, rng))
                name = f"{'-'.join(map(str, combination))}-{font.name}-{number}.png"
                yield stored(picture, name, labels, font.name, "train", options.out)


def combined(script: Any, data: Path, listed: set[str]) -> dict[tuple[int, ...], str]:
    """Every root with every vowel sign alone, and every consonant sign alone or with one vowel sign, as text.

    A text that several combinations spell, or that is in the list, is left out: its labels would be a guess.
    """
    roots, vowels = script.read_class_map(data / "class_map.csv")
    spelled: dict[str, list[tuple[int, ...]]] = {}
    for root in roots:
        for vowel in vowels:
            for consonant in script.CONSONANT:
                text = script.compose(root, vowel, consonant, roots, vowels)
                spelled.setdefault(text, []).append((root, vowel, consonant))
    chosen = {}
    for text, combinations in spelled.items():
        root, vowel, consonant = combinations[0]
        wanted = not consonant or not vowel or vowel == 1 + (root + consonant) % (len(vowels) - 1)
        if len(combinations) == 1 and wanted and text not in listed:
            chosen[combinations[0]] = text
    return chosen


def written(folder: Path, without: str | None, out: Path) -> Iterator[Row]:
    """Handwriting: one writer to test, the others to train."""
    for row in table(folder / "labels.csv"):
        with Image.open(folder / row["image"]) as picture:
            part = "test" if row["writer"] == without else "train"
            yield stored(picture, Path(row["image"]).name, row, row["writer"], part, out)


def stored(picture: Image.Image, name: str, row: Row, font: str, part: str, out: Path) -> Row:
    """Write the picture; its row of the table."""
    picture.save(out / "images" / name)
    labels = {column: row[column] for column in (*HEADS, "grapheme")}
    return {"image": f"images/{name}", **labels, "font": font, "split": part}


def module_of(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
