"""A table as HTML, written here rather than in a template: a hundred systems have some thousand cells."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from vtbench.leaderboard.cells import Cell, Column
from vtbench.leaderboard.marks import kind_mark
from vtbench.leaderboard.tables import Row, Table
from vtbench.leaderboard.words import KIND_NAMES, Notes, row_ident, short, sort_key

BAR = 60
"""Width of the bar of intervals, in its own units."""
FRONT = (
    ' <span class="pill" title="no comparable run here gives as much for fewer bits, or more for as many">front</span>'
)
Scale = tuple[float, float] | None
"""From the lowest to the highest end of a column's intervals."""


def table_markup(table: Table, root: str) -> Markup:
    """The table in its scrolling box, and its notes; `root`: what leads from the page to the site's folder."""
    scales = [_scale([row.cells[i] for row in table.rows]) for i in range(len(table.columns))]
    head = "".join(_head(column, root) for column in table.columns)
    title = escape(table.title)
    return Markup(
        f'<div class="scroll wide" tabindex="0" role="region" aria-label="{title}">'
        f'<table class="scores one" id="t-{table.ident}"><caption class="vh">{title}</caption>'
        '<thead><tr><th scope="col" class="sys" data-c="system"><span class="m">System</span></th>'
        '<th scope="col" data-c="place" data-b="lower"><span class="m">Place</span></th>'
        f'<th scope="col" class="t" data-c="kind"><span class="m">Kind</span></th>{head}</tr></thead>'
        f"<tbody>{''.join(_rows(table, scales, root))}</tbody></table></div>{notes_markup(table.notes)}"
    )


def notes_markup(notes: Notes) -> str:
    """The footnotes of a table."""
    if not notes.texts:
        return ""
    lines = "".join(f'<li id="{notes.prefix}-{i}">{escape(text)}</li>' for i, text in enumerate(notes.texts, 1))
    return f'<ol class="notes" aria-label="Notes to the table">{lines}</ol>'


def _attribute(name: str, value: str) -> str:
    """Nothing for an empty value."""
    return f' {name}="{escape(value)}"' if value else ""


def _class(*names: str) -> str:
    return _attribute("class", " ".join(filter(None, names)))


def _head(column: Column, root: str) -> str:
    title = escape(column.title)
    link = f'<a class="m" href="{root}{escape(column.href)}">{title}</a>' if column.href else ""
    below = [", ".join(filter(None, [column.unit, column.direction])), column.where]
    attributes = (
        _class("t" if column.words else "", "head" if column.head else "")
        + _attribute("data-c", column.metric)
        + _attribute("data-g", column.group)
        + _attribute("data-b", column.better)
        + ("" if column.shown else " data-off")
    )
    smalls = "".join(f"<small>{escape(text)}</small>" for text in below if text)
    return f'<th scope="col"{attributes}>{link or f"<span class=m>{title}</span>"}{smalls}</th>'


def _rows(table: Table, scales: Sequence[Scale], root: str) -> list[str]:
    out = []
    before: tuple[str, bool, str] | None = None
    for row in table.rows:
        stretch = (row.kind, row.ranked, row.band)
        out.append(_row(row, table, scales, root, first=before is not None and stretch != before))
        before = stretch
    return out


def _row(row: Row, table: Table, scales: Sequence[Scale], root: str, *, first: bool) -> str:
    """`first`: of its kind and band, which a line sets apart from what is above."""
    attributes = (
        _class("un" if row.grey else "", "first" if first else "")
        + _attribute("data-k", row.kind)
        + _attribute("data-n", "" if row.band_at is None else str(row.band_at))
        + (" data-r" if row.ranked else "")
    )
    name = f'<a href="{root}{escape(row.label.href)}">{escape(row.label.title)}</a>'
    name += f" <small>{escape(row.label.setting)}</small>" if row.label.setting else ""
    name += FRONT if row.front and row.ranked else ""
    name += f' <small class="why">not ranked: {escape(row.why)}</small>' if row.why else ""
    cells = "".join(map(_cell, row.cells, table.columns, scales, [table.notes] * len(scales)))
    kind = escape(KIND_NAMES.get(row.kind, short(row.kind, 40)))
    return (
        f'<tr id="{row_ident(row.run)}"{attributes}><th scope="row" class="sys">{name}</th>'
        f'<td class="rank" data-l="Place"{_attribute("title", row.rank_title)}>{escape(row.rank)}</td>'
        f'<td class="t" data-l="Kind">{kind_mark(row.kind)} {kind}</td>{cells}</tr>'
    )


def _cell(cell: Cell, column: Column, scale: Scale, notes: Notes) -> str:
    if not cell.text:
        return f"<td{_attribute('title', cell.title)}></td>"
    attributes = (
        _class("t" if column.words else "", "best" if cell.best else "tied" if cell.tied else "")
        + _attribute("data-l", column.title)
        + _attribute("data-v", "" if cell.sort is None else sort_key(cell.sort))
        + _attribute("title", "" if cell.note or cell.warning else cell.title)
    )
    out = [str(escape(cell.text))]
    if cell.best or cell.tied:
        out.append(f'<span class="vh"> ({"best" if cell.best else "not told apart from the best"})</span>')
    if cell.note:
        out.append(_note(notes, cell.note))
    if cell.warning and cell.warning != cell.note:
        out.append(_note(notes, cell.warning, warning=True))
    if cell.interval or cell.at:
        out.append(f"<small>{escape(' '.join(filter(None, [cell.interval, cell.at])))}</small>")
    return f"<td{attributes}>{''.join(out)}{_bar(cell.ends, scale)}</td>"


def _note(notes: Notes, number: int, *, warning: bool = False) -> str:
    # tabindex -1: hundreds of notes would stand between a keyboard user and the end of the table.
    kind, word, mark = (' class="warn"', "warning, note", "⚠") if warning else ("", "note", "")
    link = f'href="#{notes.prefix}-{number}" tabindex="-1" aria-label="{word} {number}"'
    return f"<sup{kind}><a {link}>{mark}{number}</a></sup>"


def _scale(cells: Sequence[Cell]) -> Scale:
    ends = [cell.ends for cell in cells if cell.ends]
    low, high = min((e[0] for e in ends), default=0.0), max((e[1] for e in ends), default=0.0)
    return (low, high) if high > low else None


def _bar(ends: tuple[float, float] | None, scale: Scale) -> str:
    """The interval as a thin line on the column's scale."""
    if ends is None or scale is None:
        return ""
    left, right = (BAR * (end - scale[0]) / (scale[1] - scale[0]) for end in ends)
    return (
        f'<svg viewBox="0 0 {BAR} 2" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M{left:.0f} 1h{max(1.0, right - left):.0f}"/></svg>'
    )
