"""A pixel file as large as Kaggle's, 50,000 x 32,333 in one row group, is ingested in bounded memory.

Run by name: python -m pytest tests/proofs/test_kaggle_sized.py -s. It takes minutes and 5 GB of disk;
RESNETS_PROOF_ROWS=5000 runs it smaller.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = int(os.environ.get("RESNETS_PROOF_ROWS", "50000"))
LIMIT = 2 * 2**30  # bytes of peak resident memory

WRITE = """
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
rows, path = int(sys.argv[1]), sys.argv[2]
shades = [pa.array(np.random.default_rng(place).integers(0, 256, rows, np.uint8)) for place in range(251)]
columns = {"image_id": pa.array([f"Train_{row}" for row in range(rows)])}
columns |= {str(pixel): shades[pixel % 251] for pixel in range(137 * 236)}
table = pa.table(columns)
pq.write_table(table, path, row_group_size=rows, write_statistics=False)
assert pq.ParquetFile(path).num_row_groups == 1
"""

INGEST = """
import json, resource, sys, time
import numpy as np
from pathlib import Path
from resnets.data.sources import find_source
started = time.monotonic()
source = find_source(Path(sys.argv[1]))
listing = source.listing()
seconds = time.monotonic() - started
rows = len(listing.paths)
shades = np.stack([np.random.default_rng(place).integers(0, 256, rows, np.uint8) for place in range(251)])
for row in (0, 1, len(listing.paths) // 2, len(listing.paths) - 1):
    wanted = shades[np.arange(137 * 236) % 251, row].reshape(137, 236)
    assert np.array_equal(source.read(row), wanted), row
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"pictures": len(listing.paths), "seconds": seconds, "peak": peak}))
"""


def ran(code: str, *arguments: str | Path, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"RESNETS_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """The folder; its pixels are noise, which does not compress, from 251 generators in turn."""
    root = tmp_path / "kaggle"
    root.mkdir()
    lines = [f"Train_{row},{row % 168},{row % 11},{row % 7},x" for row in range(ROWS)]
    heading = "image_id,grapheme_root,vowel_diacritic,consonant_diacritic,grapheme\n"
    (root / "train.csv").write_text(heading + "\n".join(lines) + "\n")
    ran(WRITE, str(ROWS), root / "train_image_data_0.parquet", cache=tmp_path / "cache")
    return root


def test_a_kaggle_sized_file_is_ingested_within_two_gigabytes(kaggle: Path, tmp_path: Path) -> None:
    size = (kaggle / "train_image_data_0.parquet").stat().st_size
    found = json.loads(ran(INGEST, kaggle, cache=tmp_path / "cache"))
    print(
        f"\n{found['pictures']:,} pictures, a file of {size / 2**30:.2f} GiB: {found['seconds']:.0f} s, "
        f"peak {found['peak'] / 2**20:,.0f} MiB"
    )
    assert found["pictures"] == ROWS
    assert found["peak"] <= LIMIT
    assert sum(path.stat().st_size for path in (tmp_path / "cache" / "tables").iterdir()) == ROWS * 137 * 236
