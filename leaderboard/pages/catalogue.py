"""published.html: the catalogue, which needs no run."""

from __future__ import annotations

from typing import Any

from vtbench.leaderboard.addresses import model_address
from vtbench.leaderboard.catalogue import METRICS, catalogue
from vtbench.leaderboard.page import Page, Site
from vtbench.reporting.runs import model_name


def pages(site: Site) -> list[Page]:
    return [Page("published.html", "published.html.j2", lambda: _facts(site))]


def _facts(site: Site) -> dict[str, Any]:
    """What templates/published.html.j2 shows; `measured`: the page of a model that runs of this site are of."""
    measured = {name: model_address(name) for name in map(model_name, site.context.runs)}
    return {"field": catalogue(), "METRICS": METRICS, "measured": measured}
