"""A key that was asked for is in no sentence afterwards, in whatever form and however much of it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtbench.types import secrets

KEY = "sk-A1b2C3d4E5f6G7h8&i9"
QUICK = settings(derandomize=True, max_examples=40, deadline=None, database=None)


@pytest.fixture(scope="module", autouse=True)
def key() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "_hidden", {})
        patch.setenv("MY_KEY", f"  {KEY} ")
        assert secrets.secret("MY_KEY") == KEY
        yield


@given(st.text(max_size=12), st.text(max_size=12), st.integers(0, len(KEY) - 12), st.integers(12, len(KEY)))
@QUICK
def test_twelve_characters_in_a_row_are_hidden_wherever_they_stand(
    before: str, after: str, start: int, length: int
) -> None:
    part = KEY[start : start + length]
    said = secrets.redacted(f"{before}«{part}»{after}")
    if len(part) >= 15 or part == KEY:
        assert said == f"{before}«[MY_KEY]»{after}"
    assert secrets.redacted(said) == said


@pytest.mark.parametrize("form", [KEY.lower(), KEY.upper(), KEY[::-1], KEY.encode().hex()])
def test_other_forms_are_hidden_too(form: str) -> None:
    assert secrets.redacted(f"no: {form}.") == "no: [MY_KEY]."
    assert secrets.redacted(f"{form}{form}") == "[MY_KEY][MY_KEY]"


@pytest.mark.parametrize("form", [KEY.replace("&", "%26"), KEY.replace("&", "&amp;")])
def test_of_a_quoted_one_less_than_a_part_is_left(form: str) -> None:
    said = secrets.redacted(f"no: {form}.")
    assert said.startswith("no: [MY_KEY]")
    assert not any(form[i : i + secrets.PART] in said for i in range(len(form) - secrets.PART + 1))


@pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
def test_base64_of_a_longer_text_hides_it_too(before: str) -> None:
    text = base64.b64encode(f"{before}{KEY}".encode()).decode()
    said = secrets.redacted(text)
    assert "[MY_KEY]" in said
    assert len(said) - len("[MY_KEY]") <= len(text) - len(KEY)


def test_short_values_and_other_texts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "EMPTY")
    assert secrets.secret("SHORT") == "EMPTY"
    assert secrets.secret("NOT_THERE_AT_ALL") is None
    for text in ("EMPTY", KEY[:11], "sk-A1b2 C3d4", ""):
        assert secrets.redacted(text) == text
