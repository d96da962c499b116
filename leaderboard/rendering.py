"""Pages into files: templates, the tabs that lead from page to page, the assets."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from vtbench.leaderboard import words
from vtbench.leaderboard.marks import kind_mark
from vtbench.leaderboard.markup import table_markup
from vtbench.leaderboard.page import File, Page, Site
from vtbench.leaderboard.runscores import scores_markup
from vtbench.reporting.runs import identity, kind, vtbench_version

HERE = Path(__file__).resolve().parent
TABS = (
    ("Results", "index.html"),
    ("Tasks", "task/"),
    ("Gallery", "gallery"),
    ("Compare", "compare.html"),
    ("Published", "published.html"),
    ("Correlation", "correlation.html"),
    ("Methods", "methods.html"),
    ("Data", "data.html"),
)
"""(title, how the paths of its pages begin): a tab leads to the first page that there is, and is left out without."""


@dataclass(frozen=True)
class Tab:
    title: str
    href: str
    current: bool


@functools.cache
def environment() -> jinja2.Environment:
    """Everything is escaped but our own Markup; an unknown name is an error, never an empty string.

    One a process, which compiles each template once for all the sites that it builds.
    """
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(KIND_TITLES=words.KIND_TITLES, KIND_WORDS=words.KIND_WORDS, KIND_NAMES=words.KIND_NAMES)
    env.globals.update(identity=identity, kind_mark=kind_mark)
    env.globals.update(table_markup=table_markup, scores_markup=scores_markup)
    env.filters.update(
        number=words.number, short=words.short, seconds=words.seconds, anchor=words.anchor, sort_key=words.sort_key
    )
    return env


def written(parts: Sequence[Page | File], site: Site) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every page and file, one at a time."""
    env = environment()
    first = first_pages([part.path for part in parts if isinstance(part, Page)])
    common: dict[str, Any] = {
        "labels": site.context.labels,
        "swatches": {identity(run): kind_mark(kind(run)) for run in site.runs},
        "banner": site.context.banner,
        "versions": sorted({version for run in site.runs if (version := vtbench_version(run))}),
    }
    for part in parts:
        if isinstance(part, File):
            yield part.path, part.data()
            continue
        root = "../" * part.path.count("/")
        facts = {**common, "root": root, "here": part.path, "tabs": tabs(part.path, first), **part.facts()}
        yield part.path, env.get_template(part.template).render(facts).encode()


def first_pages(paths: Sequence[str]) -> list[tuple[str, str, str]]:
    """(title, how the paths of its pages begin, the first of them) of every tab; `paths`: all pages of the site."""
    first = [(title, begin, next((p for p in paths if p.startswith(begin)), None)) for title, begin in TABS]
    return [(title, begin, path) for title, begin, path in first if path is not None]


def tabs(here: str, first: Sequence[tuple[str, str, str]]) -> list[Tab]:
    """Those of a page, in order. first: as `first_pages` gives them."""
    return [Tab(title, path, here.startswith(begin)) for title, begin, path in first]


def assets() -> Iterator[tuple[str, bytes]]:
    """The style sheet and the scripts."""
    for asset in sorted((HERE / "assets").iterdir()):
        if asset.suffix in (".css", ".js"):
            yield f"assets/{asset.name}", asset.read_bytes()
