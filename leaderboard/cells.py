"""Columns and cells: a metric's head, and a run's value under it with its interval, its remarks or its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vtbench.leaderboard.groups import Group
from vtbench.leaderboard.words import ARROWS, DIRECTIONS, Notes, anchor, number, short
from vtbench.reporting.image_values import LOSSLESS
from vtbench.reporting.measured import score
from vtbench.reporting.values import finite, mapping
from vtbench.results.record import Run, Score

QUALITY, RATES, OTHER, COSTS, FACTS = (
    "Quality",
    "Rate",
    "Other conventions",
    "Speed, memory and size",
    "The system",
)
"""Groups of columns, as the chooser of columns names them."""


@dataclass(frozen=True)
class Column:
    """A metric or a fact as a column. `where` is reference set, view and n: part of the name of a set metric."""

    metric: str
    """What it is called in the page's address: a metric's name, or a fact's."""
    title: str
    unit: str = ""
    arrow: str = ""
    direction: str = ""
    where: str = ""
    href: str | None = None
    head: bool = False
    """Whether the table is ranked by this column."""
    group: str = QUALITY
    better: str = ""
    """The end that is sorted first: higher or lower; empty for texts."""
    words: bool = False
    """Whether its cells are texts."""
    shown: bool = True
    """Whether it is there before the reader chooses columns; without JavaScript all are."""


@dataclass
class Cell:
    """`sort`: the value in full. `note`, `warning`: numbers of footnotes of the table. `title`: shown on pointing."""

    text: str = ""
    interval: str = ""
    sort: float | None = None
    best: bool = False
    tied: bool = False
    note: int | None = None
    warning: int | None = None
    title: str = ""
    at: str = ""
    """The rate that this value was got at: where it is of other images than the table's."""
    ends: tuple[float, float] | None = None
    """Of the interval, for the bar."""

    def in_table(self, notes: Notes) -> Cell:
        """A copy for another table, its remark among that table's notes."""
        note = notes.add(self.title) if self.note and self.title else None
        warning = notes.add(self.title) if self.warning and self.title else None
        return replace(self, note=note, warning=warning)


def column(group: Group, metric: str) -> Column:
    """The metric as a column of the group; a metric without a card is described by its scores."""
    if metric not in group.columns:
        group.columns[metric] = _column(group, metric)
    return group.columns[metric]


def _column(group: Group, metric: str) -> Column:
    card = group.card(metric)
    scored = [stated for run in group.runs if (stated := score(run, metric)) is not None]
    described = card or (scored[0] if scored else None)
    better = str(described.better) if described else ""
    return Column(
        metric=metric,
        title=short((card.title if card else "") or metric.replace("-", " "), 60),
        unit=short(described.unit or "", 20) if described else "",
        arrow=ARROWS.get(better, ""),
        direction=DIRECTIONS.get(better, ""),
        where=_reference_set(group, scored) if card and card.kind == "set" else "",
        href=f"methods.html#m-{anchor(metric)}" if card else None,
        better=better if better in ARROWS else "higher",
    )


def _reference_set(group: Group, scored: list[Score]) -> str:
    """Images, view and how many: a number over a set means nothing without them."""
    counts = {int(n) for stated in scored if (n := finite(stated.n))}
    return f"{group.where}, n = {'–'.join(str(n) for n in sorted({min(counts), max(counts)}))}" if counts else ""


def came_back_identical(stated: Score) -> bool:
    """Whether a null is the best there is: every image without a value came back identical, and none failed."""
    reasons = [str(stated.why), *mapping(stated.details.get("missing"))]
    return stated.value is None and all(reason.startswith(LOSSLESS) for reason in reasons)


def score_cell(run: Run, metric: str, digits: int, notes: Notes) -> Cell:
    """A value with its interval and notes, a dash with its reason, or an empty cell where it was never asked for."""
    stated = score(run, metric)
    if stated is None:
        return Cell("", title="not part of this run")
    if stated.value is None:
        why = short(stated.why, 400)
        # An image that came back identical has no PSNR: that is the best there is, and should not read as a gap.
        if came_back_identical(stated):
            return Cell("lossless", sort=best_possible(stated.better), note=notes.add(why), title=why)
        return Cell(number(None), note=notes.add(why), title=why)
    cell = Cell(number(stated.value, digits), sort=stated.value)
    if stated.low is not None and stated.high is not None:
        cell.interval = f"[{number(stated.low, digits)}, {number(stated.high, digits)}]"
        cell.ends = (stated.low, stated.high)
    if missing := int(finite(stated.missing) or 0):
        reasons = mapping(stated.details.get("missing"))
        counted = "; ".join(f"{n} × {why}" for why, n in sorted(reasons.items()))
        cell.title = f"over {stated.n} images, {missing} without a value{': ' + counted if counted else ''}"
        cell.note = notes.add(cell.title)
    what = stated.details.get("what")
    if isinstance(what, str) and what:
        # Whose memory it is, and the like: a number of the whole process is not the model's.
        cell.title = _joined(cell.title, short(what, 400))
        cell.note = notes.add(cell.title)
    if stated.warning:
        cell.warning = notes.add(str(stated.warning))
        cell.title = _joined(cell.title, short(stated.warning, 400))
    return cell


def best_possible(better: str | None) -> float:
    """Where a lossless image sorts: before every number."""
    return -math.inf if better == "lower" else math.inf


def _joined(*remarks: str) -> str:
    return "; ".join(filter(None, remarks))
