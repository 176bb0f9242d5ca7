"""The manifest with what the doctor says: who is left out and why, findings, copies, suggestions, corrections."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from resnets.base.errors import DataError
from resnets.base.text import printable
from resnets.data.dataset import Data
from resnets.data.manifest import Manifest, head_column
from resnets.data.multi import unknown_column
from resnets.data.names import displayed
from resnets.data.sources.manifest import ManifestSource, corrected_column
from resnets.understanding.doctor.finding import Finding

FINDING, DUPLICATE_OF, SUGGESTED = "finding", "duplicate_of", "suggested"

Ids = dict[int, str]  # row -> class id


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What is to be written of each row. suggested, accepted: head -> row -> class id."""

    left_out: Mapping[int, str]
    keepers: Mapping[int, int]
    suggested: Mapping[str, Ids] = field(default_factory=dict)
    accepted: Mapping[str, Ids] = field(default_factory=dict)


def annotated(data: Data, findings: Iterable[Finding], opinion: Opinion) -> Manifest:
    """The data's manifest with the doctor's columns; labels stand as they were, corrections beside them."""
    manifest = _as_stated(data).leaving_out(opinion.left_out)
    rows = len(manifest)
    kinds: dict[int, list[str]] = {}
    for finding in findings:
        for row in finding.rows:
            kinds.setdefault(row, []).append(finding.kind)
    columns: dict[str, list[str | None]] = {
        FINDING: [";".join(kinds[row]) if row in kinds else None for row in range(rows)],
        DUPLICATE_OF: [
            displayed(data.path(opinion.keepers[row])) if row in opinion.keepers else None for row in range(rows)
        ],
    }
    for head, ids in opinion.suggested.items():
        columns[suggested_column(head, data)] = [ids.get(row) for row in range(rows)]
    for head in data.heads:
        if data.heads[head].kind == "multi":  # their corrections are the user's own
            continue
        name = corrected_column(head, data.heads)
        before = _texts(manifest.table, name)
        accepted = opinion.accepted.get(head, {})
        if accepted or any(before):
            columns[name] = [accepted.get(row, before[row]) for row in range(rows)]
    table = manifest.table
    for name, values in columns.items():
        if name in map(head_column, data.heads):
            raise DataError(f"a label column is called {name!r}, which the manifest has a meaning for; rename it")
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array(values, pa.string()))
    return replace(manifest, table=table)


def suggested_column(head: str, data: Data) -> str:
    return SUGGESTED if len(data.heads) == 1 else f"{head_column(head)}.{SUGGESTED}"


def corrections(manifest: Manifest) -> int:
    """How many labels are corrected in a manifest."""
    return sum(
        sum(value is not None for value in _texts(manifest.table, corrected_column(head, manifest.heads)))
        for head in manifest.heads
    )


def reasons(findings: Iterable[Finding], kinds: Iterable[str], keepers: Mapping[int, int], data: Data) -> Ids:
    """Why the rows of these kinds of finding are left out."""
    chosen = set(kinds)
    found: Ids = {}
    for finding in findings:
        if finding.kind in chosen:
            for row in finding.rows:
                of = f" (copy of {printable(data.path(keepers[row]))})" if row in keepers else ""
                found.setdefault(row, f"inspect: {finding.kind}{of}")
    return found


def _as_stated(data: Data) -> Manifest:
    """The manifest with labels as they were before corrections, and the columns that its source had beside."""
    if not isinstance(data.source, ManifestSource):
        return data.manifest
    before = data.source.manifest.table
    table = data.manifest.table
    of_heads = {name for head in map(head_column, data.heads) for name in (head, unknown_column(head))}
    for name in before.column_names:
        if name not in table.column_names:
            table = table.append_column(name, before[name])
        elif name in of_heads:
            table = table.set_column(table.column_names.index(name), name, before[name])
    return replace(data.manifest, table=table)


def _texts(table: pa.Table, name: str) -> list[str | None]:
    return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
