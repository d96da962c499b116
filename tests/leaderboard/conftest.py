"""The site that most of these tests read."""

from __future__ import annotations

from pathlib import Path

import made_runs
import pytest

from vtbench import leaderboard


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of `made_runs.small_world` and their site: returns the folder of both."""
    root = tmp_path_factory.mktemp("world")
    made_runs.small_world(root / "runs")
    assert leaderboard.build([root / "runs"], root / "site") == (root / "site" / "index.html").resolve()
    return root
