"""methods.html: what the numbers mean: every metric, view and protocol, and the statistics of the pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vtbench import registry
from vtbench.leaderboard import content
from vtbench.leaderboard.page import Page, Site
from vtbench.leaderboard.words import anchor
from vtbench.reporting.values import finite
from vtbench.results.record import Run
from vtbench.types.conditions import SQUARES, Square
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import MetricCard

FILTERS = {"adm": "halvings by box, then bicubic (ADM's)"}
"""Filters of a resize whose names do not say what they are."""


def pages(site: Site) -> list[Page]:
    def facts() -> dict[str, Any]:
        measured = sorted(content.all_metric_cards(site.runs), key=_newest_first)
        unmeasured = unmeasured_cards(measured)
        return {
            "cards": with_idents([*measured, *unmeasured])[: len(measured)],
            "unmeasured": with_idents([*measured, *unmeasured])[len(measured) :],
            "names": {card.name for card in [*measured, *unmeasured]},
            "images": content.all_images(site.runs),
            "squares": [(name, square, _square(square)) for name, square in SQUARES.items()],
            "intervals": _intervals(site.runs),
        }

    return [Page("methods.html", "methods.html.j2", facts)]


def _newest_first(card: MetricCard) -> tuple[str, float]:
    return card.name, -(finite(card.version) or 0.0)


def with_idents(cards: Sequence[MetricCard]) -> list[tuple[str, MetricCard]]:
    """(fragment, card): `m-NAME` is the first of a name, where the heads of columns lead."""
    seen: dict[str, int] = {}
    out = []
    for card in cards:
        plain = f"m-{anchor(card.name)}"
        seen[plain] = seen.get(plain, 0) + 1
        out.append((plain if seen[plain] == 1 else f"{plain}.{seen[plain]}", card))
    return out


def unmeasured_cards(measured: Sequence[MetricCard]) -> list[MetricCard]:
    """Metrics of this release that no run here holds, by name."""
    known = {card.name for card in measured}
    out = []
    for name, factory in sorted(registry.metrics().items()):
        if name in known:
            continue
        try:
            card = registry.card_of(factory)
        except VtbenchError:
            # A metric of somebody's plug-in that cannot be had here: the page is of what can.
            continue
        out.append(dataclasses.replace(card, name=name))
    return out


def _square(square: Square) -> str:
    """How a picture becomes the square that is scored, in words."""
    how = FILTERS.get(square.resampling, square.resampling)
    words = [how, "antialiased" if square.antialias else "not antialiased"]
    if square.enlargement != 1:
        words.append(f"the shorter side made {square.enlargement:g} times the square's before the cut")
    return ", ".join(words)


def _intervals(runs: Sequence[Run]) -> list[str]:
    """How the intervals on the pages were taken, as the scores themselves say."""
    methods = {str(method) for run in runs for s in run.scores if (method := s.details.get("interval"))}
    return sorted(methods)
