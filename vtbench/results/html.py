"""Scores as a small table of HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

COLUMNS = ("metric", "value", "low", "high", "unit", "n", "missing", "why")


def scores_html(title: str, scores: Sequence[Any]) -> str:
    """The title, then one line a score; everything that a record states is escaped."""
    head = "".join(f"<th>{c}</th>" for c in COLUMNS)
    lines = "".join("<tr>" + "".join(f"<td>{_cell(s.get(c))}</td>" for c in COLUMNS) + "</tr>" for s in scores)
    return f"<p>{escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def paragraphs(sentences: Iterable[str]) -> str:
    """One paragraph a sentence, escaped."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else escape(str(value))
