"""The mark of each kind of system: a shape, which its colour repeats (`k0` … `k4`, site.css)."""

from __future__ import annotations

from markupsafe import Markup

from vtbench.reporting.runs import KINDS

COLOURS = 8
"""Classes of colours that the sheet has, `k0` to `k7`; kinds have the first of them."""
SHAPES = {"codec": "circle", "continuous": "square", "discrete": "triangle", "closed": "diamond", "generator": "cross"}
SHAPES |= {"reducer": "square", "trained reducer": "diamond", "query-aware reducer": "triangle"}
SHAPES |= {"trained query-aware reducer": "cross"}


CLASSES = {"reducer": "k0", "trained reducer": "k1", "query-aware reducer": "k2", "trained query-aware reducer": "k3"}
CLASSES |= {"baseline": "k6 baseline"}
"""Of reducers and the baselines beside them, which stand on pages of their own."""


def kind_class(kind: str) -> str:
    """The class that gives a kind its colour."""
    return CLASSES.get(kind) or (f"k{KINDS.index(kind)}" if kind in KINDS else "k5")


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


def shape_of(kind: str) -> str:
    return SHAPES.get(kind, "circle")


def kind_mark(kind: str) -> Markup:
    """The mark beside a system's name and in legends."""
    return Markup(
        f'<svg class="mark {kind_class(kind)}" viewBox="0 0 12 12" aria-hidden="true">'
        f"{marker(shape_of(kind), 6, 6, 4)}</svg>"
    )
