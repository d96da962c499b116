"""Runs of one group -> ONE table of all kinds, places within kind and band of rate, every null with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtbench.leaderboard.cells import OTHER, QUALITY, RATES, Cell, Column, column, score_cell
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.groups import Group, is_price
from vtbench.leaderboard.labels import Label
from vtbench.leaderboard.words import KIND_TITLES, Notes, decimals, number, short
from vtbench.reporting.measured import RATE, all_lossless, is_cost, score, value
from vtbench.reporting.ranking import RATE_BANDS, Place, Ranking, band_order, ranking, rate_band
from vtbench.reporting.runs import identity, is_ranked, kind, kind_order, why_not_ranked
from vtbench.results.record import Run


@dataclass(frozen=True)
class Row:
    """A run in a table. `cells`: one for each column."""

    run: str
    """The run's id."""
    label: Label
    kind: str
    rank: str
    rank_title: str
    cells: Sequence[Cell]
    ranked: bool
    why: str | None = None
    """Why it is not ranked, less what the page's banner says of all runs."""
    grey: bool = False
    front: bool = False
    """Whether the run lies on the Pareto front."""
    band: str = ""
    """The band of its rate; empty where it has none."""
    band_at: int | None = None


@dataclass(frozen=True)
class Table:
    """`by`, `how`: the title of the metric that ranks, and how ties were found."""

    ident: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Notes
    by: str = ""
    how: str = ""
    unmeasured: Sequence[tuple[str, str]] = ()
    """(metrics, reason) of those that no row has a value for: said in a sentence, not in a column of dashes."""

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """(kind, in words) in order, for the filter."""
        present = sorted({row.kind for row in self.rows}, key=lambda name: (kind_order(name), name))
        return [(name, KIND_TITLES.get(name, short(name, 40))) for name in present]

    @property
    def bands(self) -> list[tuple[int, str]]:
        """(number, in words) of the bands of rate that rows are in."""
        return sorted({(row.band_at, row.band) for row in self.rows if row.band_at is not None})


@dataclass(frozen=True)
class Selection:
    """What a table shows: metrics with the group of columns of each, the one that ranks its rows, and the runs on the
    Pareto front by id."""

    metrics: Mapping[str, str]
    front: frozenset[str] = frozenset()
    rank_by: str | None = None


class GroupTable:
    """The table of one group while it is built: what its rows share. `rankings`: by kind and metric."""

    def __init__(self, group: Group, context: Context, selection: Selection) -> None:
        self.group, self.context, self.selection = group, context, selection
        self.notes = Notes(f"n-{group.ident}")
        runs = group.runs
        self.asked = [m for m in selection.metrics if m != RATE and any(score(r, m) for r in runs)]
        self.shown = [m for m in self.asked if any(value(run, m) is not None for run in runs)]
        self.columns = {m: self._column(m) for m in self.asked}
        self.digits = {m: decimals([value(run, m) for run in runs], self.columns[m].unit) for m in self.shown}
        self.rates = context.rates
        by_kind: dict[str, list[Run]] = {}
        for run in runs:
            by_kind.setdefault(kind(run), []).append(run)
        self.rankings = {name: self._rankings(members) for name, members in by_kind.items()}
        self.best = {
            (name, m): best for name, of in self.rankings.items() for m in self.shown if (best := self._best(of, m))
        }
        # A generator's images have no rate, and its run needs no reason for that.
        self.rated = any(score(run, RATE) or self.rates[identity(run)] is not None for run in runs)

    def table(self) -> Table:
        rows = [self._row(run) for run in sorted(self.group.runs, key=self._order)]
        rate = [Column("bpp", "bit/px", direction="lower is better", group=RATES, better="lower")]
        columns = [replace(self.columns[m], head=m == self.selection.rank_by) for m in self.shown]
        decided = [of for kinds in self.rankings.values() if (of := kinds.get(self.selection.rank_by or ""))]
        placed = [of for of in decided if of.places]
        return Table(
            self.group.ident,
            f"{self.group.task_title} on {self.group.where}",
            [*(rate if self.rated else []), *columns],
            rows,
            self.notes,
            by=self._titles(dict.fromkeys(of.metric for of in placed)),
            how="; ".join(dict.fromkeys(of.how for of in placed)),
            unmeasured=self._unmeasured(),
        )

    def _titles(self, metrics: Mapping[str, None]) -> str:
        return ", ".join(column(self.group, metric).title for metric in metrics)

    def _column(self, metric: str) -> Column:
        where = self.selection.metrics[metric]
        if where == QUALITY and is_price(self.group.card(metric)):
            where = RATES
        return replace(column(self.group, metric), group=where, shown=where in (QUALITY, RATES))

    def _rankings(self, members: Sequence[Run]) -> dict[str, Ranking]:
        """Prices and costs are never marked as best (times are of different devices), so only what decides and what may
        be marked is tested."""
        by = self.selection.rank_by
        tested = [m for m in self.selection.metrics if m == by or self._is_quality(m)]
        # What is paid decides only where nothing else can; bands of it would hide who pays least.
        return {
            metric: ranking(
                members, metric, self.context.rows, None if is_price(self.group.card(metric)) else self.rates
            )
            for metric in tested
        }

    def _is_quality(self, metric: str) -> bool:
        return self.selection.metrics[metric] in (QUALITY, OTHER) and not (
            is_price(self.group.card(metric)) or any(is_cost(run, metric) for run in self.group.runs)
        )

    def _best(self, of: Mapping[str, Ranking], metric: str) -> frozenset[str]:
        """The bands in which a best value of quality is worth marking: not all that stand there are tied."""
        result = of.get(metric)
        # Pooled errors or fewer images may decide the rank; the values in this column are then not what was ranked.
        if result is None or result.metric != metric or is_price(self.group.card(metric)):
            return frozenset()
        by_band: dict[str, list[bool]] = {}
        for place in result.places.values():
            by_band.setdefault(place.band, []).append(place.best or not place.as_scored)
        return frozenset(band for band, best in by_band.items() if not all(best))

    def _deciding(self, run: Run) -> Ranking | None:
        return self.rankings[kind(run)].get(self.selection.rank_by or "")

    def _order(self, run: Run) -> tuple[Any, ...]:
        """By kind and band; there ranked runs by place, then the others by value, the best first; equals by name."""
        by, bits = self._deciding(run), self.rates[identity(run)]
        place = by.places.get(identity(run)) if by else None
        card = self.group.card(by.metric) if by else None
        sign = -1.0 if card and card.better == "lower" else 1.0
        quality = value(run, by.metric) if by else None
        if quality is None:
            quality = value(run, self.selection.rank_by or "")
        banded = is_ranked(run) and bits is not None and not self._priced
        return (
            kind_order(kind(run)),
            kind(run),
            not is_ranked(run),
            band_order(bits) if bits is not None and banded else len(RATE_BANDS) + 1,
            place.rank if place else 1 << 30,
            not (quality is None and all_lossless(run)),
            quality is None,
            -sign * quality if quality is not None else 0.0,
            self.context.labels[identity(run)].full,
            identity(run),
        )

    @property
    def _priced(self) -> bool:
        """Whether what decides is itself what is paid, so that there are no bands."""
        by = self.selection.rank_by
        return bool(by and is_price(self.group.card(by)))

    def _rank_words(self, run: Run) -> tuple[str, str]:
        """The ranks that a run may have, as shown, and in full."""
        by, key = self._deciding(run), identity(run)
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
        reason = own_reason(run, self.context.banner)
        bits = self.rates[key]
        return Row(
            run=key,
            label=self.context.labels[key],
            kind=kind(run),
            rank=rank,
            rank_title=rank_title,
            cells=[*([self._rate_cell(run)] if self.rated else []), *(self._cell(run, m) for m in self.shown)],
            ranked=is_ranked(run),
            why=reason,
            grey=not is_ranked(run) and (self.context.banner is None or reason is not None),
            front=key in self.selection.front,
            band=rate_band(bits) if bits is not None else "",
            band_at=band_order(bits) if bits is not None else None,
        )

    def _rate_cell(self, run: Run) -> Cell:
        bits = self.rates[identity(run)]
        cell = Cell(number(bits, 3), sort=bits)
        stated = score(run, RATE)
        if bits is None:
            why = (stated.why if stated else None) or "the run holds no bits per pixel"
            cell.note, cell.title = self.notes.add(why), short(why, 400)
        elif stated and stated.low is not None and stated.high is not None:
            cell.interval, cell.ends = f"[{number(stated.low, 3)}, {number(stated.high, 3)}]", (stated.low, stated.high)
        return cell

    def _cell(self, run: Run, metric: str) -> Cell:
        cell = score_cell(run, metric, self.digits[metric], self.notes)
        best = self.best.get((kind(run), metric))
        place = self.rankings[kind(run)][metric].places.get(identity(run)) if best else None
        if best and place and place.best and place.band in best:
            cell.best = place.rank == 1
            cell.tied = not cell.best
        return cell

    def _unmeasured(self) -> list[tuple[str, str]]:
        """(titles of the metrics, reason) of what was asked for and has no value in any run, by reason."""
        titles: dict[str, list[str]] = {}
        for metric in self.asked:
            if metric not in self.shown:
                reasons = {str(stated.why) for run in self.group.runs if (stated := score(run, metric))}
                why = "; ".join(sorted(short(reason, 300) for reason in reasons))
                titles.setdefault(why, []).append(self.columns[metric].title)
        return [(", ".join(names), why) for why, names in titles.items()]


def own_reason(run: Run, banner: str | None) -> str | None:
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
