import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from resnets.base.errors import ModelFileError, UsageError
from resnets.labels import Head
from resnets.networks import VARIANTS, ResNetSpec, build
from resnets.preprocess import Preprocess
from resnets.weights.blank import outline
from resnets.weights.modelfile import KEY, Model, describe, load, save, tensors_sha256

SPEC = ResNetSpec(block="basic", depths=(1, 1), width=8, stem="small", heads=(("label", 3),))


def a_model(spec: ResNetSpec = SPEC) -> Model:
    torch.manual_seed(0)
    return Model(
        network=build(spec),
        heads={name: Head(ids=tuple(f"{name}-{n}" for n in range(classes))) for name, classes in spec.heads},
        preprocess=Preprocess(size=(8, 12), resize="squash"),
        calibration={"label": {"temperature": 1.25}},
        origin={"data": {"hash": "abc"}, "figures": {"top1": 0.5, "n": 8}},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "model.safetensors", a_model())
    return tmp_path / "model.safetensors"


def rewritten(path: Path, *, tensors: dict[str, torch.Tensor] | None = None, **changes: object) -> Path:
    """The same file with some of its record changed, as another program could write it."""
    record = {**describe(path), **changes}
    tensors = safetensors.torch.load_file(path) if tensors is None else tensors
    path.write_bytes(safetensors.torch.save(tensors, metadata={KEY: json.dumps(record)}))
    return path


def test_a_model_comes_back_as_it_was(saved: Path) -> None:
    before, after = a_model(), load(saved)
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(before.network.eval()(images), after.network(images))
    assert (after.heads, after.preprocess) == (before.heads, before.preprocess)
    assert (after.calibration, after.origin) == (before.calibration, before.origin)
    assert not after.network.training


def test_several_heads_and_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    model = a_model(ResNetSpec(block="basic", depths=(1,), width=8, heads=(("root", 2), ("a.b%", 4))))
    heads = {**model.heads, "root": Head(ids=("caf\udce9", "=1+1\n"), names=("<b>", "\u202e"))}
    save(tmp_path / "m", Model(network=model.network, heads=heads, preprocess=model.preprocess))
    back = load(tmp_path / "m")
    assert list(back.heads) == ["root", "a.b%"]
    assert back.heads == heads


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, a_model())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_channels_last_weights_give_the_same_file(tmp_path: Path) -> None:
    model = a_model()
    save(tmp_path / "a", model)
    model.network.to(memory_format=torch.channels_last)
    save(tmp_path / "b", model)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_is_plain_safetensors_with_one_metadata_key(saved: Path) -> None:
    with safetensors.safe_open(saved, "pt") as file:
        assert set(file.metadata()) == {"resnets"}
        assert "layer1.0.conv1.weight" in list(file.keys())
    keys = {"format", "spec", "heads", "preprocess", "calibration", "origin", "tensors_sha256"}
    assert describe(saved).keys() == keys


def test_the_hash_is_over_names_types_shapes_and_bytes() -> None:
    import hashlib

    # by hand: "a F32 [2]\n", then 1.0 and 2.0 in little endian
    by_hand = hashlib.sha256(b"a F32 [2]\n" + bytes.fromhex("0000803f00000040")).hexdigest()
    assert tensors_sha256({"a": torch.tensor([1.0, 2.0])}) == by_hand
    assert tensors_sha256({"a": torch.tensor([[1.0], [2.0]])}) != by_hand


def test_saving_over_a_file_keeps_the_old_one_until_the_end(saved: Path) -> None:
    before = saved.read_bytes()
    model = a_model()
    with pytest.raises(UsageError, match="not plain JSON"):
        save(saved, Model(**{**vars(model), "origin": {"loss": float("nan")}}))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_network_that_was_changed_from_its_spec_is_not_saved(tmp_path: Path) -> None:
    model = a_model()
    model.network.fc = nn.Linear(16, 7)
    with pytest.raises(UsageError, match=r"fc.weight is F32 \[7, 16\], expected F32 \[3, 16\]"):
        save(tmp_path / "m", model)
    with pytest.raises(UsageError, match=r"is F16 .* in float32"):
        save(tmp_path / "m", Model(**{**vars(a_model()), "network": build(SPEC).half()}))
    assert not (tmp_path / "m").exists()


def test_every_network_is_wholly_in_its_state_dict() -> None:
    for name, spec in VARIANTS.items():
        if sum(spec.depths) <= 12:
            network = outline(spec)
            kept = network.state_dict().keys()
            assert {key for key, _ in network.named_buffers()} <= kept, name


def test_a_cut_file_is_named_as_cut(saved: Path) -> None:
    content = saved.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 100, 9):
        saved.write_bytes(content[:size])
        with pytest.raises(ModelFileError, match=r"model.safetensors is cut short: .*; copy or download"):
            load(saved)
    saved.write_bytes(b"")
    with pytest.raises(ModelFileError, match="it is empty"):
        load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(ModelFileError, match="1 bytes more"):
        load(saved)


def test_a_tampered_weight_is_found_by_the_hash(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"holds other weights than were saved .*hash differs"):
        load(saved)


def test_a_file_of_a_future_version_says_to_upgrade(saved: Path) -> None:
    with pytest.raises(ModelFileError, match=r"format 2, newer than this version reads \(1\); upgrade"):
        load(rewritten(saved, format=2))


def test_a_network_of_a_kind_not_known_says_to_upgrade(saved: Path) -> None:
    with pytest.raises(ModelFileError, match=r"kind transformer.*upgrade"):
        load(rewritten(saved, spec={"kind": "transformer"}))


def test_a_plain_safetensors_file_is_foreign(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="without this program's metadata"):
        load(tmp_path / "m.safetensors")


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b" * 40)
    return buffer.getvalue()


def an_old_checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"just some text that is long enough to be one\n", "a text file"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, "a picture"),
        (b"\0" * 64, "of an unknown kind"),
        (a_zip(), "a zip archive"),
        (an_old_checkpoint(), "a pickle"),
    ],
)
def test_a_foreign_file_is_named_for_what_it_is(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError, match=f"not a model file: it is {kind}") as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"cannot read .*m: No such file"):
        load(tmp_path / "m")
    with pytest.raises(ModelFileError, match="is a folder"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bn1.bias": None}, r"tensor bn1.bias \[8\] is missing"),
        ({"extra": torch.zeros(2)}, r"tensor extra \[2\] has no place"),
        ({"bn1.bias": torch.zeros(9)}, r"bn1.bias is F32 \[9\], expected F32 \[8\]"),
        ({"bn1.bias": torch.zeros(8, dtype=torch.float64)}, r"bn1.bias is F64 \[8\], expected F32 \[8\]"),
    ],
)
def test_every_name_shape_and_type_is_checked(saved: Path, change: dict[str, torch.Tensor], words: str) -> None:
    tensors = {**safetensors.torch.load_file(saved), **change}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(ModelFileError, match=words):
        load(rewritten(saved, tensors=tensors))


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"kind": "resnet", "block": "basic", "depths": [10**9]}},
        {"spec": {"kind": "resnet", "block": "basic", "depths": [1], "width": -1}},
        {"spec": {"kind": "resnet", "what": 1}},
        {"spec": []},
        {"format": "1"},
        {"format": True},
        {"heads": {"label": {"ids": ["a", "a", "b"]}}},
        {"heads": {"label": {"ids": ["a", "b"]}}},
        {"heads": {"label": 3}},
        {"preprocess": {"size": [0, 0]}},
        {"preprocess": {"run": "me"}},
        {"tensors_sha256": None},
    ],
)
def test_a_record_out_of_bounds_is_refused_in_one_line(saved: Path, change: dict[str, object]) -> None:
    with pytest.raises(ModelFileError) as caught:
        load(rewritten(saved, **change))
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def with_header(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**40) + b"{" + b" " * 100,
        with_header(b'{"a":'),
        with_header(b'{"a":1}'),
        with_header(b"{" + b'"a":{' * 5000),
        with_header(b'{"__metadata__":{"resnets":1}}'),
        with_header(b'{"__metadata__":{"resnets":"[]"}}'),
        with_header(b'{"__metadata__":{"resnets":"{"}}'),
        with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"\0" * 8),
        with_header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"\0" * 4),
        with_header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}'),
        with_header(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    ],
)
def test_a_damaged_header_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_foreign_module_is_stored_and_needs_the_module_to_load(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    head = {"label": Head(ids=("a", "b"))}
    save(tmp_path / "m", Model(network=module, heads=head, preprocess=Preprocess(size=(2, 2))))
    assert describe(tmp_path / "m")["spec"]["class"] == "torch.nn.modules.container.Sequential"
    with pytest.raises(ModelFileError, match=r"Sequential.*network=module"):
        load(tmp_path / "m")
    back = load(tmp_path / "m", network=nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))
    assert torch.equal(back.network[1].weight, module[1].weight)
    with pytest.raises(ModelFileError, match=r"1.weight is F32 \[2, 12\], expected F32 \[2, 13\]"):
        load(tmp_path / "m", network=nn.Sequential(nn.Flatten(), nn.Linear(13, 2)))


def test_describing_a_model_file_loads_no_torch(saved: Path) -> None:
    code = (
        "import sys; from resnets.weights.modelfile import describe\n"
        f"print(describe({str(saved)!r})['spec']['kind'], 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["resnet", "False"]


def test_loading_draws_nothing_from_the_global_generator(saved: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load(saved)
    assert torch.equal(torch.rand(1), expected)
