"""The plots of a group: its metrics against the rate, or against a cost where its runs have no rate, and speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from vtbench.leaderboard.axes import Frame
from vtbench.leaderboard.cells import Column, column
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.groups import Group, is_price
from vtbench.leaderboard.plot import Marks, draw, front_of
from vtbench.leaderboard.published import Printed, published_curves
from vtbench.leaderboard.words import anchor, number, short
from vtbench.reporting.curves import Curve, curves
from vtbench.reporting.measured import score
from vtbench.reporting.runs import identity
from vtbench.reporting.values import finite
from vtbench.types.metric import MetricCard

LEVELS = 2
"""So many different ceilings of resizing are drawn; of more, none can be read."""


@dataclass(frozen=True)
class Axis:
    """What the curves stand against. `metric`: None for the rate that all kinds share."""

    name: str
    title: str
    unit: str
    metric: str | None = None


RATE_AXIS = Axis("rate", "bits per pixel", "bit/px")
SPEED_AXIS = Axis("speed", "seconds an image to decode", "s/image", "decode-seconds-p50")
COST_AXES = (
    Axis("time to image", "time to image, s/image", "s/image", "image-seconds-p50"),
    Axis("network evaluations", "network evaluations, per image", "per image", "nfe"),
)
"""What a drawn image takes: the axes of generators, which have no rate."""


@dataclass(frozen=True)
class Figure:
    """A plot. `name`: the metric, and what it stands against where that is no rate: equal for plots of the same
    numbers. `against`: the cost and its unit; None for the rate."""

    name: str
    metric: str
    title: str
    against: str | None
    arrow: str
    direction: str
    kinds: Sequence[str]
    """Of systems that have a point, for the key."""
    svg: Callable[[str], Markup]
    """The drawing, of what leads from its page to the site's folder."""
    front: bool = False
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
        drawn = curves(group.runs, metric, rates=context.rates)
        if sum(len(curve.points) for curve in drawn) > 1:
            figures.append(figure(group, context, metric, drawn, RATE_AXIS, faded))
    return figures


def cost_figures(
    group: Group, context: Context, metrics: Sequence[str], faded: set[str], axes: Sequence[Axis] = COST_AXES
) -> list[Figure]:
    """Quality against cost, for a task whose runs have no rate: each metric with a direction, against each cost."""
    costs = {axis.metric for axis in axes}
    figures = []
    for metric in metrics:
        for axis in axes if metric not in costs else ():
            drawn = curves(group.runs, metric, rates=context.rates, cost=axis.metric)
            # A cost that is the same for all says nothing.
            if len({point.x for curve in drawn for point in curve.points}) > 1:
                figures.append(figure(group, context, metric, drawn, axis, faded))
    return figures


def figure(group: Group, context: Context, metric: str, drawn: Sequence[Curve], axis: Axis, faded: set[str]) -> Figure:
    """These curves of one metric against one axis."""
    head = column(group, metric)
    frame = _frame(group, head, axis)
    marks = Marks(context.labels, "", faded, _levels(group, metric) if axis is RATE_AXIS else ())
    published = published_curves(group, metric) if axis is RATE_AXIS else []
    unit = f" ({head.unit})" if head.unit else ""
    return Figure(
        name=f"{metric} against {axis.metric}" if axis.metric else metric,
        metric=metric,
        title=f"{head.title} against {axis.name}" if axis.metric else f"{head.title}{unit}",
        against=f"{axis.name} ({axis.unit})" if axis.metric else None,
        arrow=head.arrow,
        direction=head.direction,
        kinds=list(dict.fromkeys(curve.kind for curve in drawn)),
        svg=lambda root: draw(drawn, frame, replace(marks, root=root), published),
        front=bool(front_of(drawn, frame, marks)),
        published=published,
    )


def _levels(group: Group, metric: str) -> list[tuple[float, str]]:
    """What an identical image would have, and what resizing alone keeps of the images that a model cannot take."""
    card = group.card(metric)
    low, high = _bounds(card)
    best = high if card and card.better == "higher" else low
    lines = [(best, "identical images")] if best is not None else []
    kept = [finite(s.details.get("resize_only")) for run in group.runs if (s := score(run, metric)) is not None]
    resized = sorted({round(value, 6) for value in kept if value is not None})
    return lines + [(value, f"resizing alone ({number(value)})") for value in resized if len(resized) <= LEVELS]


def _frame(group: Group, head: Column, axis: Axis) -> Frame:
    card = group.card(head.metric)
    unit = f" ({head.unit})" if head.unit else ""
    name = anchor(head.metric)
    return Frame(
        ident=f"p-{group.ident}-{name}-{axis.metric}" if axis.metric else f"p-{group.ident}-{name}",
        title=f"{head.title} against {axis.name}: {group.task_title}, {group.where}",
        y_title=f"{short(head.title, 44)}{unit} {head.arrow}".strip(),
        better=card.better if card else None,
        x_title=axis.title,
        x_unit=axis.unit,
        bounds=_bounds(card),
    )


def _bounds(card: MetricCard | None) -> tuple[float | None, float | None]:
    """What the metric can be; (None, None) where the card states no pair of numbers."""
    bounds = card.bounds if card else ()
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return None, None
    return finite(bounds[0]), finite(bounds[1])


def faded_runs(group: Group, comparable: Sequence[str]) -> set[str]:
    """Ids of the runs of the group that may not be compared."""
    return {identity(run) for run in group.runs} - set(comparable)
