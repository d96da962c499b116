"""docs/downloads.md lists every address that anything is downloaded from, and says that none was tried."""

from __future__ import annotations

from support import ROOT

from benchmarks.downloads import page
from vtbench import registry
from vtbench.metrics.released_weights import TABLE

TEXT = (ROOT / "docs" / "downloads.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_cards_say() -> None:
    assert page() == TEXT, "write it anew: python -m benchmarks.downloads > docs/downloads.md"
    assert "None of these addresses was ever tried over a real network" in TEXT


def test_no_address_is_left_out() -> None:
    weights = [(entry.card, weight) for entry in registry.entries() for weight in entry.card.weights]
    asked = [(card, w) for card, w in weights if w.hub or w.url]
    assert len(asked) > 300
    for card, weight in asked:
        lines = [line for line in TEXT.splitlines() if line.startswith(f"| `{card.name}` |")]
        assert any((weight.hub or weight.url or "") in line for line in lines), card.name
    for one in TABLE.values():
        assert f"| `{one.name}` | {one.url} |" in TEXT
