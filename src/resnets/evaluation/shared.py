"""An evaluation that is done in parts, in a folder, perhaps by several processes: rows shared, logits gathered.

The first process looks at the data and writes its manifest, which the others take its word for. Parts are whole
batches, so that the batches, and with equal threads every logit, are those of one process.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from resnets.base.files import write_bytes
from resnets.base.world import World
from resnets.data.dataset import Data, reopen
from resnets.data.manifest import Manifest
from resnets.evaluation.parts import MANIFEST, RECORD, Parts, agree, check, identity, part_size, refuse_other_files
from resnets.evaluation.predict import Outputs, Progress
from resnets.evaluation.statistics import Rows
from resnets.weights.modelfile import Model

ENDING = ".safetensors"
ROWS, LOGITS, FAILED = "rows", "logits.", "failed"  # names in a part


class Work:
    """A folder, and what is done in it.

    asked: what the answers depend on beside the model and the batch.
    """

    def __init__(self, folder: Path, place: World, model: Model, *, asked: Mapping[str, Any], batch: int) -> None:
        self.folder, self.place, self.batch = folder, place, batch
        self._asked = {"verb": "evaluate", "model": identity(model), **asked, "batch": batch}

    def opened(self, look: Callable[[], tuple[Data, list[str]]]) -> tuple[Data, list[str]]:
        """What `look` gives in the first process, and the same data in the others.

        Raises UsageError where the folder holds something else.
        """
        if not self.place.leads:
            check(self.folder, self._asked, wait=True)
            manifest = Manifest.read(self.folder / MANIFEST)
            return look() if manifest.address is None else (reopen(manifest), [])
        if (self.folder / RECORD).exists():
            check(self.folder, self._asked)
        else:
            refuse_other_files(self.folder)
        return look()

    def outputs(
        self,
        data: Data,
        rows: Rows,
        classified: Callable[[Rows, Progress | None], Outputs],
        progress: Progress | None,
    ) -> Outputs:
        """All outputs in the first process, once every part is there; in the others those of their own parts.

        classified: gives those of some rows. Raises UsageError where the data is not what the parts are of.
        """
        asked = {**self._asked, "pictures": data.manifest.hash()}
        if self.place.leads and not (self.folder / RECORD).exists():
            self.folder.mkdir(exist_ok=True)
            data.manifest.write(self.folder / MANIFEST)
        each = part_size(len(rows), self.place, multiple=self.batch)
        each = agree(self.folder, asked, each=each, place=self.place)
        parts = Parts(folder=self.folder, items=len(rows), each=each, ending=ENDING)
        mine = parts.to_do(self.place)
        total, before = sum(len(parts.span(number)) for number in mine), 0
        for number in mine:
            span = parts.span(number)
            report = None if progress is None else partial(_shifted, progress, before, total)
            save_outputs(parts.path(number), classified(rows[span.start : span.stop], report))
            before += len(span)
        if not self.place.leads:
            return load_outputs([parts.path(number) for number in parts.of(self.place)])
        parts.wait()
        return load_outputs(parts.paths())


def save_outputs(path: Path, outputs: Outputs) -> None:
    """Rows and logits, and in the metadata what failed; a whole file or nothing."""
    tensors = {f"{LOGITS}{name}": np.ascontiguousarray(values) for name, values in outputs.logits.items()}
    failed = json.dumps({str(row): reason for row, reason in outputs.failed.items()})
    write_bytes(path, save({ROWS: outputs.rows, **tensors}, metadata={FAILED: failed}))


def load_outputs(paths: Sequence[Path]) -> Outputs:
    """Several parts as one, in their order."""
    rows = [np.empty(0, dtype=np.int64)]
    logits: dict[str, list[Any]] = {}
    failed: dict[int, str] = {}
    for path in paths:
        with safe_open(path, framework="numpy") as file:
            rows.append(file.get_tensor(ROWS))
            for name in file.keys():  # noqa: SIM118  it is no mapping
                if name != ROWS:
                    logits.setdefault(name.removeprefix(LOGITS), []).append(file.get_tensor(name))
            failed |= {int(row): str(reason) for row, reason in json.loads(file.metadata()[FAILED]).items()}
    return Outputs(
        rows=np.concatenate(rows),
        logits={name: np.concatenate(values) for name, values in logits.items()},
        failed=failed,
    )


def _shifted(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)
