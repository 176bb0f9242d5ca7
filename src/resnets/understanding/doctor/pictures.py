"""Findings about single pictures and files: damage, names, formats, colours, sizes, blankness, and copies."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import RARE, Data
from resnets.data.decode import OTHERS
from resnets.data.source import MISSING
from resnets.understanding.doctor.facts import Facts
from resnets.understanding.doctor.finding import LEFT_OUT, Example, Finding, of_rows
from resnets.understanding.doctor.twins import GUARDED, Group, Twins

BLANK, NEARLY_BLANK = 0.999, 0.99  # the share of pixels close to one colour, within 3 and 8 levels
SIZE_FACTOR = 4.0  # of the median side
SHAPE_FACTOR = 3.0  # of the median ratio of the sides
ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif", ".avifs"},
}
REASONS: dict[str, tuple[str, ...]] = {  # how the reasons of a kind begin
    "empty": ("an empty file",),
    "truncated": ("a truncated ",),
    "bomb": ("a decompression bomb", "a file of "),
    "outside": ("a picture outside",),
    "no-class": ("no class is stated",),
    "unreadable": ("cannot be read", "not enough memory"),
    "not-a-picture": ("not a picture", "not a regular file", *(words for words, _ in OTHERS)),
    "damaged": ("a damaged ", "32-bit pixels", *(f"a {name} file whose header" for name in ENDINGS)),
}

Rows = npt.NDArray[np.int64]


def unreadable(data: Data, left_out: Mapping[int, str]) -> list[Finding]:
    """The files that are left out, by what is wrong with them."""
    of_kind: dict[str, list[int]] = {}
    for row, reason in sorted(left_out.items()):
        kind = next((name for name, begins in REASONS.items() if reason.startswith(begins)), LEFT_OUT[-1])
        of_kind.setdefault(kind, []).append(row)
    return [
        finding
        for kind, rows in of_kind.items()
        for finding in of_rows(kind, rows, (_example(data, row, left_out[row]) for row in rows))
    ]


def unlike_others(data: Data, facts: Facts) -> list[Finding]:
    """Pictures that are stored, sized or named unlike the others. What half of them have is no finding."""
    rows = facts.rows()
    if not len(rows):
        return []
    return [
        *_even(data, facts, rows),
        *_sizes(data, rows),
        *_formats(data, facts, rows),
        *_colours(data, facts, rows),
        *_names(data, rows),
    ]


def even_rows(facts: Facts) -> Rows:
    """Blank and nearly blank pictures."""
    rows = facts.rows()
    close = facts.records["close"][rows]
    return np.asarray(rows[(close[:, 0] >= BLANK) | (close[:, 1] >= NEARLY_BLANK)])


def _even(data: Data, facts: Facts, rows: Rows) -> list[Finding]:
    close, means = facts.records["close"], facts.records["mean"]
    blank = rows[close[rows, 0] >= BLANK]
    nearly = np.setdiff1d(even_rows(facts), blank)

    def colour(row: int) -> str:
        return "#" + "".join(f"{round(255 * float(level)):02x}" for level in means[row])

    findings = of_rows("blank", blank.tolist(), (_example(data, row, colour(row)) for row in blank.tolist()))
    if 2 * len(nearly) < len(rows):
        worst = nearly[np.argsort(-close[nearly, 1], kind="stable")].tolist()
        notes = (_example(data, row, f"{close[row, 1]:.1%} of the pixels") for row in worst)
        findings += of_rows("nearly-blank", worst, notes)
    return findings


def _sizes(data: Data, rows: Rows) -> list[Finding]:
    widths, heights = (numbers.astype(np.float64) for numbers in data.sizes)
    shorter, longer = np.minimum(widths, heights), np.maximum(widths, heights)
    usual_shorter, usual_longer = np.median(shorter[rows]), np.median(longer[rows])
    shapes = np.log(np.where(widths > 0, widths, 1) / np.where(heights > 0, heights, 1))
    away = np.abs(shapes - np.median(shapes[rows]))
    tiny = rows[shorter[rows] * SIZE_FACTOR < usual_shorter]
    huge = rows[longer[rows] > SIZE_FACTOR * usual_longer]
    odd = rows[away[rows] > np.log(SHAPE_FACTOR)]
    found = []
    for kind, chosen, order in (("tiny", tiny, shorter), ("huge", huge, -longer), ("shape", odd, -away)):
        worst = chosen[np.argsort(order[chosen], kind="stable")].tolist()
        notes = (_example(data, row, f"{widths[row]:.0f} x {heights[row]:.0f} pixels") for row in worst)
        found += of_rows(kind, worst, notes)
    return found


def _formats(data: Data, facts: Facts, rows: Rows) -> list[Finding]:
    formats = data.manifest.table["format"].to_pylist()
    usual, *others = Counter(formats[row] for row in rows).most_common()
    rare = {name for name, count in others if count <= RARE * len(rows)}
    few = [row for row in rows.tolist() if formats[row] in rare]
    found = of_rows("rare-format", few, (_example(data, row, f"{formats[row]} among {usual[0]}") for row in few))
    if (data.manifest.address or {}).get("kind") in ("folder", "table", "named"):
        known = set().union(*ENDINGS.values())
        wrong = []
        for row in rows.tolist():
            ending = PurePosixPath(data.path(row)).suffix.lower()
            if ending in known and ending not in ENDINGS.get(formats[row], known):
                wrong.append(row)
        found += of_rows("wrong-ending", wrong, (_example(data, row, f"is {formats[row]}") for row in wrong))
    turned = rows[facts.records["orientation"][rows] > 1].tolist()
    notes = (_example(data, row, f"orientation {facts.records['orientation'][row]}") for row in turned)
    found += of_rows("rotated", turned, notes)
    moving = rows[facts.records["animated"][rows]].tolist()
    return found + of_rows("animated", moving, (_example(data, row, formats[row]) for row in moving))


def _colours(data: Data, facts: Facts, rows: Rows) -> list[Finding]:
    modes = np.array(data.manifest.table["mode"].to_pylist(), dtype=object)
    channels = np.array(data.manifest.table["channels"].to_pylist(), dtype=object)
    bits = facts.records["bits"]
    grey = channels[rows] == "grey"
    palette = np.isin(modes[rows].astype(str), ["P", "PA"])
    clear = (channels[rows] == "rgba") & ~palette
    chosen = {"palette": palette, "transparent": clear}
    mostly_grey = 2 * grey.sum() > len(rows)
    if mostly_grey:
        chosen["colour"] = ~grey
    else:
        chosen["grey"] = grey
    chosen = {kind: mask for kind, mask in chosen.items() if 2 * mask.sum() < len(rows)}
    chosen |= {"cmyk": modes[rows] == "CMYK", "16-bit": bits[rows] > 8}
    return [
        finding
        for kind, mask in chosen.items()
        for finding in of_rows(
            kind, rows[mask].tolist(), (_example(data, row, modes[row]) for row in rows[mask].tolist())
        )
    ]


def _names(data: Data, rows: Rows) -> list[Finding]:
    odd: list[int] = []
    folded: dict[tuple[str, str], list[int]] = {}
    for row in rows.tolist():
        path = data.path(row)
        if not path.isprintable() or any(step != step.strip() for step in path.split("/")):
            odd.append(row)
        folder, _, name = path.rpartition("/")
        folded.setdefault((folder, unicodedata.normalize("NFC", name).casefold()), []).append(row)
    pairs = [group for group in folded.values() if len(group) > 1]
    found = of_rows("odd-names", odd, (_example(data, row) for row in odd))
    examples = (_pair(data, group[1], group[0]) for group in pairs)
    return found + of_rows("colliding-names", (row for group in pairs for row in group), examples)


def copies(data: Data, twins: Twins) -> list[Finding]:
    """Equal and near pictures, in two classes, and in two parts."""
    parts = data.manifest.table["split"].to_pylist()
    equal = {row for group in twins.equal for row in group}

    def how(row: int, other: int) -> str:
        return "equal" if row in equal and other in equal and _same_content(data, row, other) else "nearly equal"

    conflicts = list(_conflicts(data, twins.all))
    leaks = list(_leaks(parts, twins.all))
    found = of_rows(
        "conflicts",
        (row for rows, _ in conflicts for row in rows),
        (_pair(data, *pair, how(*pair)) for _, pair in conflicts),
    )
    found += of_rows(
        "leaks", (row for row, _ in leaks), (_pair(data, row, other, how(row, other)) for row, other in leaks)
    )
    for kind, groups in (("duplicates", twins.equal), ("near-duplicates", twins.near)):
        found += of_rows(
            kind,
            (row for group in groups for row in group[1:]),
            (_pair(data, row, group[0]) for group in groups for row in group[1:]),
        )
    return found


def _conflicts(data: Data, groups: Sequence[Group]) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Groups with two labels in one head: their rows, and two that differ."""
    values = {head: _label_values(data, head) for head in data.heads}
    for group in groups:
        for of in values.values():
            known = [row for row in group if of[row] is not None]
            other = next((row for row in known if of[row] != of[known[0]]), None)
            if other is not None:
                yield known, (other, known[0])
                break


def _label_values(data: Data, head: str) -> list[int | bytes | None]:
    """What two rows of the same label have in common; None where there is no label."""
    labels = data.manifest.labels(head)
    if labels.ndim == 1:
        return [None if label == MISSING else label for label in labels.tolist()]
    return [None if (row == MISSING).all() else row.tobytes() for row in labels]


def _leaks(parts: Sequence[str | None], groups: Sequence[Group]) -> Iterator[tuple[int, int]]:
    """Rows with a copy in a part that is guarded more, and that copy. The first row of a group is guarded most."""
    for group in groups:
        for row in group[1:]:
            if GUARDED.index(parts[row]) > GUARDED.index(parts[group[0]]):
                yield row, group[0]


def _same_content(data: Data, row: int, other: int) -> bool:
    content = data.manifest.table["content"]
    return bool(content[row].as_py() == content[other].as_py())


def _example(data: Data, row: int, note: str = "") -> Example:
    return Example(path=data.path(row), row=row, note=str(note))


def _pair(data: Data, row: int, other: int, note: str = "") -> Example:
    return Example(path=data.path(row), row=row, other=data.path(other), other_row=other, note=note)
