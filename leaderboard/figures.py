"""The plots of a group: its metrics against the rate, or against a cost where its runs have no rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vtbench.leaderboard.cells import Column, column
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.groups import Group, is_price
from vtbench.leaderboard.plot import Frame, Marks, draw, swatch
from vtbench.leaderboard.published import Printed, published_curves
from vtbench.leaderboard.words import anchor, short
from vtbench.reporting.curves import Curve, curves
from vtbench.reporting.values import finite
from vtbench.types.metric import MetricCard

LARGE, SMALL = (860, 470), (400, 330)
"""Width and height in pixels: for wide windows, and for phones and rows of plots."""


@dataclass(frozen=True)
class Axis:
    """What the curves stand against. `metric`: None for the rate that all kinds share."""

    name: str
    title: str
    unit: str
    metric: str | None = None


RATE_AXIS = Axis("rate", "bits per pixel", "bit/px")
COST_AXES = (
    Axis("time to image", "time to image, s/image", "s/image", "image-seconds-p50"),
    Axis("network evaluations", "network evaluations, per image", "per image", "nfe"),
)
"""What a drawn image takes: the axes of generators, which have no rate."""


@dataclass(frozen=True)
class Figure:
    """A plot in two sizes with its legend: (swatch, title, number of points) of every curve, their keys beside it."""

    name: str
    """The metric, and what it stands against where that is no rate: equal for plots of the same numbers."""
    title: str
    against: str | None
    """The cost and its unit; None for the rate."""
    arrow: str
    direction: str
    legend: Sequence[tuple[Markup, str, int]]
    keys: Sequence[str]
    large: Markup
    small: Markup
    published: Sequence[Printed] = ()
    """Curves of others' that are drawn behind."""


def plotted_metrics(group: Group, metrics: Sequence[str]) -> list[str]:
    """Those with a better end that say what is got: prices and the use of tokens are no distortion."""
    cards = {name: group.card(name) for name in metrics}
    return [n for n, card in cards.items() if card and card.better and not is_price(card) and card.kind != "tokens"]


def rate_figures(group: Group, context: Context, metrics: Sequence[str], faded: set[str]) -> list[Figure]:
    """One figure a metric with at least two points against the rate."""
    figures = []
    for metric in metrics:
        drawn = curves(group.runs, metric, others=context.runs)
        if sum(len(curve.points) for curve in drawn) > 1:
            figures.append(_figure(group, context, metric, drawn, RATE_AXIS, faded))
    return figures


def cost_figures(group: Group, context: Context, metrics: Sequence[str], faded: set[str]) -> list[Figure]:
    """Quality against cost, for a task whose runs have no rate: each metric with a direction, against each cost."""
    costs = {axis.metric for axis in COST_AXES}
    figures = []
    for metric in metrics:
        for axis in COST_AXES if metric not in costs else ():
            drawn = curves(group.runs, metric, others=context.runs, cost=axis.metric)
            # A cost that is the same for all says nothing.
            if len({point.x for curve in drawn for point in curve.points}) > 1:
                figures.append(_figure(group, context, metric, drawn, axis, faded))
    return figures


def _figure(group: Group, context: Context, metric: str, drawn: Sequence[Curve], axis: Axis, faded: set[str]) -> Figure:
    head = column(group, metric)
    marks = Marks(
        context.styles,
        {run: label.full for run, label in context.labels.items()},
        {run: label.href for run, label in context.labels.items()},
        faded,
    )
    frames = [
        _frame(group, head, axis, f"{axis.metric}-{size}" if axis.metric else size, pixels)
        for size, pixels in (("l", LARGE), ("s", SMALL))
    ]
    published = published_curves(group, metric) if axis is RATE_AXIS else []
    large, small = (draw(drawn, frame, marks, published) for frame in frames)
    unit = f" ({head.unit})" if head.unit else ""
    return Figure(
        name=f"{metric} against {axis.metric}" if axis.metric else metric,
        title=f"{head.title} against {axis.name}" if axis.metric else f"{head.title}{unit}",
        against=f"{axis.name} ({axis.unit})" if axis.metric else None,
        arrow=head.arrow,
        direction=head.direction,
        legend=[(swatch(context.styles[c.key]), _curve_title(c), len(c.points)) for c in drawn],
        keys=[curve.key for curve in drawn],
        large=large,
        small=small,
        published=published,
    )


def _curve_title(curve: Curve) -> str:
    return short(f"{curve.title}, by {curve.knob}" if curve.knob and len(curve.points) > 1 else curve.title, 70)


def _frame(group: Group, head: Column, axis: Axis, suffix: str, size: tuple[int, int]) -> Frame:
    card = group.card(head.metric)
    unit = f" ({head.unit})" if head.unit else ""
    return Frame(
        ident=f"p-{group.ident}-{anchor(head.metric)}-{suffix}",
        title=f"{head.title} against {axis.name}: {group.task_title}, {group.where}",
        y_title=f"{short(head.title, 44)}{unit} {head.arrow}".strip(),
        better=card.better if card else None,
        x_title=axis.title,
        x_unit=axis.unit,
        width=size[0],
        height=size[1],
        bounds=_bounds(card),
    )


def _bounds(card: MetricCard | None) -> tuple[float | None, float | None]:
    """What the metric can be; (None, None) where the card states no pair of numbers."""
    bounds = card.bounds if card else ()
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return None, None
    return finite(bounds[0]), finite(bounds[1])
