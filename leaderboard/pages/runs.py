"""runs/NAME.html: where a number came from."""

from __future__ import annotations

from typing import Any

from vtbench.leaderboard import gallery, runpage
from vtbench.leaderboard.addresses import run_address
from vtbench.leaderboard.page import Page, Site
from vtbench.reporting.runs import system
from vtbench.results.record import Run


def pages(site: Site) -> list[Page]:
    return [_page(run, site) for run in site.runs]


def _page(run: Run, site: Site) -> Page:
    def facts() -> dict[str, Any]:
        elsewhere = [other for other in site.by_system[system(run)] if other is not run]
        facts = runpage.facts(run, elsewhere, site.context.labels)
        return {**facts, "samples": gallery.samples_of(run, site.samples)}

    return Page(run_address(run), "run.html.j2", facts)
