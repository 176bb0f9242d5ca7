"""Pictures made ready by the kernel: bit for bit what the steps one after the other give."""

from itertools import product

import numpy as np
import pytest
import torch

from resnets.base.errors import UsageError
from resnets.data.augment.batch import normalise, ready_batch
from resnets.data.augment.settings import Augment, Border
from resnets.networks import kernels
from resnets.networks.kernels.pictures import BORDERS, can_make_ready, make_ready

pytestmark = pytest.mark.usefixtures("fused")

MEAN, STD = (0.485, 0.456, 0.406, 0.5), (0.229, 0.224, 0.225, 0.25)
SIZES = ((32, 32), (28, 28), (7, 9), (9, 7), (5, 33))
PAD = 4


def pictures(count: int, height: int, width: int, channels: int) -> torch.Tensor:
    pixels = np.random.default_rng(1).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def ready(images: torch.Tensor, augment: Augment, dtype: torch.dtype, *, on: bool) -> torch.Tensor:
    channels = images.shape[1]
    rows = np.arange(len(images))
    with kernels.using(on):
        return ready_batch(
            images, rows, settings=augment, seed=3, epoch=1, mean=MEAN[:channels], std=STD[:channels], dtype=dtype
        )


@pytest.mark.parametrize(("border", "channels"), [*product(BORDERS, (1, 3, 4))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shifted_mirrored_and_normalised_pictures_have_the_same_bits(
    border: Border, channels: int, dtype: torch.dtype
) -> None:
    for size in SIZES:
        images = pictures(40, *size, channels)
        for augment in (
            Augment(geometry="pad-crop", pad=PAD, border=border, flip=0.5),
            Augment(geometry="pad-crop", pad=PAD, border=border),
            Augment(flip=0.3),
            Augment(),
            Augment(pad=40),  # of nothing that is shifted
        ):
            ours, theirs = (ready(images, augment, dtype, on=on) for on in (True, False))
            assert ours.dtype == dtype
            assert ours.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(ours, theirs), (size, augment)


def test_a_picture_that_is_cut_at_known_places_is_looked_up_in_the_table() -> None:
    image = torch.tensor([[10, 11, 12], [13, 14, 15]], dtype=torch.uint8)[None, None]
    table = torch.arange(256, dtype=torch.float32)[None] * 10
    offsets, mirror = np.array([[2, 0]]), np.array([True])  # one row down, one column to the left, then mirrored
    zero = make_ready(image, table, offsets=offsets, mirrored=mirror, pad=1, border="zero")
    assert zero[0, 0].tolist() == [[140, 130, 0], [0, 0, 0]]
    edge = make_ready(image, table, offsets=offsets, mirrored=mirror, pad=1, border="edge")
    assert edge[0, 0].tolist() == [[140, 130, 130], [140, 130, 130]]
    reflected = make_ready(image, table, offsets=offsets, mirrored=mirror, pad=1, border="reflect")
    assert reflected[0, 0].tolist() == [[140, 130, 140], [110, 100, 110]]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    images, augment = pictures(3, 11, 5, 3), Augment(geometry="pad-crop", pad=2, flip=0.5)
    before = torch.get_num_threads()
    expected = ready(images, augment, torch.float32, on=False)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(ready(images, augment, torch.float32, on=True), expected)
    finally:
        torch.set_num_threads(before)


def test_pictures_with_one_channel_after_the_other_are_normalised_alike() -> None:
    images = pictures(4, 6, 5, 3).contiguous()
    with kernels.using(True):
        ours = normalise(images, mean=MEAN[:3], std=STD[:3])
    with kernels.using(False):
        assert torch.equal(ours, normalise(images, mean=MEAN[:3], std=STD[:3]))


def test_an_empty_batch_stays_empty() -> None:
    augment = Augment(geometry="pad-crop", pad=PAD, flip=0.5)
    assert ready(pictures(0, 8, 8, 3), augment, torch.float32, on=True).shape == (0, 3, 8, 8)


def test_a_reflection_wider_than_the_picture_is_refused_in_the_same_words() -> None:
    augment = Augment(geometry="pad-crop", pad=8, border="reflect")
    for on in (True, False):
        with pytest.raises(UsageError, match="reflected border of 8 pixels needs pictures of more than 8 pixels"):
            ready(pictures(2, 8, 20, 3), augment, torch.float32, on=on)


def test_places_outside_the_border_are_refused() -> None:
    images, table = pictures(2, 6, 6, 3), torch.zeros(3, 256)
    for wrong in (
        {"offsets": np.array([[0, 0], [0, 3]]), "pad": 1},
        {"offsets": np.array([[-1, 0], [0, 0]]), "pad": 1},
        {"offsets": np.array([[0, 0]]), "pad": 1},
        {"offsets": np.zeros((2, 2), np.int32), "pad": 1},
        {"offsets": np.zeros((2, 2), np.int64), "pad": 6, "border": "reflect"},
        {"mirrored": np.array([True])},
        {"mirrored": np.array([1, 0])},
    ):
        with pytest.raises(ValueError, match="do not go together"):
            make_ready(images, table, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not go together"):
        make_ready(images, torch.zeros(3, 255))


def test_torch_does_it_where_the_kernel_cannot() -> None:
    images = pictures(1, 6, 6, 3)
    assert can_make_ready(images, torch.float32)
    assert not can_make_ready(images.float(), torch.float32)
    assert not can_make_ready(images, torch.float64)
    assert not can_make_ready(images.to("meta"), torch.float32)
    with kernels.using(False):
        assert not can_make_ready(images, torch.float32)
        with pytest.raises(RuntimeError, match="where can_make_ready says that it cannot run"):
            make_ready(images, torch.zeros(3, 256))
