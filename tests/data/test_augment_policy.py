"""RandAugment and TrivialAugment: each operation against Pillow, the ranges against the papers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from resnets.data.augment import operations
from resnets.data.augment.policy import LARGEST, NAMES, apply_policy, change_each
from resnets.data.augment.settings import Augment


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """(4, 3, 20, 23): a ramp with noise that does not use the full range, noise, and two of few values."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(40, 190, 20 * 23 * 3).reshape(20, 23, 3) + generator.normal(0, 9, (20, 23, 3))
    noise = generator.integers(0, 256, (20, 23, 3))
    few = generator.integers(0, 2, (20, 23, 3)) * 77 + 20
    even = np.full((20, 23, 3), 130)
    stack = np.stack([ramp, noise, few, even]).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(stack).permute(0, 3, 1, 2)


def with_pillow(images: torch.Tensor, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    pillow = [Image.fromarray(picture) for picture in images.permute(0, 2, 3, 1).contiguous().numpy()]
    return np.stack([np.asarray(change(picture)) for picture in pillow]).transpose(0, 3, 1, 2).astype(int)


def amounts(value: float) -> torch.Tensor:
    return torch.full((4, 1, 1, 1), value)


def test_autocontrast_and_equalize_are_pillows(pictures: torch.Tensor) -> None:
    stretched = operations.autocontrast(pictures).numpy()
    assert np.abs(stretched - with_pillow(pictures, ImageOps.autocontrast)).max() <= 1
    np.testing.assert_array_equal(operations.equalize(pictures), with_pillow(pictures, ImageOps.equalize))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_posterize_is_pillows(pictures: torch.Tensor, bits: int) -> None:
    expected = with_pillow(pictures, lambda picture: ImageOps.posterize(picture, bits))
    np.testing.assert_array_equal(operations.posterize(pictures, amounts(bits)), expected)


@pytest.mark.parametrize("threshold", [0, 100, 256])
def test_solarize_is_pillows(pictures: torch.Tensor, threshold: int) -> None:
    expected = with_pillow(pictures, lambda picture: ImageOps.solarize(picture, threshold))
    np.testing.assert_array_equal(operations.solarize(pictures, amounts(threshold)), expected)


@pytest.mark.parametrize("factor", [0.1, 0.8, 1.9])
@pytest.mark.parametrize(
    ("change", "enhancer"),
    [
        (operations.brightness, ImageEnhance.Brightness),
        (operations.contrast, ImageEnhance.Contrast),
        (operations.saturation, ImageEnhance.Color),
        (operations.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillows(
    pictures: torch.Tensor,
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    enhancer: type[ImageEnhance.Brightness],
    factor: float,
) -> None:
    result = operations.as_bytes(change(operations.as_floats(pictures), amounts(factor)))
    expected = with_pillow(pictures, lambda picture: enhancer(picture).enhance(factor))
    assert np.abs(result.numpy() - expected).max() <= 2  # Pillow cuts fractions off, we round


def changed(pictures: torch.Tensor, name: str, *, sign: float = 1, share: float = 1, wide: bool) -> np.ndarray:
    count = len(pictures)
    chosen = np.full(count, NAMES.index(name))
    return change_each(pictures, chosen, np.full(count, sign), np.full(count, share), wide=wide).numpy()


def test_a_translation_of_half_the_papers_share_moves_pixels_and_leaves_grey() -> None:
    picture = torch.arange(331, dtype=torch.uint8).expand(1, 3, 4, 331)
    moved = changed(picture, "translate-x", share=0.5, wide=False)  # 75 of 331 pixels
    np.testing.assert_array_equal(moved[0, 0, 0, : 331 - 75], picture[0, 0, 0, 75:])
    assert (moved[0, :, :, 331 - 74 :] == operations.GREY).all()
    back = changed(picture, "translate-x", sign=-1, share=0.25, wide=True)  # 8 pixels
    np.testing.assert_array_equal(back[0, 0, 0, 8:], picture[0, 0, 0, : 331 - 8])


def test_a_rotation_by_ninety_degrees_turns_a_square_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)
    turned = changed(torch.from_numpy(pixels), "rotate", share=90 / 135, wide=True)
    assert np.abs(turned[0].astype(int) - np.rot90(pixels[0], k=1, axes=(1, 2))).max() <= 1


def test_a_shear_moves_lines_in_proportion_to_their_distance_from_the_middle() -> None:
    picture = torch.zeros(1, 1, 9, 41, dtype=torch.uint8)
    picture[:, :, :, 20] = 255
    sheared = changed(picture, "shear-x", share=1 / 0.99, wide=True)  # one pixel a line
    assert sheared[0, 0].argmax(axis=1).tolist() == [24, 23, 22, 21, 20, 19, 18, 17, 16]


def test_every_operation_changes_something_but_identity(pictures: torch.Tensor) -> None:
    for wide in (False, True):
        same = {name for name in NAMES if np.array_equal(changed(pictures, name, wide=wide), pictures)}
        assert same == {"identity"}
    assert len(LARGEST) == 14


def test_pictures_without_a_third_channel_and_with_alpha_go_through() -> None:
    for channels in (1, 4):
        pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, channels), dtype=np.uint8)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        result = apply_policy(images, np.arange(60), settings=Augment(policy="trivialaugment"), seed=0, epoch=0)
        assert result.shape == images.shape
        assert not torch.equal(result, images)


def test_magnitude_0_of_randaugment_changes_little_but_what_has_no_magnitude(pictures: torch.Tensor) -> None:
    for name in NAMES:
        difference = np.abs(changed(pictures, name, share=0, wide=False) - pictures.numpy().astype(int)).max()
        assert (difference > 1) == (name in ("autocontrast", "equalize"))
