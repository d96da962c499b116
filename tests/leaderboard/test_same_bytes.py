"""A site is the same bytes in every process that builds it from the same runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_site_does_not_depend_on_the_order_of_sets(world: Path, tmp_path: Path, seed: str) -> None:
    """Python hashes strings with a seed of each process, in whose order sets of them come."""
    command = ["leaderboard", "build", str(world / "runs"), "--out", str(tmp_path / "s")]
    subprocess.run(
        [sys.executable, "-m", "vtbench", *command],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    first, second = (_files(root) for root in (world / "site", tmp_path / "s"))
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert any(name.startswith("gallery/") for name in first)


def _files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
