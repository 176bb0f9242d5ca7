"""Planted label errors are listed, with few others; test pictures are left alone; what is accepted is written."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import resnets
from resnets import MissingExtra, UsageError
from resnets.data.manifest import Manifest
from resnets.understanding.doctor.inspection import Inspection
from resnets.understanding.doctor.labels import folds_of, out_of_fold

RATE = 0.05
Ints = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def cleanlab() -> None:
    pytest.importorskip("cleanlab", reason="needs the extra resnets[labels]")


def digits(count: int = 1797) -> tuple[npt.NDArray[np.uint8], Ints]:
    from sklearn.datasets import load_digits

    source = load_digits()
    return (source.images[:count] * 255 / 16).round().astype(np.uint8), source.target[:count].astype(np.int64)


def with_errors(labels: Ints, seed: int) -> tuple[Ints, set[int]]:
    chance = np.random.default_rng(seed)
    wrong = chance.choice(len(labels), round(RATE * len(labels)), replace=False)
    changed = labels.copy()
    changed[wrong] = (labels[wrong] + chance.integers(1, 10, len(wrong))) % 10
    return changed, set(wrong.tolist())


def listed(found: Inspection) -> set[int]:
    finding = found.finding("labels")
    return set() if finding is None else set(finding.rows)


@pytest.mark.usefixtures("cleanlab")
def test_planted_errors_among_digits_are_listed_with_few_others(tmp_path: Path) -> None:
    pixels, labels = digits()
    given, wrong = with_errors(labels, seed=0)
    found = resnets.inspect((pixels, given), labels=True, out=tmp_path / "out", accept=20, threads=1)
    hits = listed(found) & wrong
    assert len(hits) / len(listed(found)) > 0.9
    assert len(hits) / len(wrong) > 0.85
    assert "judged by a linear classifier on the gradients of thumbnails" in found.notes[-1]
    table = Manifest.read(tmp_path / "out" / "manifest.parquet").table
    suggested, corrected = (table[name].to_pylist() for name in ("suggested", "corrected"))
    assert {row for row, value in enumerate(suggested) if value is not None} == listed(found)
    accepted = [row for row, value in enumerate(corrected) if value is not None]
    assert len(accepted) == found.corrected == 20
    assert [corrected[row] for row in accepted] == [suggested[row] for row in accepted]
    assert sum(int(corrected[row]) == labels[row] for row in accepted) >= 19
    assert table["label"].to_pylist() == given.astype(str).tolist()
    assert "rather" in (found.findings[0].examples[0].note)


@pytest.mark.usefixtures("cleanlab")
def test_test_pictures_are_left_alone_unless_they_are_asked_for() -> None:
    pixels, labels = digits(1200)
    given, wrong = with_errors(labels, seed=1)
    parts = {"train": (pixels[:800], given[:800]), "test": (pixels[800:], given[800:])}
    data = resnets.open_data(parts)
    test = set(data.rows("test").tolist())
    assert not listed(resnets.inspect(data, labels=True, threads=1)) & test
    asked = listed(resnets.inspect(data, labels=True, split="test", threads=1))
    assert asked <= test
    assert len(asked & wrong) > 0.7 * len(test & wrong)
    with pytest.raises(UsageError, match="has no test pictures to judge; choose another --split"):
        resnets.inspect({"train": parts["train"]}, labels=True, split="test")


@pytest.mark.usefixtures("cleanlab")
def test_labels_are_judged_by_the_features_of_a_given_model(tmp_path: Path) -> None:
    import torch

    from resnets.preprocess import Preprocess
    from resnets.weights.modelfile import Model

    torch.manual_seed(0)
    pixels, labels = digits(600)
    given, wrong = with_errors(labels, seed=2)
    spec = resnets.ResNetSpec(
        block="basic", depths=(1,), width=32, stem="small", in_channels=1, heads=(("label", 10),)
    )
    head = resnets.open_data((pixels, labels)).heads
    preprocess = Preprocess(size=(8, 8), crop=1.0, mean=(0.3,), std=(0.4,), channels="grey")
    model = Model(network=resnets.build(spec), heads=head, preprocess=preprocess)
    resnets.save(tmp_path / "model.safetensors", model)
    found = resnets.inspect((pixels, given), labels=True, model=tmp_path / "model.safetensors", threads=1)
    assert "on the features of the given model" in found.notes[-1]
    assert len(listed(found) & wrong) > 0.5 * len(wrong)


@pytest.mark.usefixtures("cleanlab")
def test_where_gradients_do_not_suffice_networks_are_trained_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    from resnets.understanding.doctor import features

    monkeypatch.setattr(features, "MOST_EPOCHS", 8)
    chance = np.random.default_rng(0)
    labels = np.arange(160) % 2
    pixels = chance.integers(0, 90, (160, 12, 12, 3), dtype=np.uint8)
    pixels[labels == 1, :, :, 0] += 60  # a colour, which gradients of grey do not see
    given = labels.copy()
    given[[4, 9, 33]] = 1 - given[[4, 9, 33]]
    found = resnets.inspect((pixels, given), labels=True, threads=1)
    assert "small residual networks trained for 8 epochs at 12 x 12 pixels" in found.notes[-1]
    assert {4, 9, 33} <= listed(found)
    assert len(listed(found)) <= 10


def test_without_cleanlab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cleanlab", "cleanlab.filter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"Looking for wrong labels needs 'cleanlab'.*'resnets\[labels\]'"):
        resnets.inspect("digits", labels=True)


def test_every_class_is_spread_over_the_folds_and_equal_pictures_stay_together() -> None:
    labels = np.array([0] * 10 + [1] * 5)
    contents = [bytes([number // 2]) for number in range(10)] + [bytes([50 + number]) for number in range(5)]
    folds = folds_of(labels, contents, 5)
    assert np.bincount(folds[:10]).tolist() == [2] * 5
    assert sorted(folds[10:].tolist()) == [0, 1, 2, 3, 4]
    assert all(folds[number] == folds[number + 1] for number in range(0, 10, 2))


def test_no_picture_is_judged_by_its_own_label() -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(size=(60, 200)).astype(np.float32)  # noise: whatever is learnt is learnt by heart
    labels = chance.integers(0, 2, 60)
    contents = [bytes([number]) for number in range(60)]
    probabilities = out_of_fold(features, labels, folds_of(labels, contents, 5), 2)
    assert abs((probabilities.argmax(axis=1) == labels).mean() - 0.5) < 0.2
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(60))
