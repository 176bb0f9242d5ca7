import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnets.base.errors import UsageError
from resnets.data.batches import Pictures
from resnets.evaluation.predict import TorchBackend, classify, full_fp32
from resnets.labels import Head
from resnets.networks import ResNetSpec, build
from resnets.preprocess import Preprocess
from resnets.weights.modelfile import Model

PREPROCESS = Preprocess(size=(8, 8), crop=1.0)


def a_model(heads: tuple[tuple[str, int], ...] = (("label", 4),)) -> Model:
    torch.manual_seed(0)
    network = build(ResNetSpec(block="basic", depths=(1, 1), width=8, stem="small", heads=heads, zero_last=False))
    named = {name: Head(ids=tuple(map(str, range(classes)))) for name, classes in heads}
    return Model(network=network, heads=named, preprocess=PREPROCESS)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def test_pictures_are_normalised_by_the_models_preprocessing(pixels: np.ndarray) -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    model = Model(network=Mean(), heads={"label": Head(ids=("r", "g", "b"))}, preprocess=PREPROCESS)
    expected = (pixels.mean((1, 2)) / 255 - np.array(PREPROCESS.mean)) / np.array(PREPROCESS.std)
    assert np.allclose(TorchBackend(model).logits(pixels)["label"], expected, atol=1e-5)


def test_the_backend_gives_what_the_network_gives(pixels: np.ndarray) -> None:
    model = a_model()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        expected = model.network.eval()(images)
    assert np.allclose(TorchBackend(model).logits(pixels)["label"], expected, atol=1e-5)


def test_several_heads_are_given_by_name(pixels: np.ndarray) -> None:
    logits = TorchBackend(a_model((("root", 4), ("vowel", 2)))).logits(pixels)
    assert {name: value.shape for name, value in logits.items()} == {"root": (5, 4), "vowel": (5, 2)}


def test_bf16_is_near_fp32_and_not_equal(pixels: np.ndarray) -> None:
    model = a_model()
    exact = TorchBackend(model).logits(pixels)["label"]
    rough = TorchBackend(model, precision="bf16").logits(pixels)["label"]
    assert rough.dtype == np.float32
    assert 0 < float(np.abs(exact - rough).max()) < 0.05
    with pytest.raises(UsageError, match="precision must be one of fp32, bf16, got 'fp8'"):
        TorchBackend(model, precision="fp8")  # type: ignore[arg-type]


def test_pictures_that_fail_are_left_out_with_their_reason(pixels: np.ndarray) -> None:
    stored = [pixels[0], b"no picture at all", pixels[2], pixels[3]]
    pictures = Pictures(rows=np.array([3, 1, 0]), read=lambda row: stored[row], preprocess=PREPROCESS)
    model = a_model()
    found = classify(TorchBackend(model), pictures, batch=2)
    assert found.rows.tolist() == [3, 0]
    assert list(found.failed) == [1]
    whole = TorchBackend(model).logits(pixels)["label"]
    assert np.allclose(found.logits["label"], whole[[3, 0]], atol=1e-5)


def test_no_picture_gives_no_logits() -> None:
    pictures = Pictures(rows=np.empty(0, dtype=np.int64), read=lambda row: b"", preprocess=PREPROCESS)
    found = classify(TorchBackend(a_model()), pictures)
    assert (len(found.rows), found.logits, found.failed) == (0, {}, {})


def test_tf32_is_off_inside_and_as_it_was_afterwards() -> None:
    def settings() -> list[str]:
        backends = torch.backends
        return [part.fp32_precision for part in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)]

    before = settings()
    with full_fp32(torch.device("cuda")):
        assert settings() == ["ieee"] * 3
    assert settings() == before
