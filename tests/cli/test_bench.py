"""`resnets bench`: a table that can be pasted into a report, and JSON."""

import json
from dataclasses import replace

import pytest

from resnets.cli import app
from resnets.cli.bench import figure, lines
from resnets.training import rates
from resnets.training.bench import Bench
from resnets.training.rates import Measured
from tests.cli.test_process import heavy_modules_after


def spread(median: float, unit: str) -> Measured:
    return Measured(unit=unit, n=1000, median=median, quartiles=(0.9 * median, 1.1 * median))


RESULT = Bench(
    machine={
        "processor": "INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.10GHz",
        "cores": 2,
        "memory_gib": 23.5,
        "bf16_units": "bf16 matrix units (AMX)",
        "gpu": None,
        "system": "Linux",
        "resnets": "0.1.0",
        "python": "3.11.7",
        "torch": "2.13.0",
        "pillow": "12.3.0",
        "instructions": "AVX512",
        "threads": 2,
        "norms": "fused (AVX512-BF16, g++ 12.2.0, source bf4090)",
    },
    case="resnet18, 224x224 px, batch 32, sgd, bf16 on cpu",
    rates={
        "bf16 matrix product, 2048³": spread(2.6123, "TFLOP/s"),
        "memory copy, read and written": spread(39.04, "GB/s"),
        "JPEG decode, 400 to 224 px": spread(1220.4, "images/s"),
        "loader, 32 px, batches of 128": spread(123_456, "images/s"),
    },
    parts={"forward": spread(123.4, "ms"), "loss": spread(0.01234, "ms"), "all of it": spread(400, "ms")},
    step=spread(88.12, "images/s"),
    plain=spread(18.8, "images/s"),
    ratios=spread(4.6987, "times"),
    share=0.3684,
)


def test_the_table_fits_80_columns_and_has_a_median_quartiles_and_n_in_every_row() -> None:
    shown = lines(RESULT, kept=True)
    assert max(map(len, shown)) <= 80
    rows = shown[shown.index("") + 2 :]
    assert [row.split() for row in rows[:2]] == [
        ["bf16", "matrix", "product,", "2048³", "2.61", "TFLOP/s", "2.35", "to", "2.87", "1,000"],
        ["memory", "copy,", "read", "and", "written", "39.0", "GB/s", "35.1", "to", "42.9", "1,000"],
    ]
    assert rows[9].split() == ["times", "as", "fast", "4.70", "4.23", "to", "5.17", "1,000"]


def test_what_the_figures_depend_on_is_said_before_them() -> None:
    above = "\n".join(lines(RESULT, kept=True)[:6])
    for fact in (
        "XEON",
        "2 cores",
        "bf16 matrix units (AMX)",
        "torch 2.13.0",
        "2 threads",
        "kept",
        "g++ 12.2.0",
        "batch 32",
    ):
        assert fact in above
    assert "freed memory given back" in "\n".join(lines(RESULT, kept=False))
    assert "36.8% of the matrix product's rate" in "\n".join(lines(RESULT, kept=True))


def test_a_machine_without_that_matrix_rate_has_no_share() -> None:
    assert "%" not in "\n".join(lines(replace(RESULT, share=None), kept=True))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.01234, "0.0123"), (0.5, "0.500"), (1.0, "1.00"), (99.94, "99.9"), (123.4, "123"), (123456.0, "123,456")],
)
def test_a_figure_has_three_digits(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_json_is_one_object_with_every_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rates.MATRIX_SIDE, "cpu", 128)  # the real measurement, of less work
    for name, value in (("COPIED_BYTES", 2**20), ("JPEG_PICTURES", 4), ("SMALL_PICTURES", 256)):
        monkeypatch.setattr(rates, name, value)
    command = ["bench", "--quick", "--seconds", "0.01", "--threads", "1", "--json"]
    assert app(command) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert {"machine", "case", "rates", "parts", "step", "plain", "ratios", "share", "seconds"} <= record.keys()
    assert record["step"].keys() == {"unit", "n", "median", "quartiles"}
    assert record["freed_memory_kept"] in (True, False)
    assert printed.err.startswith("1/7 ") or printed.err.startswith("1/6 ")  # without bf16 units


def test_a_wrong_use_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(["bench", "--model", "resnet19"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("resnets: there is no network named 'resnet19'")
    assert printed.err.count("\n") == 1


def test_its_help_imports_nothing_heavy() -> None:
    assert heavy_modules_after("from resnets.cli import app; assert app(['bench', '--help']) == 0") == []
