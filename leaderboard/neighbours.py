"""Neighbours on the Pareto front, compared in pairs: what a reader without scripts can see of the differences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from vtbench.leaderboard.addresses import comparison_address
from vtbench.leaderboard.cells import column
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.labels import Label
from vtbench.leaderboard.sections import Section
from vtbench.leaderboard.words import number
from vtbench.reporting.compare import Difference, compare
from vtbench.reporting.curves import pareto
from vtbench.reporting.runs import identity, system
from vtbench.results.record import Run
from vtbench.types.errors import VtbenchError

PAIRS = 6
"""Of one task: on a longer front those that are furthest apart in what decides are shown."""
METRICS = 3
"""Of one pair: the metric that decides, then those that the task lists first."""


@dataclass(frozen=True)
class Line:
    """One metric of a pair, as text. `counts`: images where the second is better, equal, worse."""

    title: str
    unit: str
    difference: str
    interval: str
    p: str
    counts: str


@dataclass(frozen=True)
class Neighbours:
    """Two systems that follow each other on a front; `href`: their comparison in full."""

    one: Label
    other: Label
    rates: str
    href: str
    lines: Sequence[Line]


def neighbours(section: Section, context: Context) -> list[Neighbours]:
    """The pairs of one section, from few bits to many; none where its runs hold no values of images."""
    steps = _steps(section)
    if len(steps) > PAIRS:
        most = sorted(steps, key=lambda step: -abs(step[1][2] - step[0][2]))[:PAIRS]
        steps = [step for step in steps if step in most]
    out = []
    for (one, x, _), (other, x_other, _) in steps:
        lines = _lines(section, one, other, context)
        if lines:
            labels = context.labels[identity(one)], context.labels[identity(other)]
            rates = f"{number(x, 3)} → {number(x_other, 3)}"
            out.append(Neighbours(*labels, rates, comparison_address(other, one), lines))
    return out


Step = tuple[tuple[Run, float, float], tuple[Run, float, float]]


def _steps(section: Section) -> list[Step]:
    """Every run of the front with the next one: (run, rate, value of what decides) of both."""
    card = section.group.card(section.by) if section.by else None
    points = [(point.run, point.x, point.y) for curve in section.curves for point in curve.points]
    if card is None or not points:
        return []
    front = sorted((points[i] for i in pareto([(x, y) for _, x, y in points], str(card.better))), key=lambda p: p[1])
    return [(a, b) for a, b in itertools.pairwise(front) if system(a[0]) != system(b[0])]


def _lines(section: Section, one: Run, other: Run, context: Context) -> list[Line]:
    wanted = list(dict.fromkeys([section.by or "", *section.quality]))[:METRICS]
    try:
        compared = compare([other, one], wanted, rows=context.rows)
    except VtbenchError:
        # No image in common, or other pictures under the same names: there is nothing to pair.
        return []
    return [_line(section, d) for d in compared.differences if d.n]


def _line(section: Section, d: Difference) -> Line:
    head = column(section.group, d.metric.removesuffix("-pooled"))
    pooled = ", pooled" if d.metric.endswith("-pooled") else ""
    span = f"[{_signed(d.low)}, {_signed(d.high)}]" if d.low is not None and d.high is not None else "—"
    counts = f"{d.wins}, {d.ties}, {d.losses}" if d.better else "—"
    p = "—" if d.p_holm is None else "<0.001" if d.p_holm < 0.001 else f"{d.p_holm:.3f}"
    return Line(f"{head.title}{pooled}", head.unit, _signed(d.difference), span, p, counts)


def _signed(value: float | None) -> str:
    return f"+{number(value)}" if value is not None and value > 0 else number(value)
