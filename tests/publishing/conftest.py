"""Runs that are submitted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from made_submissions import change_record, of_quality
from support import cuts

import vtbench

NO_COMMAND = "vtbench evaluate jpeg -o quality=5 --images pictures"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two qualities, one of them not ranked, whatever this tree is."""
    root = tmp_path_factory.mktemp("submissions")
    more: dict[str, Any] = {"view": "native", "tasks": ["compression"], "out": root / "runs", "command": NO_COMMAND}
    pictures = cuts(root / "pictures", 4)
    # Limited, and so not ranked.
    vtbench.evaluate("jpeg", images=pictures, options={"quality": 5}, limit=3, **more)
    vtbench.evaluate("jpeg", images=pictures, options={"quality": 60}, **more)
    for path in (root / "runs").iterdir():
        # As from a folder that was named relatively.
        change_record(path, lambda info: info["suite"].update(spec="pictures"))
    return root / "runs"


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(of_quality(runs, 5), tmp_path / "mine"))
