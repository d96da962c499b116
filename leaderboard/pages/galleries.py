"""gallery.html: originals beside what came back."""

from __future__ import annotations

from vtbench.leaderboard.page import Page, Site


def pages(site: Site) -> list[Page]:
    return [Page("gallery.html", "gallery.html.j2", lambda: {"sample_sets": site.samples})] if site.runs else []
