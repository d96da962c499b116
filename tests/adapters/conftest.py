"""What several files of tests ask: servers of images that answer as they are told to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from image_server import SECRET, Fake

from vtbench.adapters.libraries.image_api import KEY
from vtbench.types import secrets


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fake, Fake]]:
    """The one that is asked, and one of another origin."""
    monkeypatch.setattr(secrets, "_hidden", {})
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    both = Fake(), Fake()
    yield both
    for server in both:
        server.close()
