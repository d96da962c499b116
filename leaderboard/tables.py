"""Runs of one group -> tables: one a kind, ranked rows first, every null with its reason in a footnote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtbench.leaderboard.cells import Cell, Column, column, score_cell
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.groups import Group, is_price
from vtbench.leaderboard.labels import Label
from vtbench.leaderboard.words import Notes, anchor, decimals, number, short
from vtbench.reporting.curves import rate
from vtbench.reporting.measured import RATE, all_lossless, is_cost, measured_images, score, value
from vtbench.reporting.ranking import RATE_BANDS, Place, Ranking, band_order, ranking, rate_band
from vtbench.reporting.runs import identity, is_ranked, kind, kind_order, why_not_ranked
from vtbench.results.record import Run


@dataclass(frozen=True)
class Row:
    label: Label
    rank: str
    rank_title: str
    images: str
    rate: Cell | None
    """Bits per pixel; None in a table of systems that have no rate to state, as generators."""
    cells: Sequence[Cell]
    """One for each column."""
    ranked: bool
    why: str | None = None
    """Why it is not ranked, less what the page's banner says of all runs."""
    grey: bool = False
    run: str = ""
    """The run's id."""
    front: bool = False
    """Whether the run lies on the Pareto front."""
    band: str = ""
    """The band of rate within which it is ranked; empty where places know no bands, or it has no place."""


@dataclass(frozen=True)
class Table:
    """The rows of one kind of systems. `by`, `how`: the title of the metric that ranks, and how ties were found."""

    kind: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Notes
    how: str = ""
    by: str = ""
    unmeasured: Sequence[tuple[str, str]] = ()
    """(metrics, reason) of those that no row has a value for: said in a sentence, not in a column of dashes."""

    @property
    def rated(self) -> bool:
        return any(row.rate is not None for row in self.rows)


@dataclass(frozen=True)
class Selection:
    """What a table shows: its metrics, the one that ranks its rows, and the runs on the Pareto front by id."""

    metrics: Sequence[str]
    ident: str
    """Prefix of the ids of its tables."""
    front: frozenset[str] = frozenset()
    rank_by: str | None = None


def kind_tables(group: Group, context: Context, selection: Selection) -> list[Table]:
    """One table for each kind of system in the group; a run without a rate may find its own in `context.runs`."""
    kinds = sorted({kind(run) for run in group.runs}, key=lambda name: (kind_order(name), name))
    return [_KindTable(name, group, context, selection).table() for name in kinds]


class _KindTable:
    """The table of one kind while it is built: what its rows share."""

    def __init__(self, name: str, group: Group, context: Context, selection: Selection) -> None:
        self.kind, self.group, self.context, self.selection = name, group, context, selection
        self.members = [run for run in group.runs if kind(run) == name]
        self.notes = Notes(f"{selection.ident}-{anchor(name)}")
        self.asked = [m for m in selection.metrics if m != RATE and any(score(r, m) for r in self.members)]
        self.shown = [m for m in self.asked if any(value(run, m) is not None for run in self.members)]
        self.rates = {identity(run): rate(run, context.runs) for run in self.members}
        self.rankings = self._rankings()
        self.ranked_by = self.rankings.get(selection.rank_by or "")
        self.digits = {m: self._decimals(m) for m in self.shown}
        self.best = {m: self._best(m) for m in self.shown if self._is_marked(m)}
        # A generator's images have no rate, and its run needs no reason for that.
        self.rated = any(score(run, RATE) or self.rates[identity(run)] is not None for run in self.members)

    def table(self) -> Table:
        columns = [column(self.group, metric) for metric in self.shown]
        rows = [self._row(run) for run in sorted(self.members, key=self._order)]
        by = self.ranked_by
        return Table(
            self.kind,
            [replace(c, head=by is not None and c.metric == self.selection.rank_by) for c in columns],
            rows,
            self.notes,
            how=by.how if by else "",
            by=column(self.group, by.metric).title if by and by.places else "",
            unmeasured=self._unmeasured(),
        )

    def _rankings(self) -> dict[str, Ranking]:
        """Prices and costs are never marked as best (times are of different devices), so only what decides and what may
        be marked is tested."""
        paid = {m for m in self.selection.metrics if is_price(self.group.card(m)) or self._is_cost(m)}
        tested = [m for m in self.selection.metrics if m == self.selection.rank_by or m not in paid]
        # What is paid decides only where nothing else can; bands of it would hide who pays least.
        return {
            metric: ranking(
                self.members, metric, self.context.rows, None if is_price(self.group.card(metric)) else self.rates
            )
            for metric in tested
        }

    def _is_cost(self, metric: str) -> bool:
        return any(is_cost(run, metric) for run in self.members)

    def _decimals(self, metric: str) -> int:
        return decimals([value(run, metric) for run in self.members], column(self.group, metric).unit)

    def _is_marked(self, metric: str) -> bool:
        """Whether a best value is worth marking: of quality rather than of price."""
        result = self.rankings.get(metric)
        if result is None:
            return False
        # Pooled PSNR may decide the rank in place of PSNR; the values in this column are then not what was ranked.
        return result.metric == metric and not is_price(self.group.card(metric))

    def _best(self, metric: str) -> frozenset[str]:
        """The bands in which a best value is worth marking: not all that stand there are tied."""
        by_band: dict[str, list[bool]] = {}
        for place in self.rankings[metric].places.values():
            by_band.setdefault(place.band, []).append(place.best)
        return frozenset(band for band, best in by_band.items() if not all(best))

    def _order(self, run: Run) -> tuple[Any, ...]:
        """Ranked runs by place, then the others by value, the best first; runs that are equal in all by their name."""
        by = self.ranked_by
        place = by.places.get(identity(run)) if by else None
        card = self.group.card(by.metric) if by else None
        sign = -1.0 if card and card.better == "lower" else 1.0
        quality = value(run, by.metric) if by else None
        if quality is None:
            quality = value(run, self.selection.rank_by or "")
        return (
            not is_ranked(run),
            self._band_order(run),
            place.rank if place else 1 << 30,
            not (quality is None and all_lossless(run)),
            quality is None,
            -sign * quality if quality is not None else 0.0,
            self.context.labels[identity(run)].full,
            identity(run),
        )

    def _band(self, run: Run) -> str:
        bits = self.rates[identity(run)]
        by = self.selection.rank_by
        banded = is_ranked(run) and not (by and is_price(self.group.card(by)))
        return rate_band(bits) if banded and bits is not None else ""

    def _band_order(self, run: Run) -> int:
        bits = self.rates[identity(run)]
        return band_order(bits) if bits is not None and self._band(run) else len(RATE_BANDS) + 1

    def _rank_words(self, run: Run) -> tuple[str, str]:
        """The ranks that a run may have, as shown, and in full."""
        by, key = self.ranked_by, identity(run)
        if not is_ranked(run):
            return "", "not ranked"
        place = by.places.get(key) if by else None
        if place is None or by is None:
            return "", by.alone.get(key, "no value to be placed by") if by else ""
        below = self.context.labels.get(place.apart_from or "")
        return rank_words(place, below.full if below else None)

    def _row(self, run: Run) -> Row:
        key = identity(run)
        rank, rank_title = self._rank_words(run)
        reason = _own_reason(run, self.context.banner)
        return Row(
            label=self.context.labels[key],
            rank=rank,
            rank_title=rank_title,
            images=str(measured_images(run)),
            rate=self._rate_cell(run) if self.rated else None,
            cells=[self._cell(run, metric) for metric in self.shown],
            ranked=is_ranked(run),
            why=reason,
            grey=not is_ranked(run) and (self.context.banner is None or reason is not None),
            run=key,
            front=key in self.selection.front,
            band=self._band(run),
        )

    def _rate_cell(self, run: Run) -> Cell:
        bits = self.rates[identity(run)]
        cell = Cell(number(bits, 3), sort=bits)
        if bits is None:
            stated = score(run, RATE)
            why = (stated.why if stated else None) or "the run holds no bits per pixel"
            cell.note, cell.title = self.notes.add(why), short(why, 400)
        return cell

    def _cell(self, run: Run, metric: str) -> Cell:
        cell = score_cell(run, metric, self.digits[metric], self.notes)
        place = self.rankings[metric].places.get(identity(run)) if metric in self.best else None
        if place and place.best and place.band in self.best[metric]:
            cell.best = place.rank == 1
            cell.tied = not cell.best
        return cell

    def _unmeasured(self) -> list[tuple[str, str]]:
        """(titles of the metrics, reason) of what was asked for and has no value in any run, by reason."""
        titles: dict[str, list[str]] = {}
        for metric in self.asked:
            if metric not in self.shown:
                reasons = {str(stated.why) for run in self.members if (stated := score(run, metric))}
                why = "; ".join(sorted(short(reason, 300) for reason in reasons))
                titles.setdefault(why, []).append(column(self.group, metric).title)
        return [(", ".join(names), why) for why, names in titles.items()]


def _own_reason(run: Run, banner: str | None) -> str | None:
    """Why this run is not ranked, without the reasons that the banner gives for all."""
    reason = why_not_ranked(run)
    if reason is None:
        return None
    common = set(banner.split("; ")) if banner else set()
    return short("; ".join(part for part in reason.split("; ") if part not in common), 300) or None


def rank_words(place: Place, below: str | None) -> tuple[str, str]:
    """A place as shown, and in full. `below`: the first system further down from which it is told apart."""
    among = f"of {place.of}" + (f" at {place.band}" if place.band else "")
    if place.low is None or place.high is None:
        return f"{place.rank}{'=' if place.shared else ''}", f"place {place.rank} {among}, by value alone"
    open_ranks = f"{place.low}–{place.high}" if place.low < place.high else f"{place.low}"
    title = f"{'places' if place.low < place.high else 'place'} {open_ranks} {among}"
    if place.p is not None:
        title += f"; against the best: adjusted p = {place.p:.2g}"
    if below:
        title += f"; the first below that it is told apart from: {below}"
    return open_ranks, title
