"""The first table: every system of every kind in one, the first suite's numbers with those that others add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vtbench.leaderboard import facts
from vtbench.leaderboard.addresses import task_address
from vtbench.leaderboard.cells import Cell, Column
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.sections import Section
from vtbench.leaderboard.tables import Row, Table
from vtbench.leaderboard.words import Notes
from vtbench.reporting.measured import RATE
from vtbench.reporting.runs import kind_order, limit, system

MAIN = ("psnr", "ssim", "lpips-alex", "rfid")
"""Metrics of the first suite that the table has, where they were measured."""
ADDED = ("cer", "legibility")
"""Metrics that it has of other suites."""
FEWEST = 4
"""So many metrics of the first suite are shown, whichever they are."""
Key = tuple[str, int | None]
"""A system and the limit of its run."""


def first_section(sections: Sequence[Section]) -> Section | None:
    """That of the first plot of rate and distortion; else the first."""
    rated = (section for section in sections if section.plots and not section.plots[0].against)
    return next(rated, sections[0] if sections else None)


def overview(sections: Sequence[Section], context: Context) -> Table | None:
    """None where there is no run."""
    first = first_section(sections)
    return None if first is None else _Overview(first, sections, context).table()


class _Overview:
    def __init__(self, first: Section, sections: Sequence[Section], context: Context) -> None:
        self.first, self.context = first, context
        self.notes = Notes("n-all")
        self.others = [section for section in sections if section is not first]
        self.rows = {id(section): self._by_system(section) for section in sections}
        self.main = self._main()
        self.added = self._added()

    def _by_system(self, section: Section) -> Mapping[Key, Row]:
        out: dict[Key, Row] = {}
        for row in section.table.rows:
            run = self.context.by_id[row.run]
            out.setdefault((system(run), limit(run)), row)
        return out

    def _main(self) -> list[int]:
        """Places of the first suite's columns that are shown: the rate, then metrics."""
        columns = self.first.table.columns
        places = {column.metric: i for i, column in enumerate(columns)}
        chosen = [name for name in MAIN if name in places]
        more = [name for name in self.first.quality if name in places and name not in chosen]
        if self.first.by in places and self.first.by not in chosen:
            chosen.insert(0, str(self.first.by))
            more = [name for name in more if name != self.first.by]
        chosen += more[: max(0, FEWEST - len(chosen))]
        return [places[name] for name in (RATE, *chosen) if name in places]

    def _added(self) -> list[tuple[Section, int]]:
        """(section, place of its column) of what other suites add, and of what decides for systems that the first suite
        lacks."""
        out: list[tuple[Section, int]] = []
        seen: set[tuple[object, str]] = {(self.first.group.question.images, self._metric(i)) for i in self.main}
        covered = set(self.rows[id(self.first)])
        for section in self.others:
            lacking = set(self.rows[id(section)]) - covered
            wanted = [name for name in (*ADDED, *([section.by] if lacking else [])) if name]
            for place, column in enumerate(section.table.columns):
                key = (section.group.question.images, column.metric)
                if column.metric in wanted and key not in seen:
                    seen.add(key)
                    out.append((section, place))
            covered |= lacking
        return out

    def _metric(self, place: int) -> str:
        return self.first.table.columns[place].metric

    def table(self) -> Table:
        keys = dict.fromkeys(key for section in (self.first, *self.others) for key in self.rows[id(section)])
        rows = [self._row(key) for key in keys]
        table = self.first.table
        tokens, *rest = (column for column, _ in facts.ALL)
        main = [table.columns[i] for i in self.main]
        added = map(self._added_column, self.added)
        return Table(
            "all",
            "All systems",
            [*main[: self._rates], tokens, *main[self._rates :], *added, *rest],
            sorted(rows, key=lambda row: (kind_order(row.kind), row.kind)),
            self.notes,
            by=table.by,
            how=table.how,
        )

    @property
    def _rates(self) -> int:
        """How many of the first suite's columns are rates: the first, or none."""
        return int(bool(self.main) and self._metric(self.main[0]) == RATE)

    def _added_column(self, added: tuple[Section, int]) -> Column:
        section, place = added
        column = section.table.columns[place]
        return replace(column, head=False, where=column.where or section.group.suite, shown=True)

    def _row(self, key: Key) -> Row:
        here = self.rows[id(self.first)].get(key)
        row = here or next(of[key] for s in self.others if key in (of := self.rows[id(s)]))
        if here:
            cells = [here.cells[i].in_table(self.notes) for i in self.main]
        else:
            cells = [Cell(title="this system was not run here") for _ in self.main]
            row = replace(row, rank="", rank_title=f"not run on {self.first.group.suite}", front=False, band_at=None)
        run = self.context.by_id[row.run]
        tokens, *rest = (of(run, self.context) for _, of in facts.ALL)
        added = [self._added_cell(section, place, key) for section, place in self.added]
        return replace(row, cells=[*cells[: self._rates], tokens, *cells[self._rates :], *added, *rest])

    def _added_cell(self, section: Section, place: int, key: Key) -> Cell:
        """The value in its own suite, with the rate there, and where the metric decides, the place there."""
        row = self.rows[id(section)].get(key)
        if row is None:
            return Cell("", title="this system was not run here")
        cell = row.cells[place].in_table(self.notes)
        rate = row.cells[0] if section.table.columns[0].metric == RATE else None
        bits = f"at {rate.text} bit/px" if rate and rate.sort is not None and cell.text else ""
        decides = section.table.columns[place].metric == section.by
        title = "; ".join(filter(None, [cell.title, row.rank_title if decides and row.ranked else ""]))
        return replace(cell, at=bits, title=title)


def task_links(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """(title, address) of the page of every task, in order."""
    pages: dict[str, list[str]] = {}
    for section in sections:
        pages.setdefault(section.group.question.task, []).append(section.group.task_title)
    return [(" · ".join(dict.fromkeys(titles)), task_address(task)) for task, titles in pages.items()]
