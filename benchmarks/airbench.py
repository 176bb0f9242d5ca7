"""airbench94 (Jordan 2024) on a processor: the published file, run as it is on real CIFAR-10.

    python benchmarks/airbench.py airbench94_muon.py CIFAR10              # 8 epochs, as published
    python benchmarks/airbench.py airbench94_muon.py CIFAR10 --steps 6    # its rate alone

The file is the one of that name in Keller Jordan's repository `cifar10-airbench`; none of it is copied here. It
asks for a GPU in half precision. What is put in place of that: no CUDA calls, weights in fp32 under bf16 autocast,
channels last, no compiling, and freed memory is kept. Its measurements between epochs are left out. The network
is not residual.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from resnets.base.machine import cores, keep_freed_memory
from rounds import allow_torchvision
from small import pixels_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path)
    parser.add_argument("data", metavar="CIFAR10", help="what `resnets evaluate` takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="stop after so many steps and print images/s")
    options = parser.parse_args()
    keep_freed_memory()
    print(json.dumps(run(options.script.resolve(), options.data, seed=options.seed, steps=options.steps)))


def run(script: Path, data: str, *, seed: int, steps: int | None = None) -> dict[str, Any]:
    """`rate` in images/s after `steps`; or `top1` with flip and shift, `one_view` without, and `seconds`.

    The seconds are of the training and the measurement with flip and shift; reading the pictures is left out.
    """
    import torch

    torch.set_num_threads(cores())
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        store(data, Path(folder, "cifar10"))
        os.chdir(folder)
        module = on_processor(script)
        network = module.CifarNet().to(memory_format=torch.channels_last)
        clock = Clock(network, steps)
        measured = module.evaluate
        module.evaluate = lambda *given, tta_level=0: measured(*given, tta_level) if tta_level else float("nan")
        started = time.monotonic()
        with contextlib.redirect_stdout(sys.stderr):
            try:
                top1 = module.main(0, network)
            except Stopped:
                return {"rate": clock.rate(), "steps": steps}
            seconds = time.monotonic() - started
            one_view = measured(network, module.CifarLoader("cifar10", train=False, batch_size=2000))
    return {"top1": top1, "one_view": one_view, "seed": seed, "seconds": round(seconds, 1)}


def store(data: str, folder: Path) -> None:
    """CIFAR-10 where the script looks for it."""
    import torch

    folder.mkdir()
    for part in ("train", "test"):
        pixels, labels = pixels_of(data, part)
        torch.save(
            {"images": torch.from_numpy(pixels), "labels": torch.from_numpy(labels), "classes": list(range(10))},
            folder / f"{part}.pt",
        )


def on_processor(script: Path) -> ModuleType:
    """The script as a module, with what asks for a GPU replaced."""
    allow_torchvision()
    import torch

    class Event:
        def __init__(self, **_: object) -> None:
            self.at = 0.0

        def record(self) -> None:
            self.at = time.monotonic()

        def elapsed_time(self, end: "Event") -> float:
            return 1e3 * (end.at - self.at)

    load = torch.load
    torch.compile = lambda function: function  # type: ignore[assignment]
    torch.load = lambda path, **_: load(path, map_location="cpu")
    torch.cuda.Event = Event  # type: ignore[assignment, misc]
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    torch.Tensor.half = torch.Tensor.float  # type: ignore[method-assign]
    torch.nn.Module.half = torch.nn.Module.float  # type: ignore[method-assign]
    spec = importlib.util.spec_from_file_location("airbench94_muon", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.argv[0] = os.fspath(script)  # it reads itself
    spec.loader.exec_module(module)
    forward = module.CifarNet.forward

    def in_bf16(*given: Any, **named: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return forward(*given, **named).float()

    module.CifarNet.forward = in_bf16
    return module


class Stopped(Exception):
    """Enough steps were seen."""


class Clock:
    """Raises Stopped when a network has been called for training `steps` times; the first two are not counted."""

    def __init__(self, network: Any, steps: int | None) -> None:
        self.times: list[float] = []
        self.pictures = 0
        if steps is not None:
            network.register_forward_pre_hook(lambda _, inputs: self._tick(len(inputs[0]), steps))

    def _tick(self, pictures: int, steps: int) -> None:
        self.times.append(time.monotonic())
        self.pictures = pictures
        if len(self.times) > steps:
            raise Stopped

    def rate(self) -> float:
        return self.pictures * (len(self.times) - 3) / (self.times[-1] - self.times[2])


if __name__ == "__main__":
    main()
