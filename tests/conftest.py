"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

os.environ.setdefault("VTBENCH_OFFLINE", "1")


def pytest_report_header(config: pytest.Config) -> str:
    if SHARED.is_dir():
        return f"shared data: found beside the checkout ({SHARED.name}/)"
    return "shared data: NOT FOUND beside the checkout: every test marked `shared` is SKIPPED, not passed"


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test's name never quotes bytes: a gzip states its second, and two workers then collect different tests."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests that need it say loudly when it is not there."""
    if not SHARED.is_dir():
        pytest.skip("NOT TESTED: the folder ../shared (reference data) is not beside this checkout")
    return SHARED
