"""Scatter plots of two scores of the same systems, as SVG: inline on a page, or a file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from vtbench.leaderboard.axes import linear_ticks, plain
from vtbench.leaderboard.marks import COLOURS, marker
from vtbench.leaderboard.words import DIRECTIONS, number

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 64.0, 176.0, 32.0, 48.0
"""Margins in pixels; at the right stand the names of the families."""
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
LONGEST = 22
"""Characters of a family's name beside the plot."""
INKS = ("#1f6feb", "#b35900", "#1a7f37", "#8250df", "#bf3989", "#0b7285", "#7a4b00", "#57606a")
"""Colours of a file of its own, which has no style sheet: k0 to k7."""


@dataclass(frozen=True)
class Axis:
    title: str
    better: str
    """"higher" or "lower"."""

    def words(self) -> str:
        return f"{self.title}, {DIRECTIONS[self.better]}"


def scatter(points: Sequence[Mapping[str, Any]], x: Axis, y: Axis, ident: str) -> Markup:
    """A mark a system, by family in colour and shape. points: {"system", "family", "x", "y"}, values finite."""
    xs, ys = ([float(p[k]) for p in points] for k in ("x", "y"))
    x_ticks, y_ticks = linear_ticks(min(xs), max(xs), 6), linear_ticks(min(ys), max(ys), 5)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def across(value: float) -> float:
        return LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (right - LEFT)

    def up(value: float) -> float:
        return bottom - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - TOP)

    out = [
        f'<svg class="plot scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{ident}-t {ident}-d">'
        f'<title id="{ident}-t">{escape(y.title)} against {escape(x.title)}</title>'
        f'<desc id="{ident}-d">{len(points)} systems: {escape(y.words())}; {escape(x.words())}. The numbers are in the '
        f"table beside it.</desc>"
    ]
    for tick in y_ticks:
        out.append(
            f'<path class="grid" d="M{LEFT:.1f} {up(tick):.1f}H{right:.1f}"/>'
            f'<text class="tick" x="{LEFT - 8:.1f}" y="{up(tick) + 4:.1f}" text-anchor="end">{plain(tick)}</text>'
        )
    for tick in x_ticks:
        out.append(
            f'<path class="grid" d="M{across(tick):.1f} {TOP:.1f}V{bottom:.1f}"/>'
            f'<text class="tick" x="{across(tick):.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{plain(tick)}</text>'
        )
    out.append(
        f'<path class="axis" d="M{LEFT:.1f} {TOP:.1f}V{bottom:.1f}H{right:.1f}"/>'
        f'<text class="label" x="{(LEFT + right) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x.words())}</text>"
        f'<text class="label" x="4" y="{TOP - 13:.1f}">{escape(y.words())}</text>'
    )
    for place, family in enumerate(dict.fromkeys(str(p["family"]) for p in points)):
        out.append(f'<g class="k{place % COLOURS}">')
        for p in (p for p in points if p["family"] == family):
            words = f"{p['system']} ({family}): {x.title} {number(p['x'])}, {y.title} {number(p['y'])}"
            shape = marker(SHAPES[place % len(SHAPES)], across(float(p["x"])), up(float(p["y"])))
            out.append(f'<g class="dot"><title>{escape(words)}</title>{shape}</g>')
        out.append(_named(family, place, right + 18))
    return Markup("".join([*out, "</svg>"]))


def _named(family: str, place: int, x: float) -> str:
    """The end of a family's group: its mark and name beside the plot, as many as there is room for."""
    y = TOP + 10 + 18 * place
    if y > HEIGHT - BOTTOM:
        return "</g>"
    name = family if len(family) <= LONGEST else family[: LONGEST - 1] + "…"
    mark = f'<g class="dot" aria-hidden="true">{marker(SHAPES[place % len(SHAPES)], x, y)}</g>'
    return f'{mark}</g><text class="tick" x="{x + 12:.1f}" y="{y + 4:.1f}">{escape(name)}</text>'


def as_file(svg: str) -> bytes:
    """The plot with its style inside, which opens by itself and in a paper."""
    rules = [
        "text{font:12px sans-serif;fill:#24292f}",
        ".grid{stroke:#d8dee4;fill:none}",
        ".axis{stroke:#57606a;fill:none}",
        ".dot{fill:currentColor}",
        *(f".k{i}{{color:{ink}}}" for i, ink in enumerate(INKS)),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    body = str(svg).replace("<svg ", head, 1).replace("</desc>", f"</desc><style>{''.join(rules)}</style>{ground}", 1)
    return (body + "\n").encode()
