"""`vtbench check`: an adapter without mistakes passes, every planted mistake is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtbench import contract

FILE = Path(__file__).parent / "bad_adapters.py"


def failures(name: str) -> dict[str, str]:
    return {c.name: c.said for c in contract.check(f"{FILE}@{name}") if c.status == "failed"}


def test_right() -> None:
    found = contract.check(f"{FILE}@right")
    assert [c for c in found if c.status != "passed"] == []
    assert len(found) >= 9


@pytest.mark.parametrize(
    ("name", "check", "words"),
    [
        ("wrong-range", "output", "looks like [-1, 1]"),
        ("bytes", "output", "divide by 255"),
        ("wants-signed", "range and channels", "the network wants [-1, 1]"),
        ("swapped", "range and channels", "channel order is BGR"),
        ("smuggler", "fresh process", "not in the tokens"),
        ("batch-mean", "batch", "depends on the batch"),
        ("unseeded", "seeds", "from the seed"),
        ("nan", "output", "NaN"),
        ("wrong-size", "output", "shape"),
        ("wrong-type", "output", "float tensor"),
        ("alphabet", "alphabet", "outside its alphabet"),
        ("not-tokens", "output", "return Codes"),
        ("wrong-facts", "facts", "1024 tokens at 256"),
    ],
)
def test_mistakes(name: str, check: str, words: str) -> None:
    found = failures(name)
    assert check in found, found
    assert words in found[check]
