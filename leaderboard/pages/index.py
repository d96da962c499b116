"""index.html: the first page."""

from __future__ import annotations

from typing import Any

from vtbench.leaderboard import content
from vtbench.leaderboard.headlines import headlines
from vtbench.leaderboard.page import Page, Site


def pages(site: Site) -> list[Page]:
    return [Page("index.html", "index.html.j2", lambda: _facts(site))]


def _facts(site: Site) -> dict[str, Any]:
    """What templates/index.html.j2 shows."""
    sections = site.sections
    return {
        "stats": content.counts(site.context.runs, site.groups),
        "sections": sections,
        "headlines": headlines(sections),
        # Rate and distortion head the page; a plot against a cost stands with its task.
        "hero": next((s for s in sections if s.plots and not s.plots[0].against), None),
        "bd": content.savings(sections, site.context.styles),
        "teasers": [(of_suite, of_suite.originals[0]) for of_suite in site.samples],
    }
