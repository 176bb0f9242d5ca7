"""What the doctor can find: the kinds in the order they are shown, and the record of one finding."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

EXAMPLES = 12  # of a finding, the worst or the first


@dataclass(frozen=True, kw_only=True)
class Kind:
    """title: a heading. says: what it is, what to do. pictures: it is of kept pictures, which may be left out."""

    title: str
    says: str
    pictures: bool = False


def _kept(title: str, says: str) -> Kind:
    return Kind(title=title, says=says, pictures=True)


def _other(title: str, says: str) -> Kind:
    return Kind(title=title, says=says)


KINDS: dict[str, Kind] = {
    # files that are left out in any case
    "empty": _other("Empty files", "Files of no bytes, left out; copy them again from where they came."),
    "truncated": _other("Truncated files", "They end before the picture does, and are left out; copy them again."),
    "damaged": _other("Damaged files", "They cannot be decoded, and are left out; copy them again."),
    "bomb": _other("Decompression bombs", "Their headers state more pixels than are unpacked; left out."),
    "not-a-picture": _other("No pictures", "Files of another kind among the pictures, left out."),
    "unreadable": _other("Unreadable files", "The system does not let them be read; left out. See their rights."),
    "outside": _other(
        "Pictures outside the class folders", "Left out, as they have no class; move each into its class folder."
    ),
    "no-class": _other("Pictures without a class", "Left out, as no class is stated for them."),
    "left-out": _other("Left out before", "Left out by the manifest that was given."),
    # labels and copies
    "labels": _kept(
        "Labels that are likely wrong",
        "A classifier that has not seen these pictures is sure of another class. Look at each; --accept writes "
        "the suggestion to the manifest.",
    ),
    "conflicts": _kept(
        "The same picture in two classes",
        "One of the labels is wrong, or the classes overlap: look at each group.",
    ),
    "leaks": _kept(
        "The same picture in two parts",
        "Training pictures that stand in the validation or test part too: figures there are too good. To be left "
        "out is the copy in training, or the one in validation where the other is a test picture.",
    ),
    "duplicates": _kept("Equal files", "Copies of another file, byte by byte; one of each group is not counted."),
    "near-duplicates": _kept(
        "Near duplicates",
        "The same picture in another size, quality or place by a pixel; one of each group is not counted.",
    ),
    # pictures unlike the others
    "blank": _kept("Blank pictures", "One colour throughout, within the noise of JPEG."),
    "nearly-blank": _kept("Nearly blank pictures", "At least 99% of the pixels are nearly of one colour."),
    "tiny": _kept("Tiny pictures", "Less than a quarter of the usual size: they will be blown up."),
    "huge": _kept("Huge pictures", "More than four times the usual size: slow to decode, and mostly thrown away."),
    "shape": _kept("Unusual shapes", "Three times longer or narrower than is usual: a crop shows little of them."),
    "rare-format": _kept(
        "Rare formats", "A file format that hardly any other picture has: it may be a placeholder or an icon."
    ),
    "wrong-ending": _kept("Wrong endings", "The name says another format than the content; the content decides."),
    "rotated": _kept(
        "Rotated by EXIF", "Stored on their side; they are turned upright here, not by every program."
    ),
    "animated": _kept("Animations and several pages", "The first frame is used."),
    "grey": _kept("Grey pictures among colour", "Stored as grey where most are in colour."),
    "colour": _kept("Colour pictures among grey", "Stored in colour where most are grey."),
    "palette": _kept("Pictures with a palette", "Of 256 colours at most, where most pictures have all."),
    "transparent": _kept("Pictures with transparency", "Transparent pixels are laid over white."),
    "cmyk": _kept("CMYK pictures", "Made for print; they are converted without a colour profile."),
    "16-bit": _kept("Pictures of 16 bits", "More than 8 bits a channel: the high byte of the full range is used."),
    "odd-names": _kept(
        "Odd file names", "Line ends, spaces at an end, or bytes that are no UTF-8: other programs trip over them."
    ),
    "colliding-names": _kept(
        "Colliding file names", "They differ by capitals or Unicode form alone: some systems keep one of them."
    ),
    # classes, parts, and what stands around
    "class-names": _other(
        "Class names that are alike", "They differ by capitals, zeros, spaces or Unicode form: one class or two?"
    ),
    "missing-classes": _other("Classes missing in a part", "There is nothing to learn, or to measure, of them."),
    "small-classes": _other(
        "Small classes", "Fewer than ten training pictures: too few to learn from or to judge."
    ),
    "imbalance": _other(
        "Unequal classes", "Less than a tenth of the largest class: watch their recall, not the accuracy alone."
    ),
    "drift": _other(
        "Parts that differ", "More than chance explains: figures of this part say less of what was trained on."
    ),
    "strays": _other(
        "Stray files and folders", "Left by file managers, archives and notebooks; they are not read."
    ),
    "empty-folders": _other("Empty folders", "No class is made of them."),
    "folder-links": _other("Links to folders", "They are not followed."),
}
LEFT_OUT = tuple(KINDS)[: tuple(KINDS).index("left-out") + 1]
CAN_LEAVE_OUT = tuple(name for name, kind in KINDS.items() if kind.pictures)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A file, folder or class. row: of the data. other, other_row: what it is like. note: a few words."""

    path: str
    note: str = ""
    row: int | None = None
    other: str = ""
    other_row: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("path", "note", "other") if getattr(self, key)}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """kind: of KINDS. count: how many. rows: which, where they are files of the data. examples: the worst."""

    kind: str
    count: int
    examples: tuple[Example, ...]
    rows: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "count": self.count,
            "title": KINDS[self.kind].title,
            "examples": [example.to_json() for example in self.examples],
        }


def of_rows(kind: str, rows: Iterable[int], examples: Iterable[Example]) -> list[Finding]:
    """One finding of these rows, or none where there are none. examples: as many as are needed are taken."""
    flagged = tuple(sorted(set(rows)))
    shown = tuple(example for _, example in zip(range(EXAMPLES), examples, strict=False))
    return [Finding(kind=kind, count=len(flagged), rows=flagged, examples=shown)] if flagged else []


def of_things(kind: str, examples: Iterable[Example], *, count: int | None = None) -> list[Finding]:
    """One finding of what is no file of the data, or none."""
    every = tuple(examples)
    if not every:
        return []
    return [Finding(kind=kind, count=len(every) if count is None else count, examples=every[:EXAMPLES])]


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {name: place for place, name in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda finding: order[finding.kind]))
