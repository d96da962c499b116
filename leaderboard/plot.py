"""Plots as inline SVG: every point grey, colour and a direct label for the Pareto front, rate or cost on a log axis.

Colours are CSS classes (site.css), so that a plot follows the page into dark mode and print; the page's script gives
colour to what a reader pins. One drawing for every width: the sheet scales it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from vtbench.leaderboard.axes import Axes, Frame, Room
from vtbench.leaderboard.labels import Label
from vtbench.leaderboard.marks import kind_class, marker, shape_of
from vtbench.leaderboard.published import Printed
from vtbench.leaderboard.words import DIRECTIONS, number, row_ident, short
from vtbench.reporting.curves import Curve, Point, pareto
from vtbench.reporting.runs import identity


@dataclass(frozen=True)
class Marks:
    """What the points are: labels by run id, and what leads from the page to the site's folder.

    Runs in `faded` are drawn pale and have no part in the Pareto front: they may not be compared. `levels`: horizontal
    lines, (value, name): what nothing can pass, what resizing alone keeps.
    """

    labels: Mapping[str, Label] = field(default_factory=dict)
    root: str = ""
    faded: Container[str] = ()
    levels: Sequence[tuple[float, str]] = ()

    def solid(self, points: Sequence[Point]) -> list[Point]:
        return [point for point in points if identity(point.run) not in self.faded]


def draw(curves: Sequence[Curve], frame: Frame, marks: Marks, published: Sequence[Printed] = ()) -> Markup:
    """The plot as SVG; empty where no curve has a point.

    published: curves behind the others, of what was not measured here; they have no part in the Pareto front.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        return Markup("")
    axes = Axes([*((p.x, p.y) for p in points), *(xy for curve in published for xy in curve.points)], frame)
    arrow = f", {DIRECTIONS[frame.better]}" if frame.better in DIRECTIONS else ""
    ident = frame.ident
    front = front_of(curves, frame, marks)
    out = [
        f'<svg class="plot" viewBox="0 0 {frame.width} {frame.height}" role="group" '
        f'aria-labelledby="{ident}-t {ident}-d"><title id="{ident}-t">{escape(frame.title)}</title>'
        f'<desc id="{ident}-d">{escape(frame.y_title)}{arrow}, against {escape(frame.x_title)} on a logarithmic axis: '
        f"{len(points)} runs on {len(curves)} curves. The numbers are in the tables of this site.</desc>",
        *axes.svg(),
        *(axes.level(value, name) for value, name in marks.levels),
        *(_as_published(curve, axes) for curve in published),
    ]
    if front:
        out.append(f'<path class="front" d="{axes.stairs([(p.x, p.y) for p in front])}"/>')
    best = {identity(point.run) for point in front}
    for curve in curves:
        out += _curve(curve, axes, marks, best)
    out += _labels(front, curves, axes)
    return Markup("".join([*out, "</svg>"]))


def front_of(curves: Sequence[Curve], frame: Frame, marks: Marks) -> list[Point]:
    """The comparable points that no other one beats, by increasing rate; one alone has no front."""
    comparable = marks.solid([point for curve in curves for point in curve.points])
    if frame.better not in DIRECTIONS or len(comparable) < 2:
        return []
    return [comparable[i] for i in pareto([(p.x, p.y) for p in comparable], str(frame.better))]


def _as_published(curve: Printed, axes: Axes) -> str:
    title = f"{curve.title}: as published, not measured here"
    return f'<g><title>{escape(title)}</title><path class="published" d="M{axes.path(curve.points)}"/></g>'


def _curve(curve: Curve, axes: Axes, marks: Marks, best: Container[str]) -> Iterator[str]:
    """A line through the solid points, and every point as a link to its run."""
    yield f'<g class="{kind_class(curve.kind)}">'
    solid = marks.solid(curve.points)
    if len(solid) > 1:
        yield f'<path class="curve" d="M{axes.path([(point.x, point.y) for point in solid])}"/>'
    shape = shape_of(curve.kind)
    for point in curve.points:
        key = identity(point.run)
        state = "dot pale" if key in marks.faded else "dot best" if key in best else "dot"
        # tabindex -1: a hundred points would stand between a keyboard user and the table, which holds the same links.
        label = marks.labels.get(key)
        tag, link = ("a", f' href="{marks.root}{escape(label.href)}" tabindex="-1"') if label else ("g", "")
        title = escape(_in_words(point, curve, axes.frame, marks))
        mark = marker(shape, axes.x(point.x), axes.y(point.y))
        yield f'<{tag} class="{state}"{link} data-p="{row_ident(key)}"><title>{title}</title>{mark}</{tag}>'
    yield "</g>"


def _labels(front: Sequence[Point], curves: Sequence[Curve], axes: Axes) -> Iterator[str]:
    """The names of the curves on the front, beside their best point there, where there is room."""
    room = Room(axes)
    for point in front:
        room.point(axes.x(point.x), axes.y(point.y))
    of_run = {identity(point.run): curve for curve in curves for point in curve.points}
    last = {of_run[identity(point.run)].key: point for point in front}
    for point in last.values():
        curve = of_run[identity(point.run)]
        text = short(curve.title, 26)
        spot = room.place(text, axes.x(point.x), axes.y(point.y))
        if spot is not None:
            x, y, anchor = spot
            colour = kind_class(curve.kind)
            yield f'<text class="name {colour}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _in_words(point: Point, curve: Curve, frame: Frame, marks: Marks) -> str:
    key = identity(point.run)
    label = marks.labels.get(key)
    text = f"{short(label.full if label else curve.title, 90)}: {number(point.x, 3)} {frame.x_unit}"
    text += f", {frame.y_title} {number(point.y)}"
    if point.low is not None and point.high is not None:
        text += f" [{number(point.low)}, {number(point.high)}]"
    return text + (", not ranked" if key in marks.faded else "")
