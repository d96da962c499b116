"""How a page joins the site: a builder in `pages/` is asked for its pages and files with everything that is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vtbench.leaderboard import gallery
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.groups import Group, group_runs
from vtbench.leaderboard.sections import Section, section_of
from vtbench.reporting.runs import identity, system
from vtbench.results.record import Run


@dataclass(frozen=True)
class Page:
    """An HTML page. `facts`: what its template shows, asked for when the page is written, so that no more than one
    page's are held at a time."""

    path: str
    """Below the site's folder."""
    template: str
    facts: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class File:
    """Any other file; `data` is asked for when it is written."""

    path: str
    data: Callable[[], bytes]


@dataclass
class Site:
    """What every builder of pages may ask. `runs`: as they were read, where `context` has one version of each metric
    among the runs of one question. Both are empty where no run was given."""

    runs: Sequence[Run]
    context: Context
    pictures: gallery.Pictures = field(default_factory=gallery.Pictures)
    """Pictures that a page shows are kept here, once by content, and written last."""

    @cached_property
    def groups(self) -> list[Group]:
        """The runs of the context by question, in the order of the site."""
        return group_runs(self.context.runs)

    @cached_property
    def sections(self) -> list[Section]:
        """A section for each group: its table, plots and curves."""
        return [section_of(group, self.context) for group in self.groups]

    @cached_property
    def samples(self) -> list[gallery.SampleSet]:
        """The pictures that runs kept, by suite and view."""
        return gallery.sample_sets(self.runs, self.pictures)

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """Runs as they were read by their id."""
        return {identity(run): run for run in self.runs}

    @cached_property
    def by_system(self) -> dict[str, list[Run]]:
        """Runs as they were read by what they measure (reporting.runs.system)."""
        out: dict[str, list[Run]] = {}
        for run in self.runs:
            out.setdefault(system(run), []).append(run)
        return out


Builder = Callable[[Site], Sequence[Page | File]]
"""Says what there is to write; facts and data are made later, page by page."""


def script(name: str, value: Any) -> bytes:
    """Data for a page as a .js file, since `fetch` does not work from disk: `vtbenchData[name]` in the browser."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"(window.vtbenchData ||= {{}})[{json.dumps(name)}] = {text};\n".encode()


def as_json(value: Any) -> bytes:
    """JSON for people and programs, a line an entry of a list; a NaN or an infinity that somebody's file holds becomes
    null."""
    if isinstance(value, list):
        return ("[\n" + ",\n".join(map(_line, value)) + "\n]\n").encode()
    return (_line(value) + "\n").encode()


def _line(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_clean(value), ensure_ascii=False, allow_nan=False, default=str)


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
