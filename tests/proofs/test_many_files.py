"""A table of 100,000 rows and a folder of 50,000 small files are listed and their headers checked in a minute.

Run by name: python -m pytest tests/proofs/test_many_files.py -s. It writes 50,000 small PNGs first (200 MB of
blocks), which takes longer than looking at them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES, ROWS, CLASSES = 50_000, 100_000, 10
LIMIT = 2**30  # bytes of peak resident memory
SECONDS = 60.0

WRITE = """
import csv, io, sys
from pathlib import Path
from PIL import Image
root, files, rows, classes = Path(sys.argv[1]), *map(int, sys.argv[2:])
for one in range(classes):
    (root / "pictures" / f"c{one}").mkdir(parents=True)
for number in range(files):
    path = root / "pictures" / f"c{number % classes}" / f"{number:05d}.png"
    Image.new("L", (20 + number % 7, 20 + number % 5), number % 256).save(path, compress_level=1)
with open(root / "table.csv", "w", newline="") as handle:
    writer = csv.writer(handle)
    writer.writerow(["path", "label"])
    writer.writerows((f"pictures/c{n % files % classes}/{n % files:05d}.png", n % classes) for n in range(rows))
"""

OPEN = """
import json, resource, sys, time
import resnets
started = time.monotonic()
data = resnets.open_data(sys.argv[1])
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"pictures": len(data.rows("all")), "seconds": seconds, "peak": peak}))
"""


def ran(code: str, *arguments: object) -> str:
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("many")
    if os.statvfs(place).f_favail < 2 * FILES:
        pytest.skip("too few inodes are free")
    ran(WRITE, place, FILES, ROWS, CLASSES)
    return place


@pytest.mark.parametrize(("name", "pictures"), [("pictures", FILES), ("table.csv", ROWS)])
def test_all_of_it_is_listed_and_checked_within_a_minute_and_a_gibibyte(
    root: Path, name: str, pictures: int
) -> None:
    found = json.loads(ran(OPEN, root / name))
    print(f"\n{name}: {found['pictures']:,} pictures, {found['seconds']:.1f} s, {found['peak'] / 2**20:.0f} MiB")
    assert found["pictures"] == pictures
    assert found["seconds"] < SECONDS
    assert found["peak"] < LIMIT
