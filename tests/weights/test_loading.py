import argparse
import logging
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from resnets.base.errors import ModelFileError, UsageError
from resnets.base.files import sha256_of
from resnets.data.imagenet import imagenet_head
from resnets.labels import Head
from resnets.networks import VARIANTS, ResNetSpec, build, variant
from resnets.networks.convert import timm_name
from resnets.preprocess import IMAGENET_MEAN, Preprocess
from resnets.weights.blank import outline
from resnets.weights.layouts import by_our_names, recognise
from resnets.weights.loading import find, initialise, load, load_weights
from resnets.weights.modelfile import Model, save


@pytest.fixture(scope="module")
def resnet18() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build("resnet18").state_dict())


@pytest.fixture(scope="module")
def resnet20() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build("resnet20").state_dict())


def zeros(name: str, classes: int) -> dict[str, Tensor]:
    """A network's tensors, all zero; in a torch.save file they take no room."""
    shapes = outline(replace(variant(name), heads=(("label", classes),))).state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in shapes.items()}


def written(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    safetensors.torch.save_file(tensors, path, metadata=metadata or None)
    return path


def body(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith("fc.")}


# known answers of the public CIFAR weights: logits of a ramp picture
RAMP = {
    "resnet20-12fca82f.th": "4.0172 -3.0737 2.8636 0.8544 -0.0596 0.4163 -2.4356 -1.9932 2.7194 -3.3790",
    "resnet32-d509ac18.th": "5.5230 -4.5086 3.1800 3.6894 -2.6142 -0.0182 4.2387 -4.2914 -1.1908 -3.9782",
    "resnet44-014dd654.th": "3.1689 -3.3884 4.9235 0.8576 1.6047 -2.8653 0.4289 -4.3333 2.3711 -2.7908",
    "resnet56-4bfd9763.th": "4.1805 -3.1133 3.4587 2.0607 0.0523 0.2454 -0.2183 -2.6829 0.3104 -4.3288",
}


@pytest.mark.parametrize("name", RAMP)
def test_akamasters_weights_give_their_known_logits(shared_data: Path, name: str) -> None:
    model, receipt = load_weights(shared_data / "weights" / "cifar" / name)
    ramp = (torch.arange(3 * 32 * 32) / (3 * 32 * 32 - 1) * 2 - 1).reshape(1, 3, 32, 32)
    with torch.no_grad():
        logits = model.network(ramp)[0]
    assert logits.tolist() == pytest.approx([float(word) for word in RAMP[name].split()], abs=2e-4)
    assert model.origin["network"] == name.partition("-")[0]
    assert receipt.sha256.startswith(name.partition("-")[2].partition(".")[0])


def test_akamasters_receipt_counts_every_tensor_and_parameter(shared_data: Path) -> None:
    model, receipt = load_weights(shared_data / "weights" / "cifar" / "resnet20-12fca82f.th")
    counts = receipt.counts()
    assert counts["renamed"] == {"tensors": 97, "parameters": 269_722}
    assert sum(count["tensors"] for count in counts.values()) == 97
    assert "97 renamed (269,722 parameters)" in receipt.line()
    assert "sha256 12fca82f0beb" in receipt.line()
    assert "module.linear.weight" in receipt.table()
    assert model.preprocess == Preprocess(size=(32, 32), crop=1.0)
    assert model.heads["label"].ids[:2] == ("airplane", "automobile")
    assert any("CIFAR-10" in text for text in receipt.assumptions)
    assert any("19 batch-norm counters" in text for text in receipt.notes)
    assert not receipt.folded


def test_weights_without_words_are_taken_for_imagenets_and_that_is_said(
    tmp_path: Path, resnet18: dict[str, Tensor]
) -> None:
    model, receipt = load_weights(written(tmp_path / "w.safetensors", resnet18))
    assert receipt.counts()["loaded"] == {"tensors": 122, "parameters": 11_689_512}
    assert model.heads["label"] == imagenet_head()
    assert model.preprocess == Preprocess(size=(224, 224), crop=0.875, interpolation="bicubic")
    assert len(receipt.assumptions) == 3  # the network, the classes, the preprocessing
    assert model.origin["receipt"]["assumptions"] == list(receipt.assumptions)


def test_imagenets_classes_are_whole() -> None:
    head = imagenet_head()
    assert len(head) == 1000
    assert list(head.ids) == sorted(head.ids)
    assert head.names[134] == head.names[517] == "crane"
    assert (head.ids[2], head.names[2]) == ("n01484850", "great white shark")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.model.", "backbone."])
def test_wrappers_are_taken_off(tmp_path: Path, resnet20: dict[str, Tensor], prefix: str) -> None:
    wrapped = {prefix + name: value for name, value in resnet20.items()}
    wrapped["criterion.weight"] = torch.zeros(3)
    model, receipt = load_weights(written(tmp_path / "w.safetensors", wrapped))
    assert receipt.counts()["renamed"]["tensors"] == 116
    assert torch.equal(model.network.state_dict()["fc.bias"], resnet20["fc.bias"])
    assert "1 tensors outside the network were not used" in receipt.notes


@pytest.mark.parametrize("ending", ["pth", "pt", "th"])
@pytest.mark.parametrize(
    "keys", [("state_dict",), ("model",), ("ema", "module"), ("model_ema",), ("model_state_dict",)]
)
def test_containers_are_opened(
    tmp_path: Path, resnet20: dict[str, Tensor], keys: tuple[str, ...], ending: str
) -> None:
    content: object = OrderedDict(resnet20)
    for key in reversed(keys):
        content = {key: content, "epoch": 3, "decay": 0.9}
    torch.save(content, tmp_path / f"w.{ending}")
    _, receipt = load_weights(tmp_path / f"w.{ending}")
    assert receipt.counts()["loaded"]["tensors"] == 116
    assert any(f"under {'.'.join(keys)}" in note for note in receipt.notes)


def test_averaged_weights_are_preferred_and_that_is_said(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    averaged = {name: torch.full_like(value, 2) for name, value in resnet20.items()}
    torch.save({"state_dict": resnet20, "state_dict_ema": averaged}, tmp_path / "w.pt")
    model, receipt = load_weights(tmp_path / "w.pt")
    assert bool((model.network.state_dict()["fc.weight"] == 2).all())
    assert "under state_dict_ema, not those under state_dict" in receipt.notes[0]


def test_other_names_of_shortcuts_and_heads_are_translated(tmp_path: Path, resnet18: dict[str, Tensor]) -> None:
    other = {
        name.replace("downsample", "shortcut").replace("fc.", "linear."): value for name, value in resnet18.items()
    }
    _, receipt = load_weights(written(tmp_path / "w.safetensors", other))
    assert receipt.counts()["renamed"]["tensors"] == 3 * 6 + 2
    assert receipt.counts()["loaded"]["tensors"] == 122 - 20


def test_a_head_in_a_sequential_is_found(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    other = {name.replace("fc.", "fc.1."): value for name, value in resnet20.items()}
    model, _ = load_weights(written(tmp_path / "w.safetensors", other))
    assert torch.equal(model.network.state_dict()["fc.weight"], resnet20["fc.weight"])


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet101", "resnet152", "resnet110"])
def test_the_depth_is_found_from_the_shapes(tmp_path: Path, name: str) -> None:
    torch.save(zeros(name, 5), tmp_path / "w.pt")
    model, _ = load_weights(tmp_path / "w.pt")
    assert model.origin["network"] == name
    assert model.network.spec.heads == (("label", 5),)


def test_a_small_stem_on_an_imagenet_network_is_recognised(tmp_path: Path) -> None:
    spec = ResNetSpec(block="basic", depths=(2, 2, 2, 2), stem="small", heads=(("label", 10),))
    model, _ = load_weights(written(tmp_path / "w.safetensors", dict(build(spec).state_dict())))
    assert model.network.spec.stem == "small"
    assert model.preprocess.size == (32, 32)
    assert model.heads["label"].ids == tuple(map(str, range(10)))  # ten classes alone do not say which
    assert model.origin["unnamed_heads"] == ["label"]


def test_v1_and_v1_5_are_told_apart_where_something_says_it(tmp_path: Path) -> None:
    tensors = zeros("resnet50", 3)
    torch.save(tensors, tmp_path / "w.pt")
    model, receipt = load_weights(tmp_path / "w.pt")
    assert model.network.spec.stride_in == "3x3"
    assert any("resnet50_v1 and resnetblur50 have the same shapes" in text for text in receipt.assumptions)
    chosen, receipt = load_weights(tmp_path / "w.pt", model="resnet50_v1")
    assert chosen.network.spec.stride_in == "1x1"
    assert not any("same shapes" in text for text in receipt.assumptions)
    torch.save({"state_dict": tensors, "arch": "resnet50"}, tmp_path / "arch.pt")
    by_arch, receipt = load_weights(tmp_path / "arch.pt")
    assert by_arch.network.spec.stride_in == "3x3"
    assert not any("same shapes" in text for text in receipt.assumptions)
    torch.save(tensors, tmp_path / "resnet50_v1-ours.pt")
    by_name, _ = load_weights(tmp_path / "resnet50_v1-ours.pt")
    assert by_name.network.spec.stride_in == "1x1"


def test_torchvisions_file_names_say_v1_5_where_their_hash_is_right(tmp_path: Path) -> None:
    torch.save(zeros("resnet50", 3), tmp_path / "w")
    right = tmp_path / f"resnet50-{sha256_of(tmp_path / 'w')[:8]}.pth"
    for path in (right, tmp_path / "resnet50-00000000.pth"):
        path.write_bytes((tmp_path / "w").read_bytes())
        _, receipt = load_weights(path)
        assert any("same shapes" in text for text in receipt.assumptions) == (path != right)


@pytest.mark.parametrize(
    ("name", "twins"),
    [
        ("resnet20", "plain20 has the same shapes"),
        ("resnet18", "resnetblur18 has the same shapes"),
        ("resnet50", "resnet50_v1 and resnetblur50 have the same shapes"),
        ("seresnet18", ""),
    ],
)
def test_networks_that_leave_no_trace_in_the_shapes_are_named_unless_the_file_says_which_it_is(
    tmp_path: Path, name: str, twins: str
) -> None:
    for file in ("best.pt", f"{name}_mine.pt"):
        torch.save(zeros(name, 3), tmp_path / file)
        model, receipt = load_weights(tmp_path / file)
        said = " ".join(receipt.assumptions)
        assert model.origin["network"] == name
        assert (twins in said) if file == "best.pt" else ("blur" not in said and "plain" not in said)
        assert bool(twins) or "same shapes" not in said


def test_a_name_with_more_behind_it_says_which_network_it_is(tmp_path: Path) -> None:
    torch.save(zeros("resnetblur18", 3), tmp_path / "resnetblur18_84f4748f.pth")
    model, receipt = load_weights(tmp_path / "resnetblur18_84f4748f.pth")
    assert model.origin["network"] == "resnetblur18"
    assert not any("same shapes" in text for text in receipt.assumptions)


def test_weights_that_fit_a_network_they_are_not_of_are_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"state_dict": zeros("resnet50", 3), "arch": "resnet50"}, tmp_path / "w.pt")
    _, receipt = load_weights(tmp_path / "w.pt", model="resnet50_v1")
    assert any("a network with stride_in='3x3', not '1x1'" in text for text in receipt.assumptions)
    plain = replace(variant("plain20"), heads=(("label", 2),))
    torch.save({"state_dict": zeros("resnet20", 2), "arch": "resnet20"}, tmp_path / "small.pt")
    receipt = initialise(build(plain), tmp_path / "small.pt")
    assert "a network with shortcut='A', not 'none'" in receipt.notes[-1]
    assert "small.pt: these weights are of a network with shortcut='A'" in caplog.text
    caplog.clear()
    initialise(build(replace(variant("resnet20"), drop_path=0.1)), tmp_path / "small.pt")
    assert not caplog.text


@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_18d"])
def test_timms_names_of_preactivation_networks_are_translated(tmp_path: Path, name: str) -> None:
    spec = replace(variant(name), width=16, stem_width=16, heads=(("label", 3),))
    torch.manual_seed(0)
    network = build(spec).eval()
    theirs = {timm_name(spec, key): value for key, value in network.state_dict().items()}
    theirs["head.fc.weight"] = theirs["head.fc.weight"][:, :, None, None]
    assert "stages.0.blocks.0.norm1.weight" in theirs
    wrapped = {f"module.{key}": value.contiguous() for key, value in theirs.items()}
    model, receipt = load_weights(written(tmp_path / "w.safetensors", wrapped), model=spec, strict=True)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.network(images), network(images))
    assert receipt.layout == "timm's names of pre-activation networks behind module."


@pytest.mark.parametrize(
    "name", [name for name, spec in VARIANTS.items() if spec.preact and len(spec.depths) == 4]
)
def test_every_preactivation_network_is_recognised_by_timms_names(tmp_path: Path, name: str) -> None:
    theirs = {timm_name(variant(name), key): value for key, value in zeros(name, 3).items()}
    named = by_our_names(theirs, tmp_path / "w.pt")
    assert recognise(named.tensors, tmp_path / "w.pt")[0] == name


def test_another_head_is_new_and_said_so(tmp_path: Path, resnet18: dict[str, Tensor]) -> None:
    model, receipt = load_weights(written(tmp_path / "w.safetensors", resnet18), num_classes=2)
    counts = receipt.counts()
    assert counts["reinitialised"] == {"tensors": 2, "parameters": 2 * 512 + 2}
    assert counts["ignored"] == {"tensors": 2, "parameters": 1000 * 513}
    assert counts["loaded"]["parameters"] == 11_689_512 - 1000 * 513
    assert "2 re-initialised (1,026 parameters): 2 classes instead of 1,000" in receipt.line()
    assert len(model.heads["label"]) == 2
    assert torch.equal(model.network.state_dict()["conv1.weight"], resnet18["conv1.weight"])


def test_several_heads_take_the_place_of_one(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    model, receipt = load_weights(written(tmp_path / "w.safetensors", resnet20), heads={"root": 3, "vowel": 2})
    assert list(model.heads) == ["root", "vowel"]
    assert receipt.counts()["reinitialised"]["tensors"] == 4
    assert receipt.counts()["ignored"]["tensors"] == 2


def test_a_body_without_a_head_gives_features(tmp_path: Path, resnet18: dict[str, Tensor]) -> None:
    model, _ = load_weights(written(tmp_path / "w.safetensors", body(resnet18)))
    assert model.heads == {}
    assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 512)


def test_load_takes_other_heads_or_none(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    path = written(tmp_path / "w.safetensors", resnet20)
    assert list(load(path, heads={"root": 3, "vowel": 2}).heads) == ["root", "vowel"]
    assert load(path, heads={}).network(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    with pytest.raises(UsageError, match="num_classes or heads, not both"):
        load(path, heads={}, num_classes=2)


@pytest.mark.parametrize(
    ("channels", "kind", "how"),
    [(1, "grey", "3 channels summed to grey"), (4, "rgba", "3 channels cycled to 4 and scaled by 3/4")],
)
def test_a_stem_for_other_channels_is_adapted_and_said_so(
    tmp_path: Path, resnet18: dict[str, Tensor], channels: int, kind: str, how: str
) -> None:
    model, receipt = load_weights(written(tmp_path / "w.safetensors", resnet18), in_channels=channels)
    assert receipt.counts()["adapted"] == {"tensors": 1, "parameters": 64 * channels * 49}
    assert f": {how}" in receipt.line()
    assert model.preprocess.channels == kind
    assert len(model.preprocess.mean) == channels
    assert model.network(torch.zeros(1, channels, 32, 32)).shape == (1, 1000)


def test_twelve_channels_are_for_tensors_of_ones_own_and_the_message_says_how(
    tmp_path: Path, resnet20: dict[str, Tensor]
) -> None:
    path = written(tmp_path / "w.safetensors", resnet20)
    with pytest.raises(UsageError, match=r"build\(NAME, in_channels=12\).*initialise\(network, FILE\)"):
        load_weights(path, in_channels=12)
    network = build("resnet20", in_channels=12)
    receipt = initialise(network, path)
    assert "3 channels cycled to 12 and scaled by 3/12" in receipt.line()
    assert torch.equal(network.conv1.weight[:, 10], resnet20["conv1.weight"][:, 1] / 4)


def test_a_network_trained_on_grey_pictures_takes_grey_pictures(tmp_path: Path) -> None:
    grey = build("resnet18", in_channels=1)
    model, receipt = load_weights(written(tmp_path / "w.safetensors", dict(grey.state_dict())))
    assert model.network.spec.in_channels == 1
    assert model.preprocess.mean == pytest.approx((sum(IMAGENET_MEAN) / 3,), abs=1e-6)
    assert receipt.counts()["adapted"]["tensors"] == 0


def test_half_precision_is_widened_and_said_so(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in resnet20.items()}
    model, receipt = load_weights(written(tmp_path / "w.safetensors", half))
    assert model.network.fc.weight.dtype == torch.float32
    assert "adapted" in receipt.line()
    assert "float16 to float32" in receipt.line()


def test_folded_statistics_are_noticed(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    _, fresh = load_weights(written(tmp_path / "a.safetensors", resnet20))
    assert not fresh.folded
    scaled = {name: value + 0.5 if name.endswith("bn1.weight") else value for name, value in resnet20.items()}
    _, receipt = load_weights(written(tmp_path / "w.safetensors", scaled))
    assert receipt.folded
    assert "recalibrated or frozen" in receipt.notes[-1]


def test_a_tensor_that_does_not_fit_is_named_with_both_shapes(tmp_path: Path, resnet18: dict[str, Tensor]) -> None:
    wrong = {**resnet18, "layer2.0.conv1.weight": torch.zeros(128, 63, 3, 3)}
    path = written(tmp_path / "w.safetensors", wrong)
    words = r"layer2.0.conv1.weight is \[128, 63, 3, 3\].*(expected|is) \[128, 64, 3, 3\]"
    with pytest.raises(ModelFileError, match=words):
        load_weights(path)
    with pytest.raises(ModelFileError, match=words):
        load_weights(path, model="resnet18", partial=True)


def test_a_body_that_is_not_covered_is_an_error_unless_allowed(
    tmp_path: Path, resnet18: dict[str, Tensor]
) -> None:
    part = {name: value for name, value in resnet18.items() if not name.startswith("layer4.1")}
    path = written(tmp_path / "w.safetensors", part)
    with pytest.raises(
        ModelFileError, match=r"layer4.1.conv1.weight \[512, 512, 3, 3\] is not in it.*partial=True"
    ):
        load_weights(path, model="resnet18")
    _, receipt = load_weights(path, model="resnet18", partial=True)
    assert receipt.counts()["reinitialised"]["tensors"] == 10
    assert "not in the file" in receipt.line()


def test_a_network_smaller_than_the_file_is_an_error_unless_allowed(
    tmp_path: Path, resnet18: dict[str, Tensor]
) -> None:
    path = written(tmp_path / "w.safetensors", resnet18)
    small = ResNetSpec(block="basic", depths=(2, 2, 2, 1))
    with pytest.raises(ModelFileError, match=r"10 tensors that the network has no place for, such as layer4\.1"):
        load_weights(path, model=small)
    _, receipt = load_weights(path, model=small, partial=True)
    assert receipt.counts()["ignored"]["tensors"] == 10  # layer4.1, counters left out


def test_strict_refuses_anything_but_copying_and_renaming(
    tmp_path: Path, resnet20: dict[str, Tensor], shared_data: Path
) -> None:
    path = written(tmp_path / "w.safetensors", resnet20)
    load_weights(path, strict=True)
    load_weights(shared_data / "weights" / "cifar" / "resnet20-12fca82f.th", strict=True)
    with pytest.raises(ModelFileError, match=r"strict.*fc.weight would be re-initialised"):
        load_weights(path, strict=True, num_classes=2)
    with pytest.raises(ModelFileError, match=r"strict.*conv1.weight would be adapted \(3 channels summed"):
        load_weights(path, strict=True, in_channels=1)


def test_a_failed_load_leaves_the_network_as_it_was(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    network = build("resnet20")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelFileError):
        initialise(network, written(tmp_path / "w.safetensors", {**resnet20, "fc.bias": torch.zeros(9)}))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Boom:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code from the file ran",))


@pytest.mark.parametrize("thing", [Boom(), argparse.Namespace(lr=Boom()), nn.Linear(2, 2)])
def test_a_file_with_more_than_tensors_is_not_opened(
    tmp_path: Path, thing: object, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": thing}, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match=r"could run code.*torch.save\(model.state_dict\(\)") as caught:
        load_weights(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_the_arguments_that_training_scripts_keep_beside_the_tensors_are_no_obstacle(
    tmp_path: Path, resnet20: dict[str, Tensor]
) -> None:
    arguments = argparse.Namespace(lr=0.1, model="resnet20")
    torch.save({"state_dict": resnet20, "arch": "resnet20", "args": arguments}, tmp_path / "last.pth.tar")
    model, receipt = load_weights(tmp_path / "last.pth.tar")
    assert receipt.counts()["loaded"]["tensors"] == 116
    assert model.origin["network"] == "resnet20"


def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    torch.save(resnet20, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    cases = {
        "cut.pth": (whole[: len(whole) // 2], "damaged, cut short"),
        "text.pth": (b"hello, this is a text\n" * 5, "it is a text file"),
        "empty.pth": (b"", "it is empty"),
        "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match=words) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    for name, content in {"list.pt": [1, 2], "words.pt": {"epoch": 3}, "nothing.pt": {}}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ModelFileError, match="holds no table of tensors"):
            load(tmp_path / name)


def test_tensors_of_another_network_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no residual network's names .* 'patch_embed.weight'"):
        load_weights(written(tmp_path / "w.safetensors", {"patch_embed.weight": torch.zeros(2)}))


def test_a_network_not_in_the_list_names_the_nearest(tmp_path: Path) -> None:
    spec = ResNetSpec(block="basic", depths=(2, 2, 2, 2), width=48)
    with pytest.raises(ModelFileError, match=r"2-2-2-2 blocks a stage.*nearest is resnet.*model="):
        load_weights(written(tmp_path / "w.safetensors", dict(build(spec).state_dict())))
    model, _ = load_weights(tmp_path / "w.safetensors", model=spec)
    assert model.network.spec.width == 48


def test_a_file_with_two_networks_asks_which(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    two = {f"{side}.{name}": value + 0 for side in ("query", "key") for name, value in body(resnet20).items()}
    path = written(tmp_path / "w.safetensors", two)
    with pytest.raises(ModelFileError, match=r"holds 2 networks, named 'key.', 'query.'.*prefix="):
        load_weights(path)
    _, receipt = load_weights(path, prefix="query.")
    assert receipt.counts()["renamed"]["tensors"] == 114


def test_the_licence_that_a_file_states_is_in_the_receipt(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    model, receipt = load_weights(written(tmp_path / "w.safetensors", resnet20, license="cc-by-nc-4.0"))
    assert receipt.licence == model.origin["licence"] == "cc-by-nc-4.0"
    assert "licence: cc-by-nc-4.0" in receipt.line()


def test_a_strangers_names_cannot_steer_the_terminal(tmp_path: Path, resnet20: dict[str, Tensor]) -> None:
    wild = {f"\x1b[31m.{name}": value for name, value in resnet20.items()}
    _, receipt = load_weights(written(tmp_path / "w\x1b.safetensors", wild, license="free\nto use"))
    shown = receipt.line() + receipt.table().replace("\n", "")
    assert shown.isprintable()
    assert "\n" not in receipt.line()


def small_model(tmp_path: Path, classes: tuple[str, ...] = ("a", "b")) -> Path:
    spec = ResNetSpec(block="basic", depths=(1,), width=8, stem="small", heads=(("label", len(classes)),))
    model = Model(
        network=build(spec),
        heads={"label": Head(ids=classes)},
        preprocess=Preprocess(size=(8, 8)),
        origin={"licence": "mine"},
    )
    save(tmp_path / "model.safetensors", model)
    return tmp_path / "model.safetensors"


def test_load_takes_a_model_file_a_run_folder_and_weights(
    tmp_path: Path, shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_model(tmp_path)
    for source in (path, str(path), tmp_path):
        assert load(source).heads["label"].ids == ("a", "b")
    with caplog.at_level(logging.INFO, logger="resnets"):
        load(shared_data / "weights" / "cifar" / "resnet20-12fca82f.th")
    assert "97 renamed" in caplog.text
    assert "assumed: its 10 classes are CIFAR-10's" in caplog.text


def test_load_gives_a_model_file_another_head(tmp_path: Path) -> None:
    path = small_model(tmp_path)
    model = load(path, num_classes=5)
    assert len(model.heads["label"]) == 5
    assert model.preprocess.size == (8, 8)
    assert model.origin["licence"] == "mine"
    assert torch.equal(model.network.conv1.weight, load(path).network.conv1.weight)


def test_a_cut_model_file_is_called_cut_by_load_too(tmp_path: Path) -> None:
    path = small_model(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match="is cut short"):
        load(path)


def test_what_is_not_there_is_named_with_what_to_try(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"resnet18 is a network, not weights: resnets.build\('resnet18'\)"):
        find("resnet18")
    with pytest.raises(UsageError, match=r"did you mean .*resnet50"):
        find("resnet51")
    with pytest.raises(UsageError, match=r"there is no file nowhere/w\.pth"):
        find("nowhere/w.pth")
    with pytest.raises(UsageError, match=r"has no model\.safetensors"):
        find(tmp_path)


def test_a_network_starts_from_a_model_with_the_same_classes_head_included(tmp_path: Path) -> None:
    path = small_model(tmp_path)
    source = load(path)
    network = build(source.network.spec)
    receipt = initialise(network, path, heads={"label": Head(ids=("a", "b"))})
    assert receipt.counts()["reinitialised"]["tensors"] == 0
    assert torch.equal(network.fc.weight, source.network.fc.weight)


def test_a_network_with_as_many_other_classes_gets_a_new_head(tmp_path: Path) -> None:
    source = load(small_model(tmp_path))
    network = build(source.network.spec)
    fresh = network.fc.weight.clone()
    receipt = initialise(network, source, heads={"label": Head(ids=("b", "a"))})
    assert receipt.counts()["reinitialised"]["tensors"] == 2
    assert "other classes" in receipt.line()
    assert torch.equal(network.fc.weight, fresh)
    assert torch.equal(network.conv1.weight, source.network.conv1.weight)


def test_a_module_of_another_library_starts_from_weights_by_its_names(
    tmp_path: Path, resnet20: dict[str, Tensor]
) -> None:
    module = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 16, 3, bias=False)))
    receipt = initialise(module, written(tmp_path / "w.safetensors", resnet20), partial=True)
    assert receipt.counts()["loaded"]["tensors"] == 1
    assert torch.equal(module.conv1.weight, resnet20["conv1.weight"])
