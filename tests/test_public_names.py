import subprocess
import sys

import pytest

import resnets


def test_all_names_every_public_name_and_each_can_be_had() -> None:
    assert resnets.__all__ == sorted(resnets.__all__)
    assert set(resnets.__all__) == {*resnets._HOMES, "__version__"}
    for name in resnets.__all__:
        assert getattr(resnets, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        resnets.trian  # noqa: B018


def modules_after(code: str) -> set[str]:
    listing = f"{code}; import sys; print('\\n'.join(sys.modules))"
    output = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    return set(output.stdout.split())


def test_importing_resnets_imports_no_heavy_package() -> None:
    assert modules_after("import resnets") & {"torch", "numpy", "pyarrow", "sklearn", "PIL", "cyclopts"} == set()


def test_using_the_network_imports_torch_so_the_test_above_can_fail() -> None:
    assert "torch" in modules_after("import resnets; resnets.build")
