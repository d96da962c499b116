"""Listing stays light: no torch before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEVER_TORCH = [
    "vtbench.leaderboard",
    "vtbench.results",
    "vtbench.reporting.runs",
    "vtbench.registry",
    "vtbench.listing",
    "vtbench.cli",
]


@pytest.mark.parametrize("module", NEVER_TORCH)
def test_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("what", ["models", "families", "suites", "tasks", "metrics"])
def test_listing_is_light_and_whole(what: str) -> None:
    code = (
        "import sys, json\n"
        "from vtbench import listing\n"
        f"found = listing.{what}()\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "print(json.dumps(found, default=str))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found
    assert all({"name", "state", "needs"} <= set(f) for f in found)
    assert len({f["name"] for f in found}) == len(found)


def test_the_bare_folders_refuse_to_be_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import adapters"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "import vtbench.adapters" in ran.stderr
