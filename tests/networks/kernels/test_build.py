"""How the kernels are compiled, kept and loaded, and what is said where they cannot be."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from resnets.networks import kernels
from resnets.networks.kernels import build, switch
from resnets.networks.kernels.build import AVX2_FLAGS, AVX512_FLAGS, Kernels

load = build.load.__wrapped__  # without its memory


@pytest.fixture(autouse=True)
def compiler() -> None:
    can, reason = kernels.available("cpu", torch.float32)
    if not can:
        pytest.skip(f"no fused kernels here: {reason}")


def test_kernels_can_be_turned_off_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETS_KERNELS", "off")
    assert load() == "RESNETS_KERNELS=off"


def test_without_kernels_torch_is_taken_and_the_reason_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "load", lambda: "no C++ compiler found")
    x = torch.ones(2, 4, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    with kernels.using(True):
        assert kernels.state() == "torch (no C++ compiler found)"
        assert kernels.available("cpu", torch.float32) == (False, "no C++ compiler found")
        assert "BatchNorm" in str(kernels.norm_act(nn.BatchNorm2d(4), x).grad_fn)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert load() == "no C++ compiler found (g++, c++, clang++)"


def test_a_compiler_that_fails_is_named_with_its_reason_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken++"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo broken 1.2 && exit 0\necho "error: no" >&2; exit 1\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path))
    assert load() == f"{broken} failed: error: no"
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == ["lock"]


def test_a_cache_folder_that_others_can_write_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(0o777)
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path))
    assert str(load()).startswith(f"others can write to {tmp_path}")


def test_the_library_lies_in_a_private_folder_and_is_made_once() -> None:
    folder = Path(os.environ["RESNETS_CACHE"]) / "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    made = {path: path.stat().st_mtime_ns for path in folder.glob("*.so")}
    with ThreadPoolExecutor(4) as pool:
        assert all(isinstance(loaded, Kernels) for loaded in pool.map(lambda _: load(), range(4)))
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.so")} == made
    assert {path.name for path in folder.iterdir()} == {"lock", *(path.name for path in made)}


@pytest.mark.slow
@pytest.mark.parametrize("flags", [AVX512_FLAGS, AVX2_FLAGS, ()], ids=["AVX512", "AVX2", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_narrower_instructions_compute_what_wider_ones_do(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], dtype: torch.dtype
) -> None:
    runs = {"AVX512": (AVX512_FLAGS, AVX2_FLAGS, ()), "AVX2": (AVX2_FLAGS, ())}
    if flags not in runs.get(torch.backends.cpu.get_cpu_capability(), ((),)):
        pytest.skip("this processor does not run them")

    def made() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        x, residual, grad = torch.randn(3, 2, 19, 8, 9, generator=generator).to(dtype).unbind()
        x, residual, grad = (v.contiguous(memory_format=torch.channels_last) for v in (x, residual, grad))
        layer = nn.BatchNorm2d(19)
        y = kernels.norm_act(layer, x.requires_grad_(), residual=residual.requires_grad_(), act=nn.ReLU())
        assert "NormAct" in str(y.grad_fn)
        y.backward(grad)
        values = (y.detach(), x.grad, residual.grad, layer.weight.grad, layer.bias.grad, layer.running_var)
        return [value for value in values if value is not None]

    with kernels.using(True):
        wide = made()
        monkeypatch.setattr(build, "_instructions", lambda: ("narrow", flags))
        narrow = load()
        assert isinstance(narrow, Kernels)
        monkeypatch.setattr(switch, "load", lambda: narrow)
        for ours, other in zip(made(), wide, strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-5 if ours.dtype == torch.float32 else 0.01, atol=1e-5)


def test_kernels_say_what_they_are_not_for() -> None:
    assert kernels.available("cuda", torch.float32) == (
        False,
        "the fused kernels are for the processor, not for cuda",
    )
    assert kernels.available("cpu", torch.float64)[1].endswith("not for float64")
