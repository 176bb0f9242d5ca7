"""Comparisons in turns: what was run is not run again, rounds are paired, the table says what the lines say."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from rounds import Comparison, Record, in_own_process, rate_of, run_rounds, spread, stored, table


def sides(told: list[str], **rates: float) -> dict[str, Callable[[int], Record]]:
    def side(name: str) -> Record:
        told.append(name)
        return {"rate": rates[name] + told.count(name), "peak_mb": 100}

    return {name: lambda turn, name=name: side(name) | {"turn": turn} for name in rates}


def comparison(told: list[str], **rates: float) -> Comparison:
    return Comparison(case="a case", settings={"epochs": 2, "size": (3, 4)}, sides=sides(told, **rates))


def test_sides_take_turns_and_each_round_begins_with_another(tmp_path: Path) -> None:
    told: list[str] = []
    run_rounds([comparison(told, ours=1, theirs=1, bare=1)], rounds=3, out=tmp_path / "lines")
    assert told == ["ours", "theirs", "bare", "theirs", "bare", "ours", "bare", "ours", "theirs"]


def test_a_comparison_that_was_stopped_goes_on_where_it_stood(tmp_path: Path) -> None:
    out, told = tmp_path / "lines", []
    both = comparison(told, ours=1, theirs=1)
    run_rounds([both], rounds=2, out=out)
    lines = out.read_text().splitlines()
    out.write_text("\n".join(lines[:3]) + "\n" + lines[3][:20])  # killed while it wrote
    told.clear()
    records = run_rounds([both], rounds=3, out=out)
    assert told == ["ours", "ours", "theirs"]
    assert len(records) == len(stored(out)) == 6


def test_lines_of_other_settings_are_neither_taken_up_nor_touched(tmp_path: Path) -> None:
    out, told = tmp_path / "lines", []
    both = comparison(told, ours=1, theirs=1)
    run_rounds([replace(both, settings={"epochs": 3})], rounds=1, out=out)
    records = run_rounds([both], rounds=1, out=out)
    assert told == ["ours", "theirs"] * 2
    assert [record["settings"] for record in records] == [{"epochs": 2, "size": (3, 4)}] * 2
    assert len(stored(out)) == 4


def test_the_table_pairs_rounds_and_compares_with_the_first_side(tmp_path: Path) -> None:
    both = comparison([], ours=9, theirs=4)  # 10, 11, 12 and 5, 6, 7 images/s
    records = run_rounds([both], rounds=3, out=tmp_path / "lines")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(records, [both]).splitlines()]
    assert rows[2] == ["a case", "ours", "11.0 [10.5, 11.5] images/s", "3", "", "100"]
    assert rows[3] == ["a case", "theirs", "6.00 [5.50, 6.50] images/s", "3", "1.83 [1.77, 1.92]", "100"]
    assert len(rows) == 4


def test_one_value_has_no_quartiles() -> None:
    assert spread([1234.5]) == "1,234"


def test_a_process_gives_what_it_prints_its_time_and_its_own_memory() -> None:
    ours = bytearray(b"x") * 600_000_000  # what the parent holds is not the child's
    code = "import time; held = bytearray(b'x') * 300_000_000; time.sleep(1); print('done')"
    printed, figures = in_own_process([sys.executable, "-c", code])
    assert len(ours) == 600_000_000
    assert printed == "done\n"
    assert 1 <= figures["seconds"] < 60
    assert 300 <= figures["peak_mb"] < 400


def test_a_side_that_fails_ends_the_comparison_with_its_command() -> None:
    with pytest.raises(SystemExit, match=r"status 3 of: .* raise SystemExit\(3\)"):
        in_own_process([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_rate_is_that_of_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr("benchmarks.rounds.time.monotonic", lambda: float(next(ticks)))
    seen: list[int] = []
    loader = [([0] * 8, None), ([0] * 2, None)]
    assert rate_of(loader, lambda images, labels: seen.append(len(images)), epochs=3) == 10.0
    assert seen == [8, 2] * 3


def test_lines_can_be_read_by_anything(tmp_path: Path) -> None:
    run_rounds([comparison([], ours=1)], rounds=1, out=tmp_path / "lines")
    record = json.loads((tmp_path / "lines").read_text())
    assert record.keys() >= {"case", "side", "round", "date", "settings", "machine", "unit", "rate", "peak_mb"}
