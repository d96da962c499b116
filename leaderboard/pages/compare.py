"""compare.html: two systems on the same images; for readers without scripts the neighbours on every front."""

from __future__ import annotations

from typing import Any

from vtbench.leaderboard.neighbours import neighbours
from vtbench.leaderboard.page import Page, Site


def pages(site: Site) -> list[Page]:
    def facts() -> dict[str, Any]:
        of_sections = [(section.group, neighbours(section, site.context)) for section in site.sections]
        return {"neighbours": [(group, pairs) for group, pairs in of_sections if pairs]}

    return [Page("compare.html", "compare.html.j2", facts)] if site.runs else []
