"""`--compile`: the network compiled by torch, in place of this package's kernels."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

import resnets
from resnets import TrainConfig
from resnets.base.errors import RunError, UsageError
from resnets.networks import ResNet, ResNetSpec, build
from resnets.training.compiling import check_compiler, compiled

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's compiler gives warnings of its own steps


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture
def compiler() -> None:
    try:
        check_compiler("cpu")
    except UsageError as error:
        pytest.skip(str(error))


def small(*, classes: int) -> nn.Module:
    spec = ResNetSpec(
        block="basic", depths=(1,), width=8, stem="small", in_channels=1, heads=(("label", classes),)
    )
    return build(spec)


@pytest.mark.usefixtures("compiler")
def test_a_compiled_network_gives_the_same_statistics_and_gradients_to_the_network_itself() -> None:
    torch.manual_seed(0)
    plain, network = small(classes=4).train(), small(classes=4).train()
    network.load_state_dict(plain.state_dict())
    images = torch.randn(4, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    for called in (plain, compiled(network)):
        torch.nn.functional.cross_entropy(called(images), torch.arange(4)).backward()
    assert torch._dynamo.utils.counters["frames"]["ok"] > 1  # the check, and the network
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)
    for (name, after), expected in zip(network.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.usefixtures("compiler")
def test_a_run_that_is_compiled_says_so_and_leaves_a_model_like_any_other(tmp_path: Path) -> None:
    events: list[dict[str, object]] = []
    config = TrainConfig(compile=True, epochs=1, runs=str(tmp_path), name="one")
    run = resnets.train("digits", config=config, network=small(classes=10), on_event=events.append)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 1
    (plan,) = (event for event in events if event["event"] == "plan")
    assert "norms by torch.compile: " in str(plan["text"])
    network = run.load().network
    assert type(network) is ResNet
    assert not any("_orig_mod" in name for name in network.state_dict())
    with pytest.raises(RunError, match="an exact resume is not possible here: .*compiled anew by torch"):
        resnets.train(resume=tmp_path / "one", config=TrainConfig(epochs=2, exact=True), network=small(classes=10))


def test_where_torch_cannot_compile_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/no-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    before = logging.getLogger("torch").level
    with pytest.raises(UsageError, match="^--compile: torch cannot compile for cpu: .*; leave it out$"):
        resnets.train("digits", config=TrainConfig(compile=True, runs=str(tmp_path / "runs")))
    assert not (tmp_path / "runs").exists()
    assert logging.getLogger("torch").level == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compile": True, "minutes": 5}, "--compile does not go with --minutes: how long compiling takes"),
        ({"compile": True, "reproducible": True}, "--reproducible does not go with --compile"),
        ({"reproducible": True, "minutes": 5}, "--reproducible does not go with --minutes: it does without all"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainConfig(**options)  # type: ignore[arg-type]
