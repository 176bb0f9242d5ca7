"""The wheel, alone in an empty environment. Run by name: python -m pytest tests/proofs/test_wheel.py.

It takes some minutes, most of them pip's. Torch goes first and alone, as the README has it; TORCH_INDEX names
another index for it.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnets import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "resnets"
DATA_ENDINGS = {".csv", ".cpp", ".json", ".typed"}


def ran(*command: str | Path, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """A command that must succeed, in an environment that knows nothing of this clone."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    }
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment | more, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves files behind, which a later build would take in
    shutil.copytree(PACKAGE, source / "src" / "resnets", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    ran(*pip, "wheel", "--quiet", "--no-deps", "-w", folder, source, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_data_and_its_licence(wheel: Path) -> None:
    assert wheel.name == f"resnets-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = f"resnets-{__version__}.dist-info"
        licence = archive.read(f"{about}/licenses/LICENSE").decode()
        metadata = archive.read(f"{about}/METADATA").decode()
        entry_points = archive.read(f"{about}/entry_points.txt").decode()
    wanted = {
        f"resnets/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.suffix in DATA_ENDINGS | {".py"} and "__pycache__" not in path.parts
    }
    assert names - {name for name in names if name.startswith(about)} == wanted
    assert {"resnets/py.typed", "resnets/data/imagenet_classes.csv"} <= names
    assert any(name.endswith(".cpp") for name in names)
    assert "Apache License" in licence
    assert "License-Expression: Apache-2.0" in metadata
    assert f"Version: {__version__}" in metadata
    assert "resnets = resnets.cli:main" in entry_points


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of an environment with the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    ran(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    programs = folder / "venv" / "bin"
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    constraints = ("-c", ROOT / "constraints.txt")
    index = ("--index-url", os.environ["TORCH_INDEX"]) if "TORCH_INDEX" in os.environ else ()
    (torch,) = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    ran(*pip, *constraints, *index, torch, folder=folder)
    ran(*pip, *constraints, wheel, folder=folder)
    yield programs
    shutil.rmtree(folder)  # more than a gigabyte


def test_installed_alone_it_trains_evaluates_and_predicts_from_another_folder(
    installed: Path, tmp_path: Path
) -> None:
    resnets, home = (
        installed / "resnets",
        {"HOME": str(tmp_path / "home"), "RESNETS_CACHE": str(tmp_path / "cache")},
    )
    assert ran(resnets, "--version", folder=tmp_path).stdout == f"resnets {__version__}\n"
    done = ran(resnets, "train", "digits", "--epochs", "2", "--json", folder=tmp_path, **home)
    record = json.loads(done.stdout)
    assert (record["run"], record["split"], record["n"]) == ("runs/digits-resnet20", "test", 360)
    done = ran(resnets, "evaluate", record["run"], "digits", "--json", folder=tmp_path, **home)
    assert json.loads(done.stdout)["heads"]["label"]["top1"] == record["heads"]["label"]["top1"]
    code = (
        "from PIL import Image; Image.new('L', (8, 8), 90).save('a.png'); import resnets; "
        "print(resnets.__file__, len(list(resnets.predict('runs/digits-resnet20', 'a.png'))))"
    )
    where, count = ran(installed / "python", "-c", code, folder=tmp_path, **home).stdout.split()
    assert Path(where).is_relative_to(installed.parent)
    assert count == "1"
    done = ran(resnets, "predict", record["run"], "a.png", folder=tmp_path, **home)
    assert done.stdout.startswith("a.png  ")


def test_it_brings_no_package_that_only_an_extra_or_a_gpu_needs(installed: Path, tmp_path: Path) -> None:
    done = ran(installed / "python", "-m", "pip", "list", "--format", "json", folder=tmp_path)
    names = {package["name"].lower() for package in json.loads(done.stdout)}
    assert {
        "resnets",
        "torch",
        "numpy",
        "pillow",
        "pyarrow",
        "safetensors",
        "scikit-learn",
        "rich",
        "cyclopts",
    } <= names
    assert not names & {"wandb", "tensorboard", "pytest", "torchvision", "timm", "pandas", "matplotlib"}
    ran(installed / "python", "-m", "pip", "check", folder=tmp_path)


def test_a_type_checker_sees_its_types(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("import resnets\nrun: int = resnets.train('digits')\n")
    command = [sys.executable, "-m", "mypy", "--python-executable", installed / "python", "user.py"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert 'Incompatible types in assignment (expression has type "Run", variable has type "int")' in done.stdout
