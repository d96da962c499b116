"""Pictures, and workers of this process, that the tests of running share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cuts
from threaded_ray import Ray

from vtbench.running import cluster as clusters
from vtbench.running.worker import Worker


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-two small cuts of a photograph, of three sizes."""
    return cuts(tmp_path_factory.mktemp("images") / "cuts")


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """A worker of this process works where the command does, and with its settings: undone after each test."""
    folder, environment = os.getcwd(), dict(os.environ)
    yield
    os.chdir(folder)
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    os.environ.update(environment)


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    # The workers' process is this one, whose end would be waited for in vain.
    monkeypatch.setattr(clusters, "END", 0.1)
    monkeypatch.setattr(clusters, "library", lambda: Ray(Worker, {"CPU": 2.0}))
