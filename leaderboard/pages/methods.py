"""methods.html: what the numbers mean."""

from __future__ import annotations

from vtbench.leaderboard import content
from vtbench.leaderboard.page import Page, Site


def pages(site: Site) -> list[Page]:
    def facts() -> dict[str, object]:
        return {"cards": content.all_metric_cards(site.runs), "images": content.all_images(site.runs)}

    return [Page("methods.html", "methods.html.j2", facts)]
