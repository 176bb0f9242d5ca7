"""Settings of augmentation: checked once, stored as JSON, sensible by default; no torch is needed for them."""

import json
import subprocess
import sys

import pytest

from resnets.base.errors import UsageError
from resnets.data.augment.settings import Augment, default_augment
from resnets.data.source import Traits


def test_settings_survive_json() -> None:
    settings = Augment(geometry="rrc", scale=0.2, ratio=(0.5, 2.0), flip=0.5, policy="randaugment", mixup=0.2)
    assert Augment.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_settings_need_no_torch() -> None:
    code = (
        "import sys; import resnets.data.augment.settings, resnets.data.augment.geometry; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"geometry": "crop"}, r"geometry must be one of none, pad-crop, rrc, got 'crop'"),
        ({"border": "black"}, r"border must be one of zero, edge, reflect, got 'black'"),
        ({"policy": "auto"}, r"policy must be one of none, randaugment, trivialaugment, got 'auto'"),
        ({"flip": 1.5}, r"flip must be a probability from 0 to 1, got 1.5"),
        ({"erasing": -0.1}, r"erasing must be a probability"),
        ({"mixup": -1.0}, r"mixup must be a number of at least 0, got -1.0; 0 is off"),
        ({"cutmix": float("nan")}, r"cutmix must be a number"),
        ({"mixup": float("inf")}, r"mixup must be a number"),
        ({"pad": -1}, r"pad must be a number of at least 0"),
        ({"colour": 2.0}, r"colour must be from 0 to 1, got 2.0"),
        ({"scale": 0.0}, r"scale must be above 0 and at most 1, got 0.0"),
        ({"ratio": (2.0, 1.0)}, r"ratio must be \(smallest, largest\) above 0"),
        ({"policy_magnitude": 31}, r"policy_magnitude must be from 0 to 30"),
    ],
)
def test_wrong_settings_say_what_is_right(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Augment(**wrong)  # type: ignore[arg-type]


def test_cifar_is_shifted_by_four_pixels_and_mirrored() -> None:  # He et al. 2015, section 4.2
    settings, reason = default_augment(
        size=(32, 32), pictures=45_000, traits=Traits(), same_size=True, resize="crop"
    )
    assert settings == Augment(geometry="pad-crop", pad=4, border="reflect", flip=0.5)
    assert "4 px" in reason
    assert "flip" in reason


def test_digits_are_shifted_by_one_pixel_and_distorted_never_mirrored_never_coloured() -> None:
    traits = Traits(mirror=False, drawings=True)
    settings, reason = default_augment(size=(8, 8), pictures=60_000, traits=traits, same_size=True, resize="crop")
    assert settings == Augment(geometry="pad-crop", pad=1, border="edge", flip=0.0, affine=0.1, elastic=0.04)
    assert "no flip" in reason


def test_drawings_that_may_be_mirrored_are_not_distorted() -> None:
    traits = Traits(drawings=True)
    settings, _ = default_augment(size=(28, 28), pictures=60_000, traits=traits, same_size=True, resize="crop")
    assert (settings.affine, settings.elastic, settings.flip) == (0, 0, 0.5)


def test_pictures_cut_to_their_ink_are_never_cropped_again() -> None:
    settings, reason = default_augment(
        size=(224, 224), pictures=60_000, traits=Traits(), same_size=False, resize="ink"
    )
    assert (settings.geometry, settings.border) == ("pad-crop", "edge")
    assert "writing" in reason


def test_large_drawings_are_not_cropped() -> None:
    settings, _ = default_augment(
        size=(128, 128), pictures=50_000, traits=Traits(drawings=True), same_size=False, resize="crop"
    )
    assert (settings.geometry, settings.pad, settings.colour) == ("pad-crop", 16, 0)


@pytest.mark.parametrize(
    ("pictures", "scale", "colour"), [(245, 0.35, 0), (5_000, 0.35, 0.2), (1_281_167, 0.08, 0.2)]
)
def test_photographs_are_cropped_and_few_of_them_keep_their_colours(
    pictures: int, scale: float, colour: float
) -> None:
    settings, reason = default_augment(
        size=(224, 224), pictures=pictures, traits=Traits(), same_size=False, resize="crop"
    )
    assert (settings.geometry, settings.scale, settings.colour) == ("rrc", scale, colour)
    assert not settings.mixes
    assert settings.erasing == 0
    assert f"{pictures:,} photographs" in reason


def test_small_pictures_of_all_sizes_are_shifted_only_where_they_are_squashed() -> None:
    for resize, geometry in (("crop", "rrc"), ("squash", "pad-crop")):
        settings, _ = default_augment(
            size=(48, 48),
            pictures=30_000,
            traits=Traits(),
            same_size=False,
            resize=resize,  # type: ignore[arg-type]
        )
        assert settings.geometry == geometry


def test_a_crop_made_in_decoding_is_not_made_again_on_the_device() -> None:
    settings = Augment(geometry="rrc", flip=0.5)
    assert settings.left_for_device(packed=False) == Augment(flip=0.5)
    assert settings.left_for_device(packed=True) == settings
    shift = Augment(geometry="pad-crop", pad=4)
    assert shift.left_for_device(packed=False) == shift
