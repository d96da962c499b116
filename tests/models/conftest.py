"""What several files of tests ask and none changes: tiny language models that see, and pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from seen_by_reducers import made, subjects_of
from support import cuts

from vtbench.models.answering import VisionLanguage


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return made(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def subjects(folders: dict[str, Path]) -> dict[str, VisionLanguage]:
    return subjects_of(folders)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuts(tmp_path_factory.mktemp("pictures"), 2, ((24, 24),))
