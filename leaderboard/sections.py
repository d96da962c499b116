"""One section of the page a group of comparable runs: its tables, its plots, and what its rows share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtbench.leaderboard.context import Context
from vtbench.leaderboard.figures import Figure, cost_figures, plotted_metrics, rate_figures
from vtbench.leaderboard.groups import Group
from vtbench.leaderboard.tables import Selection, Table, kind_tables
from vtbench.reporting.curves import Curve, curves, pareto, rate
from vtbench.reporting.measured import all_lossless, is_cost
from vtbench.reporting.ranking import deciding
from vtbench.reporting.runs import identity, is_complete, is_ranked, limit
from vtbench.results.record import Run


@dataclass(frozen=True)
class Section:
    """`other`: the same under other conventions; `speed`: costs. `curves`: of comparable runs."""

    group: Group
    tables: Sequence[Table]
    other: Sequence[Table]
    speed: Sequence[Table]
    plots: Sequence[Figure]
    by: str | None
    """The metric that decides."""
    quality: Sequence[str]
    """Metrics that say what is got, in the task's order, other conventions left out."""
    curves: Sequence[Curve]
    nowhere: Sequence[tuple[str, str]]
    """(metrics, reason) of what no table has a value for: said once, below all of them."""

    @property
    def how(self) -> tuple[str, str] | None:
        """The title of the metric that ranks and how ties were found, where all tables say the same."""
        said = {(table.by, table.how) for table in self.tables if table.by and table.how}
        return next(iter(said)) if len(said) == 1 else None

    @property
    def asked(self) -> tuple[tuple[str, str, str], str | None]:
        """Equal for sections that ask the same thing of the same pictures (compression repeats PSNR)."""
        return self.group.question.images, self.by

    def table_of(self, kind: str) -> Table | None:
        return next((table for table in self.tables if table.kind == kind), None)


def sections_of(groups: Sequence[Group], context: Context) -> list[Section]:
    """A plot of one metric on the same pictures is drawn for the first task that has it."""
    sections: list[Section] = []
    drawn: set[tuple[Any, ...]] = set()
    for group in groups:
        section = section_of(group, context)
        images = group.question.images
        plots = [plot for plot in section.plots if (images, plot.name) not in drawn]
        drawn |= {(images, plot.name) for plot in plots}
        sections.append(replace(section, plots=plots))
    return sections


def section_of(group: Group, context: Context) -> Section:
    main, other, speed = _by_use(group)
    by = group.primary_metric()
    comparable = _comparable(group.runs)
    lines = curves(comparable, by, others=context.runs) if by else []
    faded = {identity(run) for run in group.runs} - {identity(run) for run in comparable}
    plotted = plotted_metrics(group, main)
    bits = {identity(run): rate(run, context.runs) for run in comparable if all_lossless(run)}
    front = _front(group, by, lines, {run: x for run, x in bits.items() if x is not None})
    tables = kind_tables(group, context, Selection(main, group.ident, front, by))
    nowhere = _in_all(tables)
    return Section(
        group=group,
        tables=[replace(t, unmeasured=[line for line in t.unmeasured if line not in nowhere]) for t in tables],
        other=kind_tables(group, context, Selection(other, f"{group.ident}-other", front)) if other else [],
        speed=kind_tables(group, context, Selection(speed, f"{group.ident}-speed", front)) if speed else [],
        plots=rate_figures(group, context, plotted, faded) or cost_figures(group, context, plotted, faded),
        by=by,
        quality=[name for name in plotted if (card := group.card(name)) and not card.convention_of],
        curves=lines,
        nowhere=nowhere,
    )


def _by_use(group: Group) -> tuple[list[str], list[str], list[str]]:
    """The metrics of the main table, those of other conventions, and costs."""
    names = group.metrics()
    cards = {name: group.card(name) for name in names}
    costs = [name for name in names if not cards[name] and any(is_cost(run, name) for run in group.runs)]
    main = [name for name, card in cards.items() if name not in costs and not (card and card.convention_of)]
    decider = deciding(group.runs, "psnr")
    if "psnr" in main and decider not in main:
        main.insert(main.index("psnr") + 1, decider)
    other = [name for name, card in cards.items() if card and card.convention_of and name not in main]
    return main, other, costs


def _comparable(runs: Sequence[Run]) -> list[Run]:
    """The ranked runs; where there are none, those that are complete and whole."""
    ranked = [run for run in runs if is_ranked(run)]
    return ranked or [run for run in runs if is_complete(run) and not limit(run)]


def _front(group: Group, by: str | None, lines: Sequence[Curve], exact: Mapping[str, float]) -> frozenset[str]:
    """Ids of the runs that no other one beats in both rate and the deciding metric; a run alone has no front."""
    card = group.card(by) if by else None
    points = [(identity(point.run), point.x, point.y) for curve in lines for point in curve.points]
    for run, bits in exact.items() if by == "psnr" else ():
        points.append((run, bits, math.inf))
    if card is None or len(points) < 2:
        return frozenset()
    return frozenset(points[i][0] for i in pareto([(x, y) for _, x, y in points], str(card.better)))


def _in_all(tables: Sequence[Table]) -> list[tuple[str, str]]:
    """What no kind has a value for."""
    first = tables[0].unmeasured if tables else ()
    return [line for line in first if all(line in table.unmeasured for table in tables)]
