"""Every fixture beside the checkout, of the families that are registered; those in tests/parity are checked there."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtbench import registry
from vtbench.proving import parity

HERE = Path(__file__).parents[1]
SHARED = HERE.parents[1] / "shared" / "parity"
FAMILIES = {name for family in registry.families().values() for name in family.fixtures}
NAMES = [
    path.stem
    for path in sorted(SHARED.glob("*__*.json"))
    if path.stem.split("__")[0] in FAMILIES and not (HERE / "parity" / path.name).exists()
]


@pytest.mark.parametrize("name", NAMES if SHARED.is_dir() else ["those of the folder that is not here"])
def test_our_network_computes_what_upstream_computes(name: str, shared: Path) -> None:
    report = parity.check_fixture(shared / "parity" / f"{name}.json")
    assert report.ok, report.line()
    assert report.differences, "nothing was compared"
