"""How a checkpoint that is refused is judged: one sentence, and nothing in it that a terminal acts on."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from vtbench.models import checkpoint
from vtbench.types.errors import VtbenchError


def refusal(path: Path) -> str:
    """The one sentence about a file that is refused."""
    with pytest.raises(VtbenchError) as caught:
        checkpoint.inventories(path)
    said = str(caught.value)
    assert caught.value.code == 2
    assert clean(said), repr(said)
    return said


def clean(said: str) -> bool:
    """One line of moderate length, without anything that a terminal acts on."""
    return len(said) < 2100 and not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in said)
