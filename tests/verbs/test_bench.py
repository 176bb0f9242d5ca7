"""A quick measurement of this machine, once: every figure has its n, and they agree with each other."""

import pytest
import torch

from resnets.base.errors import UsageError
from resnets.networks import kernels
from resnets.training.bench import PARTS, Bench
from resnets.training.recipes import Facts, recipe
from resnets.verbs.bench import QUICK_LEAST, BenchConfig, bench

MULTIPLY_ADDS = (
    40_551_040  # of ResNet-20 for one CIFAR picture: `resnets summary resnet20`; 41 million in the paper
)


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def result(told: list[tuple[str, int, int]]) -> Bench:
    before = torch.get_num_threads(), kernels.state()
    quick = BenchConfig(quick=True, seconds=0.02, threads=1)
    measured = bench(quick, progress=lambda name, done, total: told.append((name, done, total)))
    assert (torch.get_num_threads(), kernels.state()) == before  # what it changes, it puts back
    return measured


def test_every_figure_is_a_median_between_its_quartiles(result: Bench) -> None:
    for figure in (*result.rates.values(), *result.parts.values(), result.step, result.plain, result.ratios):
        low, high = figure.quartiles
        assert 0 < low <= figure.median <= high
        assert figure.n >= QUICK_LEAST


def test_the_parts_of_a_step_are_all_of_it(result: Bench) -> None:
    assert list(result.parts) == [*PARTS, "all of it"]
    parts = [result.parts[name].median for name in PARTS]
    assert sum(parts) == pytest.approx(result.parts["all of it"].median, rel=0.5)  # medians of few runs
    assert max(parts) == max(result.parts["forward"].median, result.parts["backward"].median)


def test_the_share_counts_three_passes_of_two_operations(result: Bench) -> None:
    precision = "bf16" if "bf16" in result.case else "fp32"
    product = next(
        rate for name, rate in result.rates.items() if name.startswith(precision) and name.endswith("in turns")
    )
    operations = 6 * MULTIPLY_ADDS * result.step.median
    assert result.share == pytest.approx(operations / (product.median * 1e12))


def test_the_facts_say_what_ran(result: Bench) -> None:
    chosen = recipe(Facts(pictures=50_000, size=(32, 32)))[0]["optimizer"]
    assert result.case.startswith(f"resnet20, 32x32 px, batch 16, {chosen}, ")
    assert result.machine["threads"] == 1
    assert result.machine["torch"] == torch.__version__
    assert result.machine["cores"] >= 1
    assert result.machine["memory_gib"] > 0.1
    assert result.machine["norms"].split()[0] in ("fused", "torch")


def test_it_says_what_is_measured_and_how_far_it_is(result: Bench, told: list[tuple[str, int, int]]) -> None:
    names, done, totals = zip(*told, strict=True)
    alone = [name for name in result.rates if not name.endswith("in turns")]
    assert list(names[: len(alone)]) == alone
    assert done == tuple(range(len(told)))
    assert set(totals) == {len(told)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BenchConfig(model="resnet19"), "there is no network named 'resnet19'"),
        (BenchConfig(size="big"), "--size must be N or HxW"),
        (BenchConfig(batch=1), "--batch must be at least 2"),
        (BenchConfig(seconds=0), "--seconds must be above 0, got 0"),
        (BenchConfig(seconds=float("nan")), "--seconds must be above 0, got nan"),
        (BenchConfig(threads=0), "--threads must be at least 1"),
        (BenchConfig(device="gpu"), "--device must be cpu, cuda"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(config: BenchConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench(config)
