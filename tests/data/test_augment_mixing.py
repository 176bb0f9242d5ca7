"""Mixup and cutmix: partners, weights, boxes and labels; the same again for the same step."""

import numpy as np
import pytest
import torch

from resnets.data.augment.mixing import mix
from resnets.data.augment.settings import Augment
from resnets.data.source import MISSING

SIDE = 20


@pytest.fixture
def images() -> torch.Tensor:
    """64 even pictures; picture k is k everywhere."""
    even = torch.arange(64.0)[:, None, None, None].expand(64, 3, SIDE, SIDE)
    return even.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def labels() -> dict[str, torch.Tensor]:
    root = torch.arange(64)
    root[3] = MISSING
    return {"root": root, "vowel": torch.arange(64) % 11}


def test_mixup_gives_each_picture_a_share_of_the_one_before_it(
    images: torch.Tensor, labels: dict[str, torch.Tensor]
) -> None:
    mixed = mix(images, labels, settings=Augment(mixup=0.4), seed=0, step=5)
    own, other = torch.arange(64.0), torch.arange(64.0).roll(1)
    expected = mixed.weight * own + (1 - mixed.weight) * other
    torch.testing.assert_close(mixed.images[:, 1, 3, 4], expected)
    assert mixed.weight.unique().numel() == 64
    assert mixed.first is labels
    assert mixed.second["vowel"].tolist() == [63 % 11, *(number % 11 for number in range(63))]


def test_missing_labels_stay_missing_on_both_sides(images: torch.Tensor, labels: dict[str, torch.Tensor]) -> None:
    mixed = mix(images, labels, settings=Augment(mixup=1.0), seed=0, step=0)
    assert mixed.first["root"][3] == MISSING
    assert mixed.second["root"][4] == MISSING
    assert (mixed.second["root"] == MISSING).sum() == 1


def test_cutmix_puts_a_box_of_the_partner_in_and_weighs_by_its_exact_area(
    images: torch.Tensor, labels: dict[str, torch.Tensor]
) -> None:
    mixed = mix(images, labels, settings=Augment(cutmix=1.0), seed=0, step=1)
    for number in range(64):
        plane = mixed.images[number, 0]
        foreign = plane == (number - 1) % 64
        assert (foreign | (plane == number)).all()
        assert mixed.weight[number] == pytest.approx(1 - foreign.float().mean().item(), abs=1e-6)
        lines, columns = foreign.any(dim=1).nonzero(), foreign.any(dim=0).nonzero()
        if len(lines):  # a full rectangle
            box = (lines.max() - lines.min() + 1) * (columns.max() - columns.min() + 1)
            assert box == foreign.sum()
    assert 0.4 < mixed.weight.mean() < 0.75  # 0.5 for Beta(1, 1), more as boxes are cut off at the border


@pytest.mark.parametrize("settings", [Augment(mixup=0.2), Augment(cutmix=1.0)])
def test_mixed_pictures_keep_type_and_memory(images: torch.Tensor, settings: Augment) -> None:
    for kind in (torch.float32, torch.bfloat16):
        mixed = mix(images.to(kind), {}, settings=settings, seed=0, step=0).images
        assert mixed.dtype == kind
        assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_weights_follow_the_beta_distribution() -> None:
    settings = Augment(mixup=0.2)
    images = torch.zeros(100, 1, 1, 1)
    weights = torch.cat([mix(images, {}, settings=settings, seed=0, step=step).weight for step in range(40)])
    assert abs(weights.mean() - 0.5) < 0.03
    assert abs(weights.var() - 1 / (4 * (2 * 0.2 + 1))) < 0.01  # the variance of Beta(a, a)


def test_a_step_replays_and_micro_batches_differ(images: torch.Tensor, labels: dict[str, torch.Tensor]) -> None:
    settings = Augment(mixup=0.3, cutmix=1.0)
    first = mix(images, labels, settings=settings, seed=2, step=9)
    again = mix(images, labels, settings=settings, seed=2, step=9)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.weight, again.weight)
    for seed, step, micro_batch in ((2, 9, 1), (2, 10, 0), (3, 9, 0)):
        other = mix(images, labels, settings=settings, seed=seed, step=step, micro_batch=micro_batch)
        assert not torch.equal(first.weight, other.weight)


def test_with_both_on_each_batch_takes_one_of_them(images: torch.Tensor) -> None:
    settings = Augment(mixup=1.0, cutmix=1.0)
    whole = 0
    for step in range(40):
        mixed = mix(images[:8], {}, settings=settings, seed=0, step=step).images
        whole += int(all(picture.unique().numel() == 1 for picture in mixed))  # mixup keeps even pictures even
    assert 10 <= whole <= 30


def test_a_single_picture_is_mixed_with_itself() -> None:
    one = torch.full((1, 3, 4, 4), 7.0)
    for settings in (Augment(mixup=1.0), Augment(cutmix=1.0)):
        mixed = mix(one, {"label": torch.tensor([2])}, settings=settings, seed=0, step=0)
        torch.testing.assert_close(mixed.images, one)
        assert mixed.second["label"].tolist() == [2]


def test_empty_batches_are_mixed_to_nothing() -> None:
    mixed = mix(torch.empty(0, 3, 4, 4), {}, settings=Augment(cutmix=1.0), seed=0, step=0)
    assert mixed.images.shape == (0, 3, 4, 4)
    assert np.size(mixed.weight.numpy()) == 0
