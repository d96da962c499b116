"""Curves that others published on the very pictures of a group: drawn beside what was measured, and never ranked."""

from __future__ import annotations

from dataclasses import dataclass

from vtbench import registry
from vtbench.leaderboard.groups import Group


@dataclass(frozen=True)
class Printed:
    """A published curve of one metric; `points` are (bits per pixel, value)."""

    title: str
    source: str
    points: tuple[tuple[float, float], ...]


def published_curves(group: Group, metric: str) -> list[Printed]:
    """Those on the cards of registered models for the group's suite, by its hash, if its images are whole."""
    if group.question.view != "native":
        return []
    out = []
    for entry in registry.entries():
        for curve in entry.card.curves:
            if curve.suite == group.question.suite and metric in curve.metrics[1:]:
                at = curve.metrics.index(metric)
                points = tuple((point[0], point[at]) for point in curve.points if point[0] > 0)
                out.append(Printed(curve.title, curve.source, points))
    return out
