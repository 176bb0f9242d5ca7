import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnets.base.errors import NotFinite, UsageError
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["conv1.weight", "layer1.0.conv2.weight", "layer2.0.bn1.weight", "fc.bias"])
def test_damaged_weights_are_refused_by_name_for_a_relu_may_hide_them(name: str, value: float) -> None:
    model = a_model()
    with torch.no_grad():
        model.network.state_dict()[name].view(-1)[0] = value
    for precision in ("fp32", "bf16"):
        with pytest.raises(NotFinite, match=f"its weights are damaged, at {name}"):
            TorchBackend(model, precision=precision)  # type: ignore[arg-type]


def test_torchs_default_device_and_type_change_nothing(pixels: np.ndarray) -> None:
    model = a_model()
    expected = TorchBackend(model).logits(pixels)["label"]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):  # whatever is made there has no numbers
            found = TorchBackend(model).logits(pixels)["label"]
    finally:
        torch.set_default_dtype(before)
    assert np.array_equal(found, expected)


def test_a_negative_variance_is_refused() -> None:
    model = a_model()
    model.network.bn1.running_var[0] = -1.0
    with pytest.raises(NotFinite, match="its weights are damaged"):
        TorchBackend(model)


def test_a_folded_copy_runs_and_the_models_network_stays(pixels: np.ndarray) -> None:
    model = a_model()
    model.network.train()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    backend = TorchBackend(model)
    backend.logits(pixels)
    assert not [module for module in backend.network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(module.training for module in model.network.modules())
    after = model.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_hook_on_the_models_network_sees_it_run(pixels: np.ndarray) -> None:
    model = a_model()
    folded = TorchBackend(model).logits(pixels)["label"]
    seen = []
    model.network.get_submodule("layer1.0.bn1").register_forward_hook(
        lambda norm, inputs, output: seen.append(output.shape)
    )
    watched = TorchBackend(model)
    assert np.allclose(watched.logits(pixels)["label"], folded, atol=1e-5)
    assert seen == [(5, 8, 8, 8)]


def test_a_network_of_another_library_runs_as_it_is_in_bf16_too(pixels: np.ndarray) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).train()
    model = Model(network=network, heads={"label": Head(ids=("a", "b"))}, preprocess=PREPROCESS)
    exact, rough = (TorchBackend(model, precision=one) for one in ("fp32", "bf16"))
    assert exact.network is rough.network is network
    apart = np.abs(exact.logits(pixels)["label"] - rough.logits(pixels)["label"]).max()
    assert 0 < apart < 0.05
    assert network.training


def test_features_come_without_heads_and_in_bf16_too(pixels: np.ndarray) -> None:
    model = a_model(())
    exact, rough = (TorchBackend(model, precision=one).logits(pixels) for one in ("fp32", "bf16"))
    assert {name: value.shape for name, value in exact.items()} == {"features": (5, 16)}
    assert 0 < np.abs(exact["features"] - rough["features"]).max() < 0.05


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
