"""Runs of one question -> tables: one a kind, ranked rows first, every null with its reason in a footnote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vtbench.aggregate import (
    KINDS,
    RATE,
    Question,
    Ranking,
    RowValues,
    all_lossless,
    finite,
    identity,
    is_ranked,
    kind,
    knob,
    newest_version,
    options,
    part,
    question,
    ranking,
    rate,
    version,
    why_not_ranked,
)
from vtbench.leaderboard.words import ARROWS, DIRECTIONS, Notes, anchor, decimals, number, short
from vtbench.results import Run

TASK_ORDER = ("reconstruction", "detail", "text", "compression", "generation", "written")
"""How the page is read; tasks that are not named here follow by name."""
RATE_UNITS = ("bit/px", "bit", "tokens", "x")
"""Units of metrics that say what is paid, not what is got: they never decide a rank while another metric can."""


@dataclass(frozen=True)
class Label:
    """A system in words: its title, the setting that tells it from its kin, and the page that tells all."""

    title: str
    setting: str
    href: str

    @property
    def full(self) -> str:
        return f"{self.title} · {self.setting}" if self.setting else self.title


@dataclass
class Column:
    """A metric as a column. `where` is reference set, view and n: part of the name of a set metric."""

    metric: str
    title: str
    unit: str = ""
    arrow: str = ""
    direction: str = ""
    where: str = ""
    href: str | None = None
    head: bool = False


@dataclass
class Cell:
    text: str = ""
    interval: str = ""
    sort: float | None = None
    best: bool = False
    tied: bool = False
    note: int | None = None
    warning: int | None = None
    title: str = ""
    href: str | None = None


@dataclass
class Row:
    label: Label
    rank: str
    rank_title: str
    images: str
    rate: Cell | None
    """Bits per pixel; None in a table of systems that have no rate to state, as generators."""
    cells: list[Cell]
    """One for each column."""
    ranked: bool
    why: str | None = None
    """Why it is not ranked, less what the page's banner says of all runs."""
    grey: bool = False
    curve: str = ""
    front: bool = False


@dataclass
class Table:
    kind: str
    columns: list[Column]
    rows: list[Row]
    notes: Notes
    how: str = ""
    by: str = ""
    unmeasured: list[tuple[str, str]] = field(default_factory=list)
    """(metrics, reason) of those that no row has a value for: said in a sentence, not in a column of dashes."""

    @property
    def rated(self) -> bool:
        return any(row.rate is not None for row in self.rows)


@dataclass
class Group:
    """Runs that may be compared: one task on one suite in one view."""

    key: Question
    ident: str
    task: str
    task_title: str
    suite: str
    view: str
    protocol: str
    images: int | None
    runs: list[Run]

    @property
    def where(self) -> str:
        return f"{self.suite}, {self.view}"


def setting(run: Run) -> str:
    """The options that tell a run from its kin: the knob, then whatever is not the card's default."""
    name, at = knob(run)
    card = part(run, "model").get("card")
    defaults = card.get("options") if isinstance(card, Mapping) else {}
    defaults = defaults if isinstance(defaults, Mapping) else {}
    told = [f"{name} {_plain(at)}"] if name else []
    told += [f"{k} {_plain(v)}" for k, v in options(run).items() if k != name and v != defaults.get(k)]
    return short(", ".join(told), 80)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def labels(runs: Sequence[Run], hrefs: Mapping[str, str]) -> dict[str, Label]:
    """A label for every run; where two systems of one question would read alike, what tells them apart is added."""
    base = {identity(r): (short(part(r, "model").get("title") or r.name, 80), setting(r)) for r in runs}
    out: dict[str, Label] = {}
    for run in runs:
        title, told = base[identity(run)]
        kin = [r for r in runs if base[identity(r)] == (title, told) and question(r) == question(run)]
        if len(kin) > 1:
            facts: list[tuple[str, Any]] = []
            for r in (run, *kin):
                weights = part(r, "model").get("weights")
                files = weights.get("files") if isinstance(weights, Mapping) else None
                digest = "".join(str(f.get("sha256"))[:8] for f in files or [] if isinstance(f, Mapping))
                facts.append(
                    ("", [r.name, r.info.get("dtype"), part(r, "device").get("kind"), r.info.get("seed"), digest,
                          r.info.get("limit") and f"limit {r.info['limit']}", identity(r)[:8]])
                )  # fmt: skip
            words = ("", "", "", "seed ", "weights ", "", "run ")
            differs = [
                f"{words[i]}{facts[0][1][i]}"
                for i in range(len(words))
                if facts[0][1][i] and len({str(f[1][i]) for f in facts}) > 1
            ]
            told = ", ".join(filter(None, [told, *(differs[:1] if len(differs) > 1 else differs)]))
        out[identity(run)] = Label(title, told, hrefs.get(identity(run), ""))
    return out


def groups(runs: Sequence[Run]) -> list[Group]:
    found: dict[Question, list[Run]] = {}
    for run in runs:
        found.setdefault(question(run), []).append(run)

    def order(key: Question) -> tuple[Any, ...]:
        place = TASK_ORDER.index(key[0]) if key[0] in TASK_ORDER else len(TASK_ORDER)
        return (place, key[0], -key[1], str(part(found[key][0], "suite").get("name")), key)

    out = []
    for key in sorted(found, key=order):
        first = found[key][0]
        suite, view, task = part(first, "suite"), part(first, "view"), part(first, "task")
        images = finite(suite.get("n"))
        ident = anchor(f"{key[0]} {suite.get('name')} {key[3]} v{key[1]} {key[2][:6]} {key[4][:6]} {key[5]}")
        out.append(
            Group(
                key, ident, key[0], short(task.get("title") or key[0], 80), short(suite.get("name", ""), 80),
                short(view.get("name", ""), 40), short(view.get("protocol") or first.info.get("protocol") or "", 40),
                None if images is None else int(images), found[key],
            )
        )  # fmt: skip
    return out


def card(runs: Sequence[Run], metric: str) -> Mapping[str, Any]:
    """The metric's card as the first run that has it states it."""
    for run in runs:
        found = part(run, "metrics").get(metric)
        if isinstance(found, Mapping):
            return found
    return {}


def metric_names(runs: Sequence[Run]) -> list[str]:
    """Metrics in the order in which the task lists them."""
    return list(dict.fromkeys(str(s.get("metric")) for r in runs for s in r.scores))


def primary(runs: Sequence[Run]) -> str | None:
    """The task's first metric with a better end that some run has a value for; quality before price."""
    able: list[tuple[bool, int, str]] = []
    for name in metric_names(runs):
        facts = card(runs, name)
        if facts.get("better") in ARROWS and not facts.get("convention_of") and any(_has(r, name) for r in runs):
            able.append((str(facts.get("unit", "")) in RATE_UNITS, len(able), name))
    return min(able)[2] if able else None


def _has(run: Run, metric: str) -> bool:
    score = run.score(metric)
    return score is not None and finite(score.get("value")) is not None


def column(runs: Sequence[Run], metric: str, group: Group | None, methods: str = "methods.html") -> Column:
    facts = card(runs, metric)
    score = next((s for r in runs if (s := r.score(metric))), {})
    better = facts.get("better", score.get("better"))
    where = ""
    if group is not None and facts.get("kind") == "set":
        counts = {int(n) for r in runs if (s := r.score(metric)) and (n := finite(s.get("n")))}
        where = f"{group.where}, n = {'–'.join(str(n) for n in sorted({min(counts), max(counts)}))}" if counts else ""
    return Column(
        metric,
        short(facts.get("title") or metric.replace("-", " "), 60),
        short(facts.get("unit", score.get("unit", "")) or "", 20),
        ARROWS.get(str(better), ""),
        DIRECTIONS.get(str(better), ""),
        where,
        f"{methods}#m-{anchor(metric)}" if facts else None,
    )


def score_cell(run: Run, metric: str, digits: int, notes: Notes) -> Cell:
    """A value with its interval and notes, a dash with its reason, or an empty cell where it was never asked for."""
    score = run.score(metric)
    if score is None:
        return Cell("", note=None, title="not part of this run")
    value = finite(score.get("value"))
    missing = int(finite(score.get("missing")) or 0)
    if value is None:
        why = short(score.get("why") or "the run states no reason", 400)
        # An image that came back identical has no PSNR: that is the best there is, and should not read as a gap.
        return Cell("lossless" if why.startswith("lossless") else number(None), note=notes.add(why), title=why)
    cell = Cell(number(value, digits), sort=value)
    low, high = finite(score.get("low")), finite(score.get("high"))
    if low is not None and high is not None:
        cell.interval = f"[{number(low, digits)}, {number(high, digits)}]"
    if missing:
        reasons = score.get("details", {}).get("missing") if isinstance(score.get("details"), Mapping) else None
        told = "; ".join(f"{n} × {w}" for w, n in sorted(reasons.items())) if isinstance(reasons, Mapping) else ""
        cell.title = f"over {score.get('n')} images, {missing} without a value{': ' + told if told else ''}"
        cell.note = notes.add(cell.title)
    if score.get("warning"):
        cell.warning = notes.add(str(score["warning"]))
        cell.title = "; ".join(filter(None, [cell.title, short(score["warning"], 400)]))
    return cell


def kind_tables(
    group: Group,
    label: Mapping[str, Label],
    rows: RowValues,
    *,
    metrics: Sequence[str],
    ident: str,
    every: Sequence[Run],
    front: frozenset[str] = frozenset(),
    rank_by: str | None = None,
    banner: str | None = None,
) -> list[Table]:
    """One table for each kind of system in the group; a run without a rate may find its own in `every`."""
    out = []
    for name in sorted({kind(r) for r in group.runs}, key=lambda k: (KINDS.index(k) if k in KINDS else 9, k)):
        members = [r for r in group.runs if kind(r) == name]
        own = f"{ident}-{anchor(name)}"
        out.append(_table(name, members, group, label, rows, metrics, own, every, front, rank_by, banner))
    return out


def _table(
    name: str,
    members: Sequence[Run],
    group: Group,
    label: Mapping[str, Label],
    rows: RowValues,
    metrics: Sequence[str],
    ident: str,
    every: Sequence[Run],
    front: frozenset[str],
    rank_by: str | None,
    banner: str | None,
) -> Table:
    notes = Notes(ident)
    # Prices are never marked as best, so only what decides and what may be marked is tested.
    ranked_by = [m for m in metrics if m == rank_by or str(card(group.runs, m).get("unit", "")) not in RATE_UNITS]
    rankings = {m: ranking(members, m, rows) for m in ranked_by}
    by = rankings.get(rank_by) if rank_by else None
    asked = [m for m in metrics if any(r.score(m) for r in members) and m != RATE]
    shown = [m for m in asked if any(_has(r, m) for r in members)]
    columns = [column(group.runs, m, group) for m in shown]
    for c in columns:
        c.head = by is not None and c.metric == rank_by
    digits = {c.metric: decimals([_value(r, c.metric) for r in members], c.unit) for c in columns}
    newest = {m: newest_version(members, m) for m in shown}
    marked = {m for m in shown if m in rankings and _marked(rankings[m], m, card(group.runs, m))}
    tops = {m: _top(rankings[m], members, m) for m in marked}
    rates = {identity(r): rate(r, every) for r in members}

    def order(run: Run) -> tuple[Any, ...]:
        place = by.places.get(identity(run)) if by else None
        value = _value(run, by.metric) if by else None
        up = -1.0 if by and card(group.runs, by.metric).get("better") == "lower" else 1.0
        value = value if value is not None else _value(run, rank_by or "")
        return (
            not is_ranked(run),
            place.rank if place else 1 << 30,
            not (value is None and all_lossless(run)),
            value is None,
            -up * value if value is not None else 0.0,
            label[identity(run)].full,
            identity(run),
        )

    # A generator's images have no rate, and its run needs no reason for that.
    rated = any(r.score(RATE) or rates[identity(r)] is not None for r in members)
    made = []
    for run in sorted(members, key=order):
        key = identity(run)
        place = by.places.get(key) if by else None
        rate_cell = Cell(number(rates[key], 3), sort=rates[key]) if rated else None
        if rate_cell is not None and rates[key] is None:
            score = run.score(RATE)
            why = str((score or {}).get("why") or "the run holds no bits per pixel")
            rate_cell.note, rate_cell.title = notes.add(why), short(why, 400)
        cells = []
        for metric in shown:
            cell = score_cell(run, metric, digits[metric], notes)
            if cell.sort is not None and version(run, metric) != newest[metric]:
                told = f"version {version(run, metric)} of this metric, so not compared with version {newest[metric]}"
                cell.title = "; ".join(filter(None, [cell.title, told]))
                cell.note = notes.add(cell.title)
            # Pooled PSNR may decide the rank in place of PSNR; the values in this column are then not what was ranked.
            found = rankings[metric].places.get(key) if metric in marked else None
            if found and found.best:
                # A system that stands first without a value gave back every image as it was.
                cell.best = cell.sort is None or cell.sort == tops[metric]
                cell.tied = not cell.best
            cells.append(cell)
        images = finite(run.info.get("n"))
        images = images if images is not None else max((finite(s.get("n")) or 0.0 for s in run.scores), default=0.0)
        rank, told = _rank_words(place)
        reason = _own_reason(run, banner)
        made.append(
            Row(
                label[key], rank, told, f"{int(images)}", rate_cell, cells, is_ranked(run), reason,
                not is_ranked(run) and (banner is None or reason is not None), key, key in front,
            )
        )  # fmt: skip
    table = Table(name, columns, made, notes)
    if by is not None:
        table.how = by.how
        table.by = column(group.runs, by.metric, None).title if by.places else ""
    reasons: dict[str, list[str]] = {}
    for metric in asked:
        if metric not in shown:
            whys = {str(s.get("why") or "the run states no reason") for r in members if (s := r.score(metric))}
            reasons.setdefault("; ".join(sorted(short(w, 300) for w in whys)), []).append(
                column(group.runs, metric, None).title
            )
    table.unmeasured = [(", ".join(names), why) for why, names in reasons.items()]
    return table


def _value(run: Run, metric: str) -> float | None:
    score = run.score(metric)
    return finite(score.get("value")) if score else None


def _own_reason(run: Run, banner: str | None) -> str | None:
    """Why this run is not ranked, without the reasons that the banner gives for all."""
    told = why_not_ranked(run)
    if told is None:
        return None
    common = set(banner.split("; ")) if banner else set()
    return short("; ".join(part for part in told.split("; ") if part not in common), 300) or None


def _marked(found: Ranking, metric: str, facts: Mapping[str, Any]) -> bool:
    """Whether a best value is worth marking: of several, not all tied, and of quality rather than of price."""
    several = len(found.places) > 1 and not all(p.best for p in found.places.values())
    return several and found.metric == metric and str(facts.get("unit", "")) not in RATE_UNITS


def _top(found: Ranking, members: Sequence[Run], metric: str) -> float | None:
    """The best value of the ranked systems; those that share place 1 with another value are tied with it."""
    values = [v for r in members if identity(r) in found.places and (v := _value(r, metric)) is not None]
    return None if not values else min(values) if found.better == "lower" else max(values)


def _rank_words(place: Any) -> tuple[str, str]:
    """A place as shown, and in full."""
    if place is None:
        return "", "not ranked"
    told = f"place {place.rank}" + (", shared" if place.shared else "")
    if place.low is not None and place.high is not None:
        told += f"; 95 % interval of the place: {place.low} to {place.high}"
    if place.p is not None:
        told += f"; adjusted p against the system above: {place.p:.2g}"
    return f"{place.rank}{'=' if place.shared else ''}", told
