"""`vtbench check`: an adapter without mistakes passes, every planted mistake is found and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import BAD_ADAPTERS as FILE

from vtbench.models.load import load
from vtbench.proving import checks, contract, honesty
from vtbench.types.errors import VtbenchError


def failures(name: str) -> dict[str, str]:
    return {c.name: c.said for c in contract.check(f"{FILE}@{name}") if c.status == "failed"}


def test_right() -> None:
    every = contract.check(f"{FILE}@right")
    assert [c for c in every if c.status != "passed"] == []
    assert len(every) >= 11


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
    failed = failures(name)
    assert check in failed, failed
    assert words in failed[check]


@pytest.mark.parametrize(
    ("name", "look", "words"),
    [
        ("remembers", lambda tokenizer: honesty.state(tokenizer, 256), "in the tokens|shape"),
        ("by-note", lambda tokenizer: honesty.hidden(tokenizer, 64), "note of the tokens differs"),
        ("cut", lambda tokenizer: honesty.hidden(tokenizer, 64), "variable=True"),
        ("holes", lambda tokenizer: honesty.hidden(tokenizer, 64), "in the middle of a code"),
        ("spender", lambda tokenizer: honesty.budget(tokenizer, 64), "cut its code to the budget"),
        ("noisy", lambda tokenizer: checks.facts(tokenizer, 64), "does not say stochastic"),
        ("wrong-grid", lambda tokenizer: checks.facts(tokenizer, 64), "one position for 8 x 8 pixels"),
        ("right", lambda tokenizer: honesty.state(tokenizer, 64), "passed"),
        ("right", lambda tokenizer: honesty.hidden(tokenizer, 64), "passed"),
    ],
)
def test_quiet_mistakes(name: str, look: Callable[[Any], tuple[str, str]], words: str) -> None:
    tokenizer = load(f"{FILE}@{name}").model
    try:
        status, said = look(tokenizer)
    except (RuntimeError, VtbenchError) as bad:
        # What `check` turns into a failure with the mistake that it usually means.
        status, said = "failed", str(bad)
    assert re.search(words, f"{status}: {said}")


def test_a_picture_that_waits_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMUGGLE", str(tmp_path))
    said = failures("by-file")["fresh process"]
    assert "which was written after" in said


def test_a_wrong_name_is_a_wrong_question() -> None:
    with pytest.raises(VtbenchError, match="did you mean jpeg") as caught:
        contract.check("jpgg")
    assert caught.value.code == 2
