"""One section of the site a group of comparable runs: its table, its plots, and what its rows share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vtbench.leaderboard.cells import COSTS, OTHER, QUALITY
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.figures import SPEED_AXIS, Figure, cost_figures, faded_runs, plotted_metrics, rate_figures
from vtbench.leaderboard.groups import Group
from vtbench.leaderboard.leaders import Leader, leaders
from vtbench.leaderboard.reduction import remarks, token_figures
from vtbench.leaderboard.tables import GroupTable, Selection, Table
from vtbench.reporting.curves import Curve, curves, pareto
from vtbench.reporting.measured import all_lossless, is_cost
from vtbench.reporting.ranking import deciding
from vtbench.reporting.runs import identity, is_complete, is_ranked, limit
from vtbench.results.record import Run


@dataclass(frozen=True)
class Section:
    """`plots`: quality against the rate, or against a cost where there is none; `speed`: against the time to decode;
    `curves`: of comparable runs; `leaders`: the best of every band of rate by metric."""

    group: Group
    table: Table
    plots: Sequence[Figure]
    speed: Sequence[Figure]
    by: str | None
    """The metric that decides."""
    quality: Sequence[str]
    """Metrics that say what is got, in the task's order, other conventions left out."""
    curves: Sequence[Curve]
    leaders: Mapping[str, Sequence[Leader]]
    remarks: Sequence[str] = ()
    """What a reader must know of the group as a whole."""

    @property
    def asked(self) -> tuple[tuple[str, str, str], str | None]:
        """Equal for sections that ask the same thing of the same pictures (compression repeats PSNR)."""
        return self.group.question.images, self.by


def section_of(group: Group, context: Context) -> Section:
    main, other, costs = _by_use(group)
    by = group.primary_metric()
    comparable = _comparable(group.runs)
    lines = curves(comparable, by, rates=context.rates) if by else []
    plotted = plotted_metrics(group, main)
    faded = faded_runs(group, [identity(run) for run in comparable])
    bits = {identity(run): context.rates[identity(run)] for run in comparable if all_lossless(run)}
    front = _front(group, by, lines, {run: x for run, x in bits.items() if x is not None})
    uses = dict.fromkeys(main, QUALITY) | dict.fromkeys(other, OTHER) | dict.fromkeys(costs, COSTS)
    building = GroupTable(group, context, Selection(uses, front, by))
    return Section(
        group=group,
        table=building.table(),
        plots=rate_figures(group, context, plotted, faded)
        or token_figures(group, context, plotted, faded)
        or cost_figures(group, context, plotted, faded),
        speed=cost_figures(group, context, plotted[:2], faded, (SPEED_AXIS,)),
        by=by,
        quality=[name for name in plotted if (card := group.card(name)) and not card.convention_of],
        curves=lines,
        leaders=leaders(building.rankings, plotted, context),
        remarks=remarks(group),
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
