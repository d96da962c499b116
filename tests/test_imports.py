"""Listing stays light: nothing heavy before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEVER_TORCH = [
    "vtbench",
    "vtbench.api",
    "vtbench.leaderboard",
    "vtbench.results",
    "vtbench.reporting",
    "vtbench.registry",
    *(f"vtbench.cli.{path.stem}" for path in sorted((ROOT / "vtbench" / "cli").glob("[a-z]*.py"))),
]
LISTS = ["models", "families", "suites", "tasks", "metrics", "reducers"]
SLOW = {"torch", "pydantic", "pandas", "numpy", "scipy", "PIL"}
"""Packages that take longer to import than a list takes to be printed."""


def python(code: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("module", NEVER_TORCH)
def test_no_torch(module: str) -> None:
    python(f"import sys, {module}; assert 'torch' not in sys.modules")


def test_importing_the_command_imports_nothing_slow() -> None:
    python(f"import sys, vtbench.cli; slow = {SLOW} & set(sys.modules); assert not slow, slow")


@pytest.mark.parametrize("what", LISTS)
def test_listing_is_light_and_whole(what: str) -> None:
    code = f"""
import sys, json
from vtbench.cli import catalogue, listing
entries = catalogue.LISTS[{what!r}]()
listing.listing({what!r}, entries, 80)
slow = {SLOW} & set(sys.modules)
assert not slow, slow
print(json.dumps(entries, default=str))
"""
    entries = json.loads(python(code))
    assert entries
    assert all({"name", "state", "needs"} <= set(e) for e in entries)
    assert len({e["name"] for e in entries}) == len(entries)


@pytest.mark.parametrize(
    "words", ["--help", "--version", "evaluate --help", "list", "list --json", *(f"list {what}" for what in LISTS)]
)
def test_the_command_starts_light(words: str) -> None:
    """Some versions of typer read the words of a command with pydantic; what of ours needs it, records, stays away."""
    code = f"""
import sys
from vtbench.cli import main
sys.argv = ["vtbench", *{words.split()}]
try:
    main()
except SystemExit as end:
    assert not end.code
slow = {SLOW - {"pydantic"} | {"vtbench.results.record"}} & set(sys.modules)
assert not slow, slow
"""
    assert python(code)


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_sleep_from_the_start(before: str | None, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads the variable when torch is loaded, so the command sets it first; who set it keeps their own."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code = """
import os, sys
from vtbench.cli import app, main
sys.argv = ["vtbench"]
def verb():
    print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
sys.modules["vtbench.cli.main"].app = verb
main()
"""
    assert python(code, **({} if before is None else {"OMP_WAIT_POLICY": before})).split() == [after, "False"]


def test_the_bare_folders_refuse_to_be_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import adapters"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "import vtbench.adapters" in ran.stderr


def test_counting_operations_does_not_import_torchs_compiler() -> None:
    # It takes 1.4 s, of each first run of a process.
    code = """
import sys, torch
from vtbench.models.macs import counting
with counting(True) as macs:
    torch.nn.functional.conv2d(torch.zeros(1, 2, 5, 5), torch.zeros(3, 2, 3, 3))
assert macs() == 3 * 3 * 3 * 2 * 3 * 3, macs()
assert "torch._dynamo" not in sys.modules
"""
    python(code)
