"""Who may import whom, and that listing stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BOTTOM = {
    "adapter",
    "cards",
    "tokens",
    "task",
    "metric",
    "images",
    "weights",
    "checkpoint",
    "errors",
    "network",
    "cache",
}
RULES = {
    # folder -> what its files may import of vtbench
    "adapters": BOTTOM | {"adapters.networks"},
    "adapters/networks": BOTTOM | {"adapters.networks"},
    "tasks": BOTTOM | {"tasks", "suite", "metrics", "results", "registry"},
    "leaderboard": BOTTOM - {"adapter", "network", "images", "weights"}
    | {"leaderboard", "aggregate", "results", "intervals", "compare", "registry", "metrics", "protocols"},
    "vtbench/metrics": BOTTOM | {"metrics", "results", "intervals", "store", "suite", "stability"},
}
NEVER_TORCH = [
    "vtbench.leaderboard",
    "vtbench.results",
    "vtbench.aggregate",
    "vtbench.registry",
    "vtbench.listing",
    "vtbench.cli",
]


def imported(path: Path) -> set[str]:
    """Modules of vtbench that a file imports, anywhere in it, without the leading `vtbench.`."""
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {n.name for n in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            out |= {f"{node.module}.{n.name}" for n in node.names} if node.module in ("vtbench",) else {node.module}
    return {m.removeprefix("vtbench.") for m in out if m.startswith("vtbench.")}


@pytest.mark.parametrize("folder", RULES)
def test_direction(folder: str) -> None:
    wrong = []
    for path in sorted((ROOT / folder).glob("*.py")):
        for module in imported(path):
            parts = module.split(".")
            if not any(".".join(parts[:k]) in RULES[folder] for k in range(1, len(parts) + 1)):
                wrong.append(f"{path.name} imports vtbench.{module}")
    assert not wrong


def test_the_core_knows_no_adapter_by_name() -> None:
    allowed = {"api.py": {"adapters.tokenbridge"}}
    wrong = []
    for path in sorted((ROOT / "vtbench").glob("*.py")):
        for module in imported(path):
            if module.startswith("adapters.") and module not in allowed.get(path.name, set()):
                wrong.append(f"{path.name} imports vtbench.{module}")
    assert not wrong


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
