"""The hub's token, which its library reads by itself: in no sentence, and in no record."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtbench.images import hub
from vtbench.results.files import dumps
from vtbench.types import secrets
from vtbench.types.errors import VtbenchError

TOKEN = "hf_0123456789abcdefghij"


def test_the_hubs_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(secrets, "_hidden", {})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("VTBENCH_OFFLINE", raising=False)

    def refuse(*_: object) -> str:
        raise ValueError(f"401: {TOKEN} is not taken")

    monkeypatch.setattr(hub, "_commit", refuse)
    with pytest.raises(VtbenchError, match="cannot be had") as caught:
        hub.open_hub("hf:somebody/things@main")
    assert TOKEN not in str(caught.value)
    assert TOKEN not in dumps({TOKEN: [{"why": f"it said {TOKEN}"}]})
