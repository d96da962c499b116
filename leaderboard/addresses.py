"""Where things stand in the site: THE place that names its pages, so that links and pages agree."""

from __future__ import annotations

from vtbench.leaderboard.words import slug
from vtbench.reporting.runs import identity
from vtbench.results.record import Run


def run_address(run: Run) -> str:
    """The page (and the place on it) that shows where a run's numbers came from."""
    return f"runs/{slug(run.name, identity(run))}.html"
