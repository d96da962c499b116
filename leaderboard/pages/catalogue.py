"""published.html: the catalogue, which needs no run."""

from __future__ import annotations

from vtbench.leaderboard.catalogue import METRICS, catalogue
from vtbench.leaderboard.page import Page, Site


def pages(site: Site) -> list[Page]:
    return [Page("published.html", "published.html.j2", lambda: {"field": catalogue(), "METRICS": METRICS})]
