"""Pixels changed on the device: known answers by hand, Pillow as the reference, independence of the batch."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from resnets.base.errors import UsageError
from resnets.data.augment.batch import augment_batch, erase, flip, jitter, normalise, pad_crop, resized_crop
from resnets.data.augment.settings import Augment


def counting(count: int, height: int, width: int, channels: int = 1) -> torch.Tensor:
    """Pictures (B, C, H, W), channels last, whose values count up."""
    values = np.arange(count * height * width * channels) % 251
    pixels = values.astype(np.uint8).reshape(count, height, width, channels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def random_pictures(count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("border", "expected"),
    [
        ("zero", [[0, 0, 0], [0, 10, 11], [0, 13, 14]]),
        ("edge", [[10, 10, 11], [10, 10, 11], [13, 13, 14]]),
        ("reflect", [[14, 13, 14], [11, 10, 11], [14, 13, 14]]),
    ],
)
def test_a_picture_shifted_down_and_right_by_one_shows_its_border(border: str, expected: list[list[int]]) -> None:
    picture = torch.tensor([[10, 11, 12], [13, 14, 15], [16, 17, 18]], dtype=torch.uint8)[None, None]
    shifted = pad_crop(picture, np.array([[0, 0]]), pad=1, border=border)  # type: ignore[arg-type]
    assert shifted[0, 0].tolist() == expected


def test_pad_crop_with_known_offsets_gives_each_picture_its_own_window() -> None:
    images = counting(3, 4, 5, 3)
    offsets = np.array([[2, 2], [0, 4], [3, 1]])
    cut = pad_crop(images, offsets, pad=2, border="zero")
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    for number, (down, right) in enumerate(offsets):
        np.testing.assert_array_equal(cut[number], padded[number, :, down : down + 4, right : right + 5])
    assert cut.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("border", "name"), [("zero", "constant"), ("edge", "edge"), ("reflect", "reflect")])
def test_borders_are_numpys(border: str, name: str) -> None:
    images = random_pictures(2, 6, 7)
    offsets = np.array([[0, 6], [6, 0]])
    cut = pad_crop(images, offsets, pad=3, border=border)  # type: ignore[arg-type]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode=name)  # type: ignore[call-overload]
    for number, (down, right) in enumerate(offsets):
        np.testing.assert_array_equal(cut[number], padded[number, :, down : down + 6, right : right + 7])


def test_a_reflection_wider_than_the_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="reflected border of 4 pixels needs pictures of more than 4 pixels"):
        pad_crop(counting(1, 4, 4), np.zeros((1, 2), np.int64), pad=4, border="reflect")


def test_flip_mirrors_the_chosen_pictures_left_to_right() -> None:
    images = counting(3, 2, 4, 3)
    mirrored = flip(images, np.array([False, True, False]))
    np.testing.assert_array_equal(mirrored[1], images.numpy()[1, :, :, ::-1])
    np.testing.assert_array_equal(mirrored[[0, 2]], images[[0, 2]])
    np.testing.assert_array_equal(flip(images, np.zeros(3, bool)), images)
    np.testing.assert_array_equal(flip(images, np.ones(3, bool)), images.numpy()[:, :, :, ::-1])


def test_a_resized_crop_equals_pillows_bilinear_enlargement() -> None:
    images = random_pictures(3, 16, 24)
    boxes = np.array([[0, 0, 16, 24], [3, 5, 8, 11], [15, 0, 1, 24]])
    cut = resized_crop(images, boxes)
    np.testing.assert_array_equal(cut[0], images[0])
    for number, (top, left, height, width) in enumerate(boxes):
        part = images[number, :, top : top + height, left : left + width].permute(1, 2, 0).contiguous().numpy()
        expected = np.asarray(Image.fromarray(part).resize((24, 16), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(cut[number].permute(1, 2, 0).numpy() - expected).max() <= 1


def test_normalise_is_value_over_255_less_mean_over_deviation() -> None:
    images = random_pictures(4, 5, 6)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    exact = (images.double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    result = normalise(images, mean=mean, std=std)
    torch.testing.assert_close(result, exact.float(), rtol=1e-6, atol=1e-6)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normalise(images, mean=mean, std=std, dtype=torch.bfloat16), result.bfloat16())
    plain = normalise(images.contiguous(), mean=mean, std=std)
    torch.testing.assert_close(plain, result, rtol=0, atol=0)


def test_normalise_takes_grey_pictures_and_empty_batches() -> None:
    grey = normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), mean=(0.5,), std=(0.25,))
    assert grey.flatten().tolist() == [-2, 2]
    assert normalise(random_pictures(0, 4, 4), mean=(0.5,) * 3, std=(0.5,) * 3).shape == (0, 3, 4, 4)


def test_jitter_is_pillows_brightness_contrast_and_colour() -> None:
    images = random_pictures(2, 9, 7)
    factors = np.array([[1.2, 0.7, 1.5], [0.8, 1.3, 0.4]])
    result = jitter(images, factors)
    for number, (bright, contrast, colour) in enumerate(factors):
        picture = Image.fromarray(images[number].permute(1, 2, 0).contiguous().numpy())
        picture = ImageEnhance.Brightness(picture).enhance(bright)
        picture = ImageEnhance.Contrast(picture).enhance(contrast)
        expected = np.asarray(ImageEnhance.Color(picture).enhance(colour)).astype(int)
        assert np.abs(result[number].permute(1, 2, 0).numpy() - expected).max() <= 4  # Pillow rounds at each step


def test_jitter_leaves_grey_pictures_grey_and_alpha_alone() -> None:
    assert jitter(counting(2, 3, 3), np.full((2, 3), 0.9)).shape == (2, 1, 3, 3)
    four = random_pictures(2, 3, 3, 4)
    np.testing.assert_array_equal(jitter(four, np.full((2, 3), 0.9))[:, 3], four[:, 3])


def test_erasing_fills_boxes_with_the_mean() -> None:
    rows = np.arange(200)
    images = torch.ones(200, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    erased = erase(images, rows, probability=0.5, seed=0, epoch=0)
    share = (erased == 0).float().mean(dim=(1, 2, 3))
    assert 0.38 < (share > 0).float().mean() < 0.62
    assert share.max() < 0.4
    assert erased.is_contiguous(memory_format=torch.channels_last)
    assert (images == 1).all()
    assert erase(images, rows, probability=0, seed=0, epoch=0) is images


@pytest.mark.parametrize(
    "settings",
    [
        Augment(geometry="pad-crop", pad=2, border="zero", flip=0.5),
        Augment(geometry="rrc", flip=0.5, colour=0.3),
        Augment(policy="randaugment"),
        Augment(policy="trivialaugment", colour=0.1),
    ],
)
def test_a_picture_is_changed_the_same_alone_and_in_a_batch(settings: Augment) -> None:
    images, rows = random_pictures(24, 12, 10), np.arange(100, 124)
    together = augment_batch(images, rows, settings=settings, seed=1, epoch=2)
    assert together.dtype == torch.uint8
    assert together.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(together, images)
    shuffled = np.random.default_rng(1).permutation(24)
    other = augment_batch(images[shuffled], rows[shuffled], settings=settings, seed=1, epoch=2)
    for place, number in enumerate(shuffled):
        assert torch.equal(other[place], together[number])
    alone = augment_batch(images[7:8], rows[7:8], settings=settings, seed=1, epoch=2)
    assert torch.equal(alone[0], together[7])
    assert not torch.equal(augment_batch(images, rows, settings=settings, seed=1, epoch=3), together)


@pytest.mark.parametrize("geometry", ["pad-crop", "rrc"])
def test_an_empty_batch_stays_empty(geometry: str) -> None:
    settings = Augment(geometry=geometry, pad=1, flip=0.5, colour=0.2, policy="trivialaugment")  # type: ignore[arg-type]
    rows = np.empty(0, np.int64)
    result = augment_batch(random_pictures(0, 8, 8), rows, settings=settings, seed=0, epoch=0)
    assert result.shape == (0, 3, 8, 8)


def test_no_settings_change_nothing() -> None:
    images = random_pictures(2, 4, 4)
    assert augment_batch(images, np.arange(2), settings=Augment(), seed=0, epoch=0) is images
