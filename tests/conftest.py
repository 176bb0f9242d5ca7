"""What all tests share: where the real data is, and a cache folder of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnets.base import download as download_module
from tests.local_server import LocalServer

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RESNETS_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights with known answers; tests that need it are skipped without it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is not there: {folder} (set RESNETS_SHARED to the folder that holds data/)")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path_factory.getbasetemp() / "resnets-cache"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalServer]:
    """A server, an empty cache, and no waiting between tries."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download_module, "PAUSES_SECONDS", (0.0,) * 5)
    with LocalServer() as running:
        yield running
