"""`resnets.embed`: the features of pictures are what the network's heads are given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from resnets.base.errors import NotFinite, UsageError
from resnets.data.decode import decode
from resnets.labels import Head
from resnets.networks import ResNetSpec, build
from resnets.networks.backbone import Backbone
from resnets.networks.unet import UNet
from resnets.preprocess import Preprocess, fit
from resnets.verbs.embed import embed
from resnets.verbs.predict import predict
from resnets.weights.modelfile import Model, save

SPEC = ResNetSpec(block="basic", depths=(1, 1), width=8, stem="small", heads=(("label", 3),))
PREPROCESS = Preprocess(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(network=build(SPEC).eval(), heads={"label": Head(ids=("a", "b", "c"))}, preprocess=PREPROCESS)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures of noise, and a file that is none."""
    chance = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(chance.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "notes.png").write_text("words")
    return folder


def matrix(model: Model | Path, pictures: Path, **options: object) -> np.ndarray:
    return np.stack([one.features for one in embed(model, pictures, **options) if one.features is not None])


def test_the_classifier_makes_of_features_what_predict_answers(model: Model, pictures: Path) -> None:
    features = torch.from_numpy(matrix(model, pictures))
    assert features.shape == (5, SPEC.features)
    probabilities = model.network.fc(features).softmax(1)
    answers = [one.heads["label"] for one in predict(model, pictures, precision="fp32") if one.error is None]
    for row, likely in zip(probabilities, answers, strict=True):
        found = {one.id: one.probability for one in likely}
        assert [found[name] for name in "abc"] == pytest.approx(row.tolist(), rel=1e-4)


def test_features_are_the_pooled_map_of_the_backbone(model: Model, pictures: Path) -> None:
    picture = fit(decode((pictures / "0.png").read_bytes()), PREPROCESS)
    image = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.2
    with torch.inference_mode():
        expected = Backbone(model).eval()(image)["pooled"][0].numpy()
    (found,) = embed(model, pictures / "0.png")
    assert found.features is not None
    np.testing.assert_allclose(found.features, expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_cannot_be_read_is_an_error_in_its_place(model: Model, pictures: Path) -> None:
    made = embed(model, [pictures, "none.png"], batch=2)
    assert [one.error for one in made] == [None] * 5 + [
        "not a picture: text",
        "cannot be read: No such file or directory",
    ]
    assert (made.done, made.failed) == (7, 2)


def test_a_batch_of_any_size_gives_the_same_features(model: Model, pictures: Path) -> None:
    whole = matrix(model, pictures)
    for batch in (1, 2, 64):
        np.testing.assert_allclose(matrix(model, pictures, batch=batch), whole, rtol=1e-4, atol=1e-6)


def test_a_model_file_and_a_model_without_classes_have_features(
    model: Model, pictures: Path, tmp_path: Path
) -> None:
    save(tmp_path / "m.safetensors", model)
    assert np.array_equal(matrix(tmp_path / "m.safetensors", pictures), matrix(model, pictures))
    headless = Model(network=Backbone(model).network, heads={}, preprocess=PREPROCESS)
    assert np.array_equal(matrix(headless, pictures), matrix(model, pictures))
    with pytest.raises(UsageError, match="it gives features, which resnets embed writes"):
        predict(headless, pictures)


def test_several_views_give_the_mean_of_their_features(model: Model, pictures: Path, tmp_path: Path) -> None:
    mirrored = tmp_path / "mirrored"
    mirrored.mkdir()
    for number in range(5):
        with Image.open(pictures / f"{number}.png") as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored / f"{number}.png")
    expected = (matrix(model, pictures) + matrix(model, mirrored)) / 2
    np.testing.assert_allclose(matrix(model, pictures, views="flip"), expected, rtol=1e-3, atol=1e-3)


def test_bf16_is_near_fp32_and_says_what_it_is(model: Model, pictures: Path) -> None:
    fp32, bf16 = matrix(model, pictures), matrix(model, pictures, precision="bf16")
    assert 0 < np.abs(bf16 - fp32).max() < 0.05 * np.abs(fp32).max()
    assert embed(model, pictures, precision="bf16").about["precision"] == "bf16"


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def test_networks_without_pooled_features_are_refused(model: Model, pictures: Path) -> None:
    for network in (MeanColour(), UNet("resnet18", num_classes=2)):
        other = Model(network=network, heads={}, preprocess=PREPROCESS)
        with pytest.raises(UsageError, match="embed needs a residual network made by resnets"):
            embed(other, pictures)
    with pytest.raises(UsageError, match="--batch must be at least 1, got 0"):
        embed(model, pictures, batch=0)
    with pytest.raises(UsageError, match="--views must be one of"):
        embed(model, pictures, views="many")  # type: ignore[arg-type]


def test_a_damaged_network_is_refused(model: Model, pictures: Path) -> None:
    with torch.no_grad():
        model.network.conv1.weight.fill_(float("nan"))
    with pytest.raises(NotFinite, match="its weights are damaged, at conv1.weight"):
        embed(model, pictures)
