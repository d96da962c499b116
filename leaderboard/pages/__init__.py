"""The pages of the site, one module a kind of page; its `pages` says which there are (see `page.Builder`)."""

from __future__ import annotations

from vtbench.leaderboard.page import Builder
from vtbench.leaderboard.pages import (
    catalogue,
    compare,
    correlation,
    data,
    galleries,
    index,
    methods,
    models,
    tasks,
)

BUILDERS: tuple[Builder, ...] = (
    index.pages,
    tasks.pages,
    models.pages,
    galleries.pages,
    compare.pages,
    correlation.pages,
    catalogue.pages,
    methods.pages,
    data.pages,
)
"""In the order in which pages are written; a new kind of page is a module here and one name in this line."""
