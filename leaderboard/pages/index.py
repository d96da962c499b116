"""index.html: what each system keeps and costs, on one screen."""

from __future__ import annotations

from typing import Any

from vtbench.leaderboard import content
from vtbench.leaderboard.addresses import gallery_address
from vtbench.leaderboard.overview import MAIN, first_section, overview, task_links
from vtbench.leaderboard.page import Page, Site

PLOTS = 4
"""So many metrics of the first suite can be drawn on the first page; the task's page has all."""


def pages(site: Site) -> list[Page]:
    return [Page("index.html", "index.html.j2", lambda: _facts(site))]


def _facts(site: Site) -> dict[str, Any]:
    """What templates/index.html.j2 shows."""
    sections = site.sections
    first = first_section(sections)
    plots = list(first.plots) if first else []
    plots.sort(key=lambda plot: MAIN.index(plot.metric) if plot.metric in MAIN else len(MAIN))
    return {
        "stats": content.counts(site.context.runs, site.groups),
        "first": first,
        "plots": plots[:PLOTS],
        "table": overview(sections, site.context),
        "tasks": task_links(sections),
        "galleries": [(f"{of.suite}, {of.view}", gallery_address(of.key)) for of in site.samples],
    }
