"""Reducers of visual tokens on the page: quality against the tokens that go on, baselines dashed and asked for.

A group holds runs of one model that reads pictures, with one rule for positions: it is never joined with another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

from vtbench.leaderboard.context import Context
from vtbench.leaderboard.figures import Axis, Figure, figure
from vtbench.leaderboard.groups import Group
from vtbench.reporting.curves import Curve, Point, curves
from vtbench.reporting.measured import value
from vtbench.reporting.readers import REDUCERS, is_baseline, spread_over
from vtbench.reporting.runs import kind, model_name, model_title, options
from vtbench.results.record import Run

TOKENS = Axis("visual tokens", "visual tokens that go on, as counted", "tokens", "visual-tokens")
BASELINE = "baseline"
"""The kind of a baseline's curve in a plot."""
NO_BASELINES = (
    "No baseline was measured here, so that nothing says what a method is worth: leave out --no-baselines, which runs "
    "random, uniform, pooled and resized tokens at the same counts."
)


def token_figures(group: Group, context: Context, metrics: Sequence[str], faded: set[str]) -> list[Figure]:
    """One figure a metric with at least two points against the tokens that go on; none of what is no reducer."""
    if not any(kind(run) in REDUCERS for run in group.runs):
        return []
    out = []
    for metric in metrics:
        drawn = token_curves(group.runs, metric, context)
        if sum(len(curve.points) for curve in drawn) > 1:
            out.append(figure(group, context, metric, drawn, TOKENS, faded))
    return out


def token_curves(runs: Sequence[Run], metric: str, context: Context) -> list[Curve]:
    """A curve a method. Several draws of one method at one budget are a point: their mean, between least and most."""
    merged: dict[tuple[str, str], list[Point]] = {}
    for curve in curves(runs, metric, rates=context.rates, cost=TOKENS.metric):
        for point in curve.points:
            merged.setdefault((model_name(point.run), _fixed(point.run)), []).append(point)
    return [_curve(name, fixed, points) for (name, fixed), points in merged.items()]


def _fixed(run: Run) -> str:
    """The options that are not drawn over and not the budget."""
    drawn = spread_over(run)
    return json.dumps({k: v for k, v in options(run).items() if k not in ("keep", drawn)}, sort_keys=True, default=str)


def _curve(name: str, fixed: str, points: Sequence[Point]) -> Curve:
    by_budget: dict[str, list[Point]] = {}
    for point in points:
        by_budget.setdefault(json.dumps(options(point.run).get("keep")), []).append(point)
    first = points[0].run
    ordered = sorted((_mean(of) for of in by_budget.values()), key=lambda p: (p.x, p.y))
    shown = BASELINE if is_baseline(first) else kind(first)
    return Curve(f"{name} {fixed}", model_title(first), shown, tuple(ordered), "keep")


def _mean(points: Sequence[Point]) -> Point:
    if len(points) == 1:
        return points[0]
    ys, xs = [p.y for p in points], [p.x for p in points]
    return replace(points[0], x=math.fsum(xs) / len(xs), y=math.fsum(ys) / len(ys), low=min(ys), high=max(ys))


def remarks(group: Group) -> list[str]:
    """What a reader of a group of reducers must know."""
    reducers = [run for run in group.runs if kind(run) in REDUCERS]
    if not reducers:
        return []
    reduced = [run for run in reducers if value(run, "visual-tokens") is not None and options(run).get("keep")]
    return [] if any(is_baseline(run) for run in reduced) else [NO_BASELINES]
