"""Tables as text: whole in a pipe, fitted to the width of a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 90
"""Characters of a cell in a pipe."""
NARROWEST = 40
"""Columns below which a terminal is taken for one of so many."""
GAP = "  "
SHORTEST = 10
"""Characters to which a cell is cut at most."""


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None where it is a pipe or a file."""
    if not sys.stdout.isatty():
        return None
    return max(NARROWEST, shutil.get_terminal_size().columns)


def table(columns: Sequence[str], lines: Sequence[Sequence[str]], title: str | None = None) -> str:
    """A plain aligned table; wide ones are cut by nobody, so that they can be piped."""
    widths = [max(len(c), *(len(line[i]) for line in lines)) if lines else len(c) for i, c in enumerate(columns)]
    rows = [columns, ["-" * w for w in widths], *lines]
    text = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    return f"{title}\n{text}" if title else text


def fitted(
    columns: Sequence[str],
    lines: Sequence[Sequence[str]],
    width: int | None,
    *,
    right: Sequence[str] = (),
    cut: Sequence[str] = (),
) -> str:
    """The table in `width` columns of a terminal; whole, as `table`, where that is None.

    Where it is too wide, cells of the columns `cut` lose their end, and then columns are left out from the right; the
    first stays whole, since it is what people copy. right: columns of numbers.
    """
    if width is None:
        return table(columns, lines)
    widths = [max([len(name), *(len(line[i]) for line in lines)]) for i, name in enumerate(columns)]
    for i in reversed(range(1, len(columns))):
        too_much = sum(widths) + len(GAP) * (len(widths) - 1) - width
        if too_much > 0 and columns[i] in cut:
            widths[i] = max(SHORTEST, widths[i] - too_much)
    while len(widths) > 1 and sum(widths) + len(GAP) * (len(widths) - 1) > width:
        widths.pop()
    rows = [columns, *lines]
    return "\n".join(
        GAP.join(_place(row[i], size, at_right=columns[i] in right) for i, size in enumerate(widths)).rstrip()
        for row in rows
    )


def _place(text: str, size: int, *, at_right: bool) -> str:
    if len(text) > size:
        text = text[: size - 1] + "…"
    return text.rjust(size) if at_right else text.ljust(size)


def cell(value: Any) -> str:
    """A fact as the text of a cell."""
    text = "" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "…"


def by_family(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """{family: its models}, families and models in the order of their names."""
    out: dict[str, list[Mapping[str, Any]]] = {}
    for entry in sorted(entries, key=lambda e: (str(e.get("family") or ""), str(e["name"]))):
        out.setdefault(str(entry.get("family") or ""), []).append(entry)
    return out
