"""What stands at the top of the package: names that exist, are documented, and say briefly what they are."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import vtbench


@pytest.mark.parametrize("name", [n for n in vtbench.__all__ if n != "__version__"])
def test_a_public_name_exists_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(vtbench, name))
    assert name in dir(vtbench)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = vtbench.no_such_name  # type: ignore[attr-defined]


def test_models_by_pattern_and_kind() -> None:
    names = [c.name for c in vtbench.list_models("llamagen*", kind="discrete")]
    assert "llamagen-vq-ds16-c2i" in names
    assert all(n.startswith("llamagen") for n in names)
    assert {c.kind for c in vtbench.list_models(kind="generator")} == {"generator"}
    assert vtbench.list_models("no such model") == []


def test_what_is_shown_is_short() -> None:
    loaded = vtbench.load("jpeg", options={"quality": 5})
    shown = [repr(c) for c in vtbench.list_models()] + [repr(loaded)]
    assert max(map(len, shown)) < 200
    assert repr(loaded) == "<Loaded jpeg (quality=5), weights none>"
    assert loaded.model.options["quality"] == 5


def test_the_top_imports_nothing_heavy() -> None:
    code = (
        "import sys, vtbench; vtbench.Card, vtbench.Codes, vtbench.ImageMetric, vtbench.list_models()\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'pydantic') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
