"""Pictures that the tests of running share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import cuts


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-two small cuts of a photograph, of three sizes."""
    return cuts(tmp_path_factory.mktemp("images") / "cuts")
