"""Rate–distortion plots as inline SVG: curves per system, markers per kind, the Pareto front, log rate.

Colours are CSS classes (`k0` … `k7`, page.css), so that the plot follows the page into dark mode and print.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from vtbench.aggregate import Curve, identity, pareto
from vtbench.leaderboard.words import DIRECTIONS, number

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
    """A marker of about equal area for every shape, as SVG."""
    s = size
    if shape == "square":
        s *= 0.9
        return f'<rect x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s:.1f}" height="{2 * s:.1f}" rx="1"/>'
    if shape == "triangle":
        s *= 1.2
        return f'<path d="M{x:.1f} {y - s:.1f}L{x + s:.1f} {y + 0.8 * s:.1f}H{x - s:.1f}Z"/>'
    if shape == "diamond":
        s *= 1.25
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
    found = [
        m * 10.0**e
        for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for m in steps
        if low * (1 - 1e-9) <= m * 10.0**e <= high * (1 + 1e-9)
    ]
    return found or [low]


def plain(value: float) -> str:
    """A tick's label: no digit more than it needs."""
    return f"{value:.6g}".replace("-", "−")


def rd_plot(
    curves: Sequence[Curve],
    look: dict[str, Style],
    *,
    ident: str,
    title: str,
    y_title: str,
    better: str | None,
    labels: dict[str, str],
    hrefs: dict[str, str],
    width: int = 860,
    height: int = 460,
    x_title: str = "bits per pixel",
    x_unit: str = "bit/px",
    faded: Container[str] = (),
    bounds: tuple[float | None, float | None] = (None, None),
) -> Markup:
    """The plot. Run ids lead to `labels` (what is measured, for titles) and `hrefs` (its page).

    Runs in `faded` are drawn pale and have no part in the Pareto front: they may not be compared. The axis does not run
    past `bounds`, which are what the metric can be.
    """
    points = [p for c in curves for p in c.points]
    if not points:
        return Markup("")
    xs, ys = [p.x for p in points], [p.y for p in points]
    x_low, x_high = min(xs) / 1.25, max(xs) * 1.25
    spread = (max(ys) - min(ys)) * 0.04
    ends = [min(ys) - spread, max(ys) + spread]
    if bounds[0] is not None:
        ends[0] = max(ends[0], min(bounds[0], *ys))
    if bounds[1] is not None:
        ends[1] = min(ends[1], max(bounds[1], *ys))
    ticks_y = linear_ticks(ends[0], ends[1], 5 if height < 380 else 6)
    y_low, y_high = ticks_y[0], ticks_y[-1]
    left, right, top, bottom = 58.0, 14.0, 14.0, 46.0

    def at_x(x: float) -> float:
        return left + (math.log(x) - math.log(x_low)) / (math.log(x_high) - math.log(x_low)) * (width - left - right)

    def at_y(y: float) -> float:
        return height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)

    out: list[str] = []
    arrow = f", {DIRECTIONS[better]}" if better in DIRECTIONS else ""
    out.append(
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{ident}-t {ident}-d">'
        f'<title id="{ident}-t">{escape(title)}</title>'
        f'<desc id="{ident}-d">{escape(y_title)}{arrow}, against {escape(x_title)} on a logarithmic axis: '
        f"{len(points)} runs on {len(curves)} curves. The numbers are in the tables of this page.</desc>"
    )
    for tick in ticks_y:
        y = at_y(tick)
        out.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{width - right:.1f}"/>')
        out.append(f'<text class="tick" x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{plain(tick)}</text>')
    shown = -1e9
    for tick in log_ticks(x_low, x_high):
        x = at_x(tick)
        out.append(f'<path class="grid" d="M{x:.1f} {top:.1f}V{height - bottom:.1f}"/>')
        if x - shown >= 34:
            at = f'x="{x:.1f}" y="{height - bottom + 17:.1f}"'
            out.append(f'<text class="tick" {at} text-anchor="middle">{plain(tick)}</text>')
            shown = x
    out.append(f'<path class="axis" d="M{left:.1f} {top:.1f}V{height - bottom:.1f}H{width - right:.1f}"/>')
    out.append(
        f'<text class="label" x="{(left + width - right) / 2:.1f}" y="{height - 8}" text-anchor="middle">'
        f"{escape(x_title)} ({'log scale' if width > 500 else 'log'})</text>"
        f'<text class="label" transform="translate(14 {(top + height - bottom) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_title)}</text>'
    )
    fair = [p for p in points if identity(p.run) not in faded]
    if better in DIRECTIONS and len(fair) > 2:
        path = "L".join(
            f"{at_x(fair[i].x):.1f} {at_y(fair[i].y):.1f}" for i in pareto([(p.x, p.y) for p in fair], better)
        )
        out.append(f'<path class="front" d="M{path}"/>')
    for curve in curves:
        style = look[curve.key]
        dash = ' stroke-dasharray="6 4"' if style.dashed else ""
        out.append(f'<g class="k{style.colour}">')
        solid = [p for p in curve.points if identity(p.run) not in faded]
        if len(solid) > 1:
            path = "L".join(f"{at_x(p.x):.1f} {at_y(p.y):.1f}" for p in solid)
            out.append(f'<path class="curve" d="M{path}"{dash}/>')
        for p in curve.points:
            key = identity(p.run)
            told = f"{labels.get(key, curve.title)}: {number(p.x, 3)} {x_unit}, {y_title} {number(p.y)}"
            if p.low is not None and p.high is not None:
                told += f" [{number(p.low)}, {number(p.high)}]"
            state = "dot pale" if key in faded else "dot"
            told += ", not ranked" if key in faded else ""
            mark = f'<g class="{state}"><title>{escape(told)}</title>{marker(style.shape, at_x(p.x), at_y(p.y))}</g>'
            href = hrefs.get(key)
            # tabindex -1: forty points would stand between a keyboard user and the tables, which hold the same links.
            out.append(f'<a href="{escape(href)}" tabindex="-1">{mark}</a>' if href else mark)
        out.append("</g>")
    out.append("</svg>")
    return Markup("".join(out))
