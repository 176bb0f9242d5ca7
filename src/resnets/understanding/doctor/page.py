"""The findings as one HTML page with pictures: no scripts, no network, every name escaped."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from resnets.base.errors import DataError
from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.decode import decode
from resnets.understanding.doctor.classes import Counts
from resnets.understanding.doctor.finding import KINDS, LEFT_OUT, Example, Finding

THUMBNAIL = 200  # pixels of the longer side
SMALL = 64  # pictures of up to so many pixels are shown with their pixels
CLASSES_SHOWN = 200
PICTURES_SHOWN = 400  # on a page, so that it can be sent by mail

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0; }
p { margin: .25rem 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .8rem .2rem 0; text-align: left; }
td.number, th.number { font-variant-numeric: tabular-nums; text-align: right; }
.count { color: var(--quiet); font-weight: normal; }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
figure { margin: 0; min-width: 0; }
figure.pair { grid-column: span 2; }
@media (max-width: 22rem) { figure.pair { grid-column: auto; } }
figure div { display: flex; gap: .5rem; }
figure div > * { flex: 1 1 0; min-width: 0; }
img { background: #8882; display: block; height: 9rem; object-fit: contain; width: 100%; }
img.small { image-rendering: pixelated; }
figcaption, li { font-size: .8rem; overflow-wrap: anywhere; }
.note { color: var(--quiet); }
ul { padding-left: 1.2rem; }
""".strip()


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What stands on a page beside the findings. facts: heading -> text. labels: row -> its class, as shown."""

    title: str
    facts: Mapping[str, str]
    counts: Mapping[str, Counts]
    labels: Mapping[int, str]


def page(data: Data, findings: Sequence[Finding], contents: Contents) -> str:
    """The whole page. Names are escaped, and can do nothing where a browser would still run something."""
    budget = [PICTURES_SHOWN]
    sections = [_section(data, finding, contents, budget) for finding in findings]
    title = _text(contents.title)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            _table(contents.facts.items()),
            _overview(findings),
            *sections,
            *(
                _classes(head, counts, several=len(contents.counts) > 1)
                for head, counts in contents.counts.items()
            ),
            "</body></html>\n",
        ]
    )


def _overview(findings: Sequence[Finding]) -> str:
    rows = [
        f'<tr><td><a href="#{finding.kind}">{_text(KINDS[finding.kind].title)}</a></td>'
        f'<td class="number">{finding.count:,}</td></tr>'
        for finding in findings
    ]
    return "<h2>Findings</h2>" + (f"<table>{''.join(rows)}</table>" if rows else "<p>Nothing was found.</p>")


def _section(data: Data, finding: Finding, contents: Contents, budget: list[int]) -> str:
    kind = KINDS[finding.kind]
    pictured, listed = [], []
    for example in finding.examples:
        images = _images(data, example, finding.kind) if budget[0] > 0 else []
        budget[0] -= len(images)
        caption = _caption(example, contents.labels)
        if images:
            pair = ' class="pair"' if len(images) > 1 else ""
            pictured.append(
                f"<figure{pair}><div>{''.join(images)}</div><figcaption>{caption}</figcaption></figure>"
            )
        else:
            listed.append(f"<li>{caption}</li>")
    shown = len(finding.examples)
    more = f", {shown} of them shown" if shown < finding.count else ""
    return (
        f'<h2 id="{finding.kind}">{_text(kind.title)} <span class="count">{finding.count:,}{more}</span></h2>'
        f"<p>{_text(kind.says)}</p>"
        + (f'<div class="pictures">{"".join(pictured)}</div>' if pictured else "")
        + (f"<ul>{''.join(listed)}</ul>" if listed else "")
    )


def _caption(example: Example, labels: Mapping[int, str]) -> str:
    names = [(example.path, example.row), (example.other, example.other_row)]
    lines = [
        _text(name)
        + (f' <span class="note">{_text(labels[row])}</span>' if row is not None and row in labels else "")
        for name, row in names
        if name
    ]
    return "<br>".join(lines) + (f'<br><span class="note">{_text(example.note)}</span>' if example.note else "")


def _images(data: Data, example: Example, kind: str) -> list[str]:
    """Those of the example's pictures that can be decoded."""
    if kind in LEFT_OUT and kind not in ("outside", "no-class", "left-out"):
        return []
    found = [_image(data, row) for row in (example.row, example.other_row) if row is not None]
    return [image for image in found if image]


def _image(data: Data, row: int) -> str:
    try:
        picture = decode(data.read(row))
    except (DataError, OSError):
        return ""
    small = ' class="small"' if max(picture.size) <= SMALL else ""
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    kind = "png" if small else "jpeg"
    picture.save(stream, kind.upper(), quality=80)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img{small} alt="" src="data:image/{kind};base64,{encoded}">'


def _classes(head: str, counts: Counts, *, several: bool) -> str:
    """The pictures of each class a part, the largest classes first."""
    order = sorted(range(len(counts.ids)), key=lambda place: (-counts.total[place], place))
    heading = "".join(f'<th class="number">{part}</th>' for part in counts.of_part)
    rows = []
    for place in order[:CLASSES_SHOWN]:
        name = (
            counts.names[place]
            if counts.names[place] == counts.ids[place]
            else (f"{counts.names[place]} ({counts.ids[place]})")
        )
        cells = "".join(f'<td class="number">{numbers[place]:,}</td>' for numbers in counts.of_part.values())
        rows.append(f"<tr><td>{_text(name)}</td>{cells}</tr>")
    more = len(order) - len(rows)
    title = f"Classes of {_text(head)}" if several else "Classes"
    return f"<h2>{title}</h2><table><tr><th>class</th>{heading}</tr>{''.join(rows)}</table>" + (
        f"<p>and {more:,} smaller ones</p>" if more else ""
    )


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{_text(a)}</th><td>{_text(b)}</td></tr>" for a, b in rows) + "</table>"


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
