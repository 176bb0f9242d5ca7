"""`resnets inspect`."""

from typing import TYPE_CHECKING, Any, Literal

from resnets.base.options import taken_from
from resnets.base.program import command_line
from resnets.base.text import printable
from resnets.cli.commands import Argument, Command, Option, options_of
from resnets.cli.live import watching
from resnets.cli.terminal import Terminal, table
from resnets.data.options import DataOptions

if TYPE_CHECKING:
    from resnets.understanding.doctor.finding import Example
    from resnets.understanding.doctor.inspection import Inspection

WIDTH = 80  # cells of a line
SHOWN = 3  # examples of a finding
GAP = 2  # cells between two columns


def run(given: dict[str, Any], terminal: Terminal) -> int:
    options = taken_from(given, DataOptions)
    if "leave_out" in given:
        given["leave_out"] = [kind for text in given["leave_out"] for kind in text.split(",")]
    with watching(terminal) as watch:
        from resnets.verbs.inspect import inspect

        found = inspect(progress=watch.progress, options=options, **given)
    if terminal.json:
        terminal.emit(found.to_json() | {"seconds": terminal.seconds()})
    else:
        for line in shown(found):
            terminal.say(line)
    return 0


def shown(found: "Inspection") -> list[str]:
    """The facts, the findings with their worst examples, what was written; lines of WIDTH cells at most."""
    from resnets.understanding.doctor.inspection import facts_in_words
    from resnets.verbs.inspect import MANIFEST

    facts = [[heading, text] for heading, text in facts_in_words(found).items()]
    lines = [printable(found.data), *(_cut(line) for line in table(["", ""], facts)[1:]), ""]
    lines += _findings(found) or ["nothing was found"]
    lines += [f"note: {printable(note)}" for note in found.notes]
    lines += [f"wrote {printable(str(path))}" for path in found.outputs]
    manifest = next((str(path) for path in found.outputs if path.name == MANIFEST), None)
    if manifest is not None:
        lines.append(f"train: {printable(command_line('train', manifest))}")
    return lines


def _findings(found: "Inspection") -> list[str]:
    if not found.findings:
        return []
    kinds = max(len("finding"), *(len(finding.kind) for finding in found.findings))
    counts = max(len("count"), *(len(f"{finding.count:,}") for finding in found.findings))
    rows = []
    for finding in found.findings:
        for number, example in enumerate(finding.examples[:SHOWN]):
            begin = [finding.kind, f"{finding.count:,}"] if number == 0 else ["", ""]
            rows.append([*begin, _words(example, WIDTH - kinds - counts - 2 * GAP)])
    return table(["finding", "count", "such as"], rows, right=[1])


def _words(example: "Example", cells: int) -> str:
    """An example in so many cells; of what is too long, the middle of the names goes first."""
    from rich.cells import cell_len

    note = f" ({printable(example.note)})" if example.note else ""
    names = [_quoted(name) for name in (example.path, example.other) if name]
    taken = sum(map(cell_len, names)) + cell_len(" = ") * (len(names) - 1)
    note = _cut(note, max(cells // 2, cells - taken))
    each = (cells - cell_len(note) - cell_len(" = ") * (len(names) - 1)) // len(names)
    return " = ".join(_shortened(name, each) for name in names) + note


def _quoted(name: str) -> str:
    """In quotes where a space stands at an end, which would not be seen."""
    return printable(f"'{name}'" if name != name.strip() else name)


def _shortened(text: str, cells: int) -> str:
    from rich.cells import cell_len

    if cell_len(text) <= cells:
        return text
    half = max(1, (cells - 1) // 2)
    begin, end = text[:half], text[-half:]
    while cell_len(begin) + cell_len(end) + 1 > cells and len(begin) + len(end) > 2:
        begin, end = (begin[:-1], end) if len(begin) > len(end) else (begin, end[1:])
    return f"{begin}…{end}"


def _cut(line: str, cells: int = WIDTH) -> str:
    """The line's beginning in so many cells."""
    from rich.cells import cell_len

    if cell_len(line) <= cells:
        return line
    while cell_len(line) >= cells:
        line = line[:-1]
    return line + "…"


COMMAND = Command(
    arguments=(Argument(name="data", help="what resnets train takes: a folder, a table, a manifest or a name"),),
    options=(
        Option(name="out", hint=str, metavar="FOLDER", help="write report.html and manifest.parquet"),
        Option(
            name="leave_out",
            hint=tuple[str, ...],
            metavar="KIND,KIND",
            help="kinds of finding that the manifest leaves out, such as duplicates,blank; by default only what "
            "cannot be used",
        ),
        Option(name="classes", hint=str, metavar="FILE", help="names of the classes: CSV with id,name"),
        Option(name="labels", hint=bool, help="look for wrong labels (needs cleanlab)", group="Labels"),
        Option(
            name="model",
            hint=str,
            metavar="NAME|FILE",
            help="judge labels by the features of this model; by default gradients or a brief training",
            group="Labels",
        ),
        Option(
            name="split",
            hint=Literal["train", "val", "test", "all"],
            help="the part whose labels are judged; by default all but test",
            group="Labels",
        ),
        Option(
            name="accept",
            hint=int | Literal["all"],
            metavar="N|all",
            help="correct so many labels in the manifest, the likeliest errors first",
            group="Labels",
        ),
        *options_of(DataOptions),
        Option(name="device", hint=str, help="cpu, cuda, cuda:N or mps", group="The machine"),
        Option(name="threads", hint=int, help="processor threads", group="The machine"),
    ),
    details="Nothing is changed. A second look decodes only what is new.",
    examples=(
        "resnets inspect pictures/",
        "resnets inspect pictures/ --out inspected --leave-out duplicates,blank",
        "resnets train inspected/manifest.parquet",
        "resnets inspect pictures/ --labels --model resnet50.a1_in1k --out inspected --accept 20",
    ),
    run=run,
)
