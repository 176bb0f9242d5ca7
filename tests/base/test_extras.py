"""Optional packages: the cure where they are missing, their own faults where they are broken."""

import sys
from pathlib import Path

import pytest

from resnets.base.errors import MissingExtra
from resnets.base.extras import require


def test_a_package_that_is_there_is_imported() -> None:
    assert require("json.decoder", extra="x", purpose="x") is sys.modules["json.decoder"]


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    with pytest.raises(MissingExtra) as caught:
        require("no_such_package.part", extra="wandb", purpose="Tracking with Weights & Biases")
    assert str(caught.value) == (
        "Tracking with Weights & Biases needs 'no_such_package'; install it with: pip install 'resnets[wandb]'"
    )


def test_a_package_that_lacks_its_own_dependency_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import its_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_missing_dependency") as caught:
        require("half_installed", extra="x", purpose="x")
    assert not isinstance(caught.value, MissingExtra)
