"""What a curve saves against another: BD-rates of one task, against an anchor that the reader chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vtbench.leaderboard.cells import column
from vtbench.leaderboard.sections import Section
from vtbench.reporting.curves import Curve, Savings, bd_table
from vtbench.reporting.runs import kind_order
from vtbench.statistics.bd import MIN_POINTS

ANCHORS = 6
"""So many curves can be chosen to measure against: codecs first, then those of most points."""


@dataclass(frozen=True)
class SavingsTables:
    """BD-rates in one metric: `title` of it, a table for each anchor, and how many systems have no curve."""

    title: str
    tables: Sequence[Savings]
    without: int
    points: int = MIN_POINTS


def savings(section: Section) -> SavingsTables | None:
    """None where fewer than two systems have a curve, or nothing decides."""
    card = section.group.card(section.by) if section.by else None
    real = [curve for curve in section.curves if len(curve.points) >= MIN_POINTS]
    if section.by is None or card is None or len(real) < 2:
        return None
    tables = [bd_table(real, section.by, str(card.better), anchor=anchor) for anchor in _anchors(real)]
    title = column(section.group, section.by).title
    return SavingsTables(title, [table for table in tables if table], len(section.curves) - len(real))


def _anchors(real: Sequence[Curve]) -> list[Curve]:
    return sorted(real, key=lambda curve: (kind_order(curve.kind), -len(curve.points)))[:ANCHORS]
