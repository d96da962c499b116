"""The first tables of the page: one a kind, systems down, the deciding metric of every group across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vtbench.leaderboard.cells import Cell, Column, column, score_cell
from vtbench.leaderboard.sections import Section
from vtbench.leaderboard.tables import Row, Table
from vtbench.leaderboard.words import Notes, anchor
from vtbench.reporting.runs import Question, identity, kind, kind_order, limit, system
from vtbench.results.record import Run

HEADLINES = 8
"""Columns of the first table; every group has a table of its own below."""


@dataclass(frozen=True)
class _Entry:
    """One system in one section: the table and the row that it has there, and its run."""

    table: Table
    row: Row
    run: Run


def headlines(sections: Sequence[Section]) -> list[Table]:
    """One table for each kind that has runs; its cells lead to their runs."""
    used: list[Section] = []
    for section in sections:
        if section.by and section.asked not in [s.asked for s in used]:
            used.append(section)
    used = used[:HEADLINES]
    kinds = {kind(run) for section in used for run in section.group.runs}
    return [_table(name, used) for name in sorted(kinds, key=lambda name: (kind_order(name), name))]


def _table(name: str, sections: Sequence[Section]) -> Table:
    notes = Notes(f"glance-{anchor(name)}")
    with_table = [(section, table) for section in sections if (table := section.table_of(name))]
    shown = _shown([section for section, _ in with_table])
    rows = [_row(entries, shown, notes) for entries in _systems(with_table)]
    return Table(name, [_column(section, metric) for section, metric in shown], rows, notes)


def _shown(sections: Sequence[Section]) -> list[tuple[Section, str]]:
    """The columns: (section, metric)."""
    shown = [(section, section.by) for section in sections if section.by]
    if shown:
        # With few tasks there is room for more of what the first one measures.
        first = sections[0]
        more = [metric for metric in first.quality if metric != first.by]
        shown[1:1] = [(first, metric) for metric in more[: max(0, HEADLINES // 2 - len(shown))]]
    return shown


def _column(section: Section, metric: str) -> Column:
    group = section.group
    return replace(column(group, metric), where=group.where, href=f"#{group.ident}")


def _systems(tables: Sequence[tuple[Section, Table]]) -> list[dict[Question, _Entry]]:
    """For every system and limit, its entries by the question of their section."""
    systems: dict[tuple[str, int | None], dict[Question, _Entry]] = {}
    for section, table in tables:
        runs = {identity(run): run for run in section.group.runs}
        for row in table.rows:
            run = runs[row.run]
            entries = systems.setdefault((system(run), limit(run)), {})
            entries[section.group.question] = _Entry(table, row, run)
    return list(systems.values())


def _row(entries: Mapping[Question, _Entry], shown: Sequence[tuple[Section, str]], notes: Notes) -> Row:
    rows = [entry.row for entry in entries.values()]
    cells = [
        _cell(entries.get(section.group.question), metric, notes, placed=metric == section.by)
        for section, metric in shown
    ]
    ranked = any(row.ranked for row in rows)
    return replace(
        rows[0],
        # Each of these belongs to one suite, and stands in its cells.
        rate=None,
        rank="",
        rank_title="",
        front=False,
        band="",
        cells=cells,
        ranked=ranked,
        why=None if ranked else rows[0].why,
        grey=rows[0].grey and not ranked,
    )


def _cell(entry: _Entry | None, metric: str, notes: Notes, *, placed: bool) -> Cell:
    """The value in its suite, with the rate, and where the metric decides the place and the front, of that suite."""
    if entry is None:
        return Cell("", title="this system was not run here")
    at = next((i for i, head in enumerate(entry.table.columns) if head.metric == metric), None)
    cell = score_cell(entry.run, metric, 2, notes) if at is None else entry.row.cells[at].in_table(notes)
    row = entry.row
    bits = f"{row.rate.text} bit/px" if row.rate is not None and row.rate.sort is not None and cell.text else ""
    below = ", ".join(filter(None, [bits, "front" if placed and row.front and row.ranked else ""]))
    remarks = [cell.title, row.rank_title if placed and row.ranked else ""]
    return replace(cell, href=row.label.href, at=below, title="; ".join(filter(None, remarks)))
