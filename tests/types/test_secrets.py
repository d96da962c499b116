"""No text that holds a secret, whole, cut or encoded, leaves the process; and other texts are left as they are."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from vtbench.images import hub
from vtbench.results.files import dumps
from vtbench.types.errors import VtbenchError
from vtbench.types.readable import readable
from vtbench.types.secrets import redacted, secret

VALUE = "hf_Ab12-Cd34/Ef56=Gh78\"Ij90'Kl"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("A_TOKEN", f"  {VALUE}\n")
    assert secret("A_TOKEN") == VALUE
    return VALUE


def test_forms_of_one_secret(known: str) -> None:
    encoded = base64.b64encode(f"x{known}".encode()).decode()
    for text in (known, f"before {known} behind", repr(known), dumps({"a": known}), known[4:], known[:-4], encoded):
        assert "[A_TOKEN]" in redacted(text), text
        assert "Ef56" not in redacted(text)
    assert redacted(f"{known}{known}") == "[A_TOKEN][A_TOKEN]"
    assert known not in str(VtbenchError(f"it said {known}"))
    assert "Ef56" not in dumps({known: [{"why": known}]})


def test_other_texts_stay(known: str) -> None:
    for text in ("", "hf_Ab12-C", "a sentence of other words", "Ab12 Cd34 Ef56", "x" * 10_000, known[:11]):
        assert redacted(text) == text == readable(text)


@pytest.mark.parametrize("value", ["", "  ", "EMPTY", "none", "sk-1234"])
def test_short_values_are_no_secrets(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers without keys are told `EMPTY`: the word may stand in any sentence."""
    monkeypatch.setenv("A_SHORT_KEY", value)
    assert secret("A_SHORT_KEY") == (value.strip() or None)
    assert redacted(f"it is {value} here") == f"it is {value} here"


def test_the_hubs_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = "hf_0123456789abcdefghij"
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.delenv("VTBENCH_OFFLINE", raising=False)

    def refuse(*_: object) -> str:
        raise ValueError(f"401: {token} is not taken")

    monkeypatch.setattr(hub, "_commit", refuse)
    with pytest.raises(VtbenchError, match="cannot be had") as caught:
        hub.open_hub("hf:somebody/things@main")
    assert token not in str(caught.value)
