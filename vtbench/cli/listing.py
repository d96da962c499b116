"""What `vtbench list` shows: which entries, and which of their facts."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.cli.tables import by_family, cell, fitted
from vtbench.types.errors import VtbenchError, near

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "models": ("name", "kind", "tokens", "bit/px", "state", "licence"),
    "families": ("name", "title", "models", "state"),
    "suites": ("name", "n", "state", "needs"),
    "tasks": ("name", "version", "title", "suites", "view", "state"),
    "metrics": ("name", "version", "unit", "better", "kind", "state", "needs"),
    "reducers": ("name", "acts", "output", "training", "question", "state", "title"),
}
"""{list: the facts of an entry that its table shows}"""
NUMBERS = ("tokens", "bit/px", "n", "version")
CUT = ("title", "licence", "suites", "needs")
FEW = 5
"""So many models are shown with what each needs."""
SEARCHED = ("name", "aliases", "family", "title")
"""Facts in which a pattern is looked for."""


def chosen(
    what: str,
    entries: Sequence[Mapping[str, Any]],
    *,
    pattern: str | None = None,
    kind: str | None = None,
    family: str | None = None,
    ready: bool = False,
) -> list[Mapping[str, Any]]:
    """The entries that all of the filters leave."""
    if what != "models" and (kind is not None or family is not None):
        raise VtbenchError(f"--kind and --family choose models: leave them out for {what}")
    kinds, families = _known(entries, "kind"), _known(entries, "family")
    out = _matching(entries, pattern)
    if kind is not None:
        wanted = [k.strip().lower() for k in kind.split(",") if k.strip()]
        for one in wanted or [kind]:
            if one not in kinds:
                raise VtbenchError(
                    f"there are no models of the kind {one!r}{near(one, kinds)}: give {', '.join(kinds)}"
                )
        out = [e for e in out if e.get("kind") in wanted]
    if family is not None:
        if family.lower() not in families:
            raise VtbenchError(
                f"there is no family {family!r}{near(family.lower(), families)}: see `vtbench list families`"
            )
        out = [e for e in out if e.get("family") == family.lower()]
    return [e for e in out if e["state"] == "ready"] if ready else out


def _known(entries: Sequence[Mapping[str, Any]], fact: str) -> list[str]:
    return sorted({str(e[fact]) for e in entries if e.get(fact)})


def _matching(entries: Sequence[Mapping[str, Any]], pattern: str | None) -> list[Mapping[str, Any]]:
    """Entries in whose name, aliases, family or title the pattern stands, in any case; with * and ? it is a whole
    name's."""
    if not pattern:
        return list(entries)
    wanted = pattern.lower()
    if any(mark in wanted for mark in "*?["):
        return [e for e in entries if any(fnmatch.fnmatchcase(text, wanted) for text in _texts(e))]
    return [e for e in entries if any(wanted in text for text in _texts(e))]


def _texts(entry: Mapping[str, Any]) -> list[str]:
    out = []
    for fact in SEARCHED:
        value = entry.get(fact)
        out += [str(v).lower() for v in (value if isinstance(value, list | tuple) else [value]) if v]
    return out


def listing(what: str, entries: Sequence[Mapping[str, Any]], width: int | None, *, of: int | None = None) -> str:
    """The table, and how many of how many it shows. width: the terminal's columns; None in a pipe, where every line
    is whole and models stand with their family and what they need."""
    count = f"{len(entries)} of {of} {what}" if of is not None and of != len(entries) else f"{len(entries)} {what}"
    foot = f"{count}; --json gives all facts"
    if not entries:
        return foot
    if what != "models":
        columns = COLUMNS[what]
        lines = [[_fact(entry, c) for c in columns] for entry in entries]
        return f"{fitted(columns, lines, width, right=NUMBERS, cut=CUT)}\n{foot}"
    if width is None:
        columns = ("family", *COLUMNS[what], "needs")
        lines = [[_fact(entry, c) for c in columns] for group in by_family(entries).values() for entry in group]
        return f"{fitted(columns, lines, None)}\n{foot}"
    return "\n".join([_grouped(entries, width), *_needs(entries), foot])


def _grouped(entries: Sequence[Mapping[str, Any]], width: int) -> str:
    """Models under their families' names, in one table, so that columns stand under each other."""
    columns = COLUMNS["models"]
    lines = []
    for family, group in by_family(entries).items():
        lines.append([family, *[""] * (len(columns) - 1)])
        lines += [["  " + _fact(entry, "name"), *(_fact(entry, c) for c in columns[1:])] for entry in group]
    return fitted(columns, lines, width, right=NUMBERS, cut=CUT)


def _needs(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each of a few models needs; how downloads come, for many."""
    if len(entries) <= FEW:
        return [f"{entry['name']} needs {entry['needs']}" for entry in entries if entry.get("needs")]
    if any(entry["state"] == "needs download" for entry in entries):
        return ["needs download: comes at the first use"]
    return []


def _fact(entry: Mapping[str, Any], column: str) -> str:
    if column == "tokens":
        return cell(entry.get("tokens_at_256"))
    if column == "bit/px":
        rate = entry.get("bits_per_pixel")
        return "" if rate is None else f"{rate:.3g}"
    if column == "models":
        return str(len(entry.get("models", ())))
    return cell(entry.get(column))
