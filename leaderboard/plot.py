"""Plots as inline SVG: curves per system, markers per kind, the Pareto front, rate or cost on a log axis.

Colours are CSS classes (`k0` … `k7`, page.css), so that the plot follows the page into dark mode and print.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

from vtbench.leaderboard.published import Printed
from vtbench.leaderboard.words import DIRECTIONS, number
from vtbench.reporting.curves import Curve, Point, pareto
from vtbench.reporting.runs import identity

COLOURS = 8
SHAPES = {"codec": "circle", "continuous": "square", "discrete": "triangle", "closed": "diamond", "generator": "cross"}


@dataclass(frozen=True)
class Style:
    """How one curve is drawn everywhere on the page: a colour class, a marker, a dash for the second round."""

    colour: int
    shape: str
    dashed: bool = False


def styles(curves: Sequence[Curve]) -> dict[str, Style]:
    """One style a curve, by order; when the colours are used up they come again with dashed lines."""
    return {
        c.key: Style(i % COLOURS, SHAPES.get(c.kind, "circle"), dashed=(i // COLOURS) % 2 == 1)
        for i, c in enumerate(curves)
    }


def marker(shape: str, x: float, y: float, size: float = 4.5) -> str:
    """A marker at (x, y) as SVG, of about equal area for every shape. `size`: radius of the circle in pixels."""
    s = size * {"square": 0.9, "triangle": 1.2, "diamond": 1.25}.get(shape, 1.0)
    if shape == "square":
        return f'<rect x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s:.1f}" height="{2 * s:.1f}" rx="1"/>'
    if shape == "triangle":
        return f'<path d="M{x:.1f} {y - s:.1f}L{x + s:.1f} {y + 0.8 * s:.1f}H{x - s:.1f}Z"/>'
    if shape == "diamond":
        return f'<path d="M{x:.1f} {y - s:.1f}L{x + s:.1f} {y:.1f}L{x:.1f} {y + s:.1f}L{x - s:.1f} {y:.1f}Z"/>'
    if shape == "cross":
        arms = f"M{x - s:.1f} {y - s:.1f}l{2 * s:.1f} {2 * s:.1f}m0 {-2 * s:.1f}l{-2 * s:.1f} {2 * s:.1f}"
        return f'<path d="{arms}" stroke-width="2.4" stroke="currentColor"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s:.1f}"/>'


def swatch(style: Style) -> Markup:
    """The legend's picture of a style: a line with its marker."""
    dash = ' stroke-dasharray="4 3"' if style.dashed else ""
    return Markup(
        f'<svg class="swatch k{style.colour}" width="30" height="14" viewBox="0 0 30 14" aria-hidden="true">'
        f'<path d="M1 7H29" stroke="currentColor" stroke-width="2"{dash}/>'
        f'<g fill="currentColor">{marker(style.shape, 15, 7)}</g></svg>'
    )


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from at or below `low` to at or above `high`."""
    if high <= low:
        pad = abs(low) * 0.05 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1–2–5 ticks within [low, high]; over more than three decades, powers of ten only."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [
        m * 10.0**e
        for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for m in steps
        if low * (1 - 1e-9) <= m * 10.0**e <= high * (1 + 1e-9)
    ]
    return ticks or [low]


def plain(value: float) -> str:
    """A tick's label: no digit more than it needs."""
    return f"{value:.6g}".replace("-", "−")


@dataclass(frozen=True)
class Frame:
    """What stands around the points. `ident`: prefix of the plot's ids on its page. Sizes in pixels.

    `better`: which end of y is good, None for neither. The y axis does not run past `bounds`, which are what the metric
    can be.
    """

    ident: str
    title: str
    y_title: str
    better: Literal["higher", "lower", None] = None
    x_title: str = "bits per pixel"
    x_unit: str = "bit/px"
    width: int = 860
    height: int = 460
    bounds: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Marks:
    """What the points are: by curve key their styles; by run id what is measured (for titles) and its page.

    Runs in `faded` are drawn pale and have no part in the Pareto front: they may not be compared.
    """

    styles: Mapping[str, Style]
    labels: Mapping[str, str] = field(default_factory=dict)
    hrefs: Mapping[str, str] = field(default_factory=dict)
    faded: Container[str] = ()

    def solid(self, points: Sequence[Point]) -> list[Point]:
        return [point for point in points if identity(point.run) not in self.faded]


LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 14.0, 46.0
"""Margins of the plotted area in pixels."""
TICK_GAP = 34
"""Least distance in pixels between two labelled ticks of the x axis."""


class _Axes:
    """From values to pixels: a logarithmic x axis around the data, a linear y axis that ends at round numbers."""

    def __init__(self, points: Sequence[tuple[float, float]], frame: Frame) -> None:
        self.frame = frame
        self.x_low, self.x_high = min(x for x, _ in points) / 1.25, max(x for x, _ in points) * 1.25
        ys = [y for _, y in points]
        spread = (max(ys) - min(ys)) * 0.04
        low, high = min(ys) - spread, max(ys) + spread
        # A value beyond its bound is a damaged record: it is drawn all the same.
        if frame.bounds[0] is not None:
            low = max(low, min(frame.bounds[0], *ys))
        if frame.bounds[1] is not None:
            high = min(high, max(frame.bounds[1], *ys))
        self.ticks = linear_ticks(low, high, 5 if frame.height < 380 else 6)
        self.y_low, self.y_high = self.ticks[0], self.ticks[-1]
        self.right, self.bottom = frame.width - RIGHT, frame.height - BOTTOM

    def x(self, value: float) -> float:
        share = (math.log(value) - math.log(self.x_low)) / (math.log(self.x_high) - math.log(self.x_low))
        return LEFT + share * (self.frame.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.frame.height - BOTTOM - share * (self.frame.height - TOP - BOTTOM)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)

    def stairs(self, front: Sequence[Point]) -> str:
        """What can be had for a rate: a point's quality until the next begins, for nothing between was measured."""
        steps = "".join(f"H{self.x(p.x):.1f}V{self.y(p.y):.1f}" for p in front[1:])
        return f"M{self.x(front[0].x):.1f} {self.y(front[0].y):.1f}{steps}H{self.right:.1f}"

    def svg(self) -> Iterator[str]:
        """Grid, ticks and titles."""
        right, bottom = self.right, self.bottom
        for tick in self.ticks:
            y = self.y(tick)
            yield f'<path class="grid" d="M{LEFT:.1f} {y:.1f}H{right:.1f}"/>'
            yield f'<text class="tick" x="{LEFT - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{plain(tick)}</text>'
        labelled = -math.inf
        for tick in log_ticks(self.x_low, self.x_high):
            x = self.x(tick)
            yield f'<path class="grid" d="M{x:.1f} {TOP:.1f}V{bottom:.1f}"/>'
            if x - labelled >= TICK_GAP:
                yield f'<text class="tick" x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{plain(tick)}</text>'
                labelled = x
        yield f'<path class="axis" d="M{LEFT:.1f} {TOP:.1f}V{bottom:.1f}H{right:.1f}"/>'
        yield (
            f'<text class="label" x="{(LEFT + right) / 2:.1f}" y="{self.frame.height - 8}" text-anchor="middle">'
            f"{escape(self.frame.x_title)} ({'log scale' if self.frame.width > 500 else 'log'})</text>"
            f'<text class="label" transform="translate(14 {(TOP + bottom) / 2:.1f}) rotate(-90)" '
            f'text-anchor="middle">{escape(self.frame.y_title)}</text>'
        )


def draw(curves: Sequence[Curve], frame: Frame, marks: Marks, published: Sequence[Printed] = ()) -> Markup:
    """The plot as SVG; empty where no curve has a point.

    published: curves behind the others, of what was not measured here; they have no part in the Pareto front.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        return Markup("")
    axes = _Axes([*((p.x, p.y) for p in points), *(xy for curve in published for xy in curve.points)], frame)
    arrow = f", {DIRECTIONS[frame.better]}" if frame.better in DIRECTIONS else ""
    ident = frame.ident
    out = [
        f'<svg class="plot" viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-labelledby="{ident}-t {ident}-d"><title id="{ident}-t">{escape(frame.title)}</title>'
        f'<desc id="{ident}-d">{escape(frame.y_title)}{arrow}, against {escape(frame.x_title)} on a logarithmic axis: '
        f"{len(points)} runs on {len(curves)} curves. The numbers are in the tables of this page.</desc>",
        *axes.svg(),
        *(_as_published(curve, axes) for curve in published),
    ]
    comparable = marks.solid(points)
    if frame.better in DIRECTIONS and len(comparable) > 1:
        front = pareto([(p.x, p.y) for p in comparable], frame.better)
        out.append(f'<path class="front" d="{axes.stairs([comparable[i] for i in front])}"/>')
    for curve in curves:
        out += _curve(curve, axes, marks)
    return Markup("".join([*out, "</svg>"]))


def _as_published(curve: Printed, axes: _Axes) -> str:
    title = f"{curve.title}: as published, not measured here"
    return f'<g><title>{escape(title)}</title><path class="published" d="M{axes.path(curve.points)}"/></g>'


def _curve(curve: Curve, axes: _Axes, marks: Marks) -> Iterator[str]:
    """A line through the solid points, and every point as a link to its run."""
    style = marks.styles[curve.key]
    dash = ' stroke-dasharray="6 4"' if style.dashed else ""
    yield f'<g class="k{style.colour}">'
    solid = marks.solid(curve.points)
    if len(solid) > 1:
        line = axes.path([(point.x, point.y) for point in solid])
        yield f'<path class="curve" d="M{line}"{dash}/>'
    for point in curve.points:
        key = identity(point.run)
        state = "dot pale" if key in marks.faded else "dot"
        shape = marker(style.shape, axes.x(point.x), axes.y(point.y))
        mark = f'<g class="{state}"><title>{escape(_in_words(point, curve, axes.frame, marks))}</title>{shape}</g>'
        href = marks.hrefs.get(key)
        # tabindex -1: forty points would stand between a keyboard user and the tables, which hold the same links.
        yield f'<a href="{escape(href)}" tabindex="-1">{mark}</a>' if href else mark
    yield "</g>"


def _in_words(point: Point, curve: Curve, frame: Frame, marks: Marks) -> str:
    key = identity(point.run)
    text = f"{marks.labels.get(key, curve.title)}: {number(point.x, 3)} {frame.x_unit}"
    text += f", {frame.y_title} {number(point.y)}"
    if point.low is not None and point.high is not None:
        text += f" [{number(point.low)}, {number(point.high)}]"
    return text + (", not ranked" if key in marks.faded else "")
