"""What the pages say: sections with tables and plots, the first tables, BD-rates, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vtbench import aggregate
from vtbench.aggregate import KINDS, RowValues, curves, identity, is_ranked, kind, pareto, part, system
from vtbench.leaderboard import gallery, tables, words
from vtbench.leaderboard.plot import Style, rd_plot, swatch
from vtbench.leaderboard.tables import Cell, Group, Label, Row, Table
from vtbench.results import Run

HEADLINES = 8
"""Columns of the first table; every group has a table of its own below."""


def all_curves(runs: Sequence[Run]) -> list[aggregate.Curve]:
    """One entry a curve key, in page order, so that a system has one colour everywhere."""
    found: dict[str, Run] = {}
    for run in runs:
        found.setdefault(aggregate.curve_key(run), run)
    return [aggregate.Curve(key, run.name, kind(run)) for key, run in found.items()]


def shared_reason(runs: Sequence[Run]) -> str | None:
    """The reason that keeps every single run from being ranked: said once on top instead of on every line."""
    if not runs or any(is_ranked(r) for r in runs):
        return None
    reasons = [set(str(aggregate.why_not_ranked(r)).split("; ")) for r in runs]
    shared = set.intersection(*reasons)
    return "; ".join(sorted(shared)) or None


def counts(runs: Sequence[Run], groups: Sequence[Group]) -> list[tuple[str, str]]:
    suites = {g.key[2]: g.images or 0 for g in groups}
    ranked = sum(is_ranked(r) for r in runs)

    def count(n: int, word: str) -> tuple[str, str]:
        return words.number(float(n), 0), word if n == 1 else f"{word}s"

    return [
        count(len({str(part(r, "model").get("name")) for r in runs}), "system"),
        count(len({system(r) for r in runs}), "operating point"),
        count(len({g.task for g in groups}), "task"),
        count(sum(suites.values()), "image"),
        (f"{ranked} of {len(runs)}", "runs ranked"),
    ]


def section_of(
    group: Group,
    label: Mapping[str, Label],
    rows: RowValues,
    runs: Sequence[Run],
    look: Mapping[str, Style],
    banner: str | None,
) -> dict[str, Any]:
    """Tables and plots of one group of comparable runs."""
    names = tables.metric_names(group.runs)
    facts = {n: tables.card(group.runs, n) for n in names}
    main = [n for n in names if facts[n] and not facts[n].get("convention_of")]
    decider = aggregate.deciding(group.runs, "psnr")
    if "psnr" in main and decider not in main:
        main.insert(main.index("psnr") + 1, decider)
    other = [n for n in names if facts[n].get("convention_of") and n not in main]
    speed = [n for n in names if not facts[n]]
    by = tables.primary(group.runs)
    fair = [r for r in group.runs if is_ranked(r)] or [
        r for r in group.runs if r.info.get("status") == "complete" and not r.info.get("limit")
    ]
    faded = {identity(r) for r in group.runs} - {identity(r) for r in fair}
    front: frozenset[str] = frozenset()
    if by is not None:
        points = [p for c in curves(fair, by, others=runs) for p in c.points]
        better = str(facts[by].get("better"))
        front = frozenset(identity(points[i].run) for i in pareto([(p.x, p.y) for p in points], better))

    def made(metrics: Sequence[str], suffix: str, rank_by: str | None) -> list[Table]:
        return tables.kind_tables(
            group,
            label,
            rows,
            metrics=metrics,
            ident=f"{group.ident}{suffix}",
            every=runs,
            front=front,
            rank_by=rank_by,
            banner=banner,
        )

    plotted = [
        n
        for n in main
        if facts[n].get("better") and facts[n].get("unit") not in tables.RATE_UNITS and facts[n].get("kind") != "tokens"
    ]
    plots = []
    for metric in plotted:
        drawn = curves(group.runs, metric, others=runs)
        if sum(len(c.points) for c in drawn) < 2:
            continue
        column = tables.column(group.runs, metric, group)
        stated = facts[metric].get("bounds")
        bounds = [aggregate.finite(b) for b in stated] if isinstance(stated, (list, tuple)) else []
        plots.append(
            {
                "metric": metric,
                "against": None,
                "title": f"{column.title}{f' ({column.unit})' if column.unit else ''}",
                "arrow": column.arrow,
                "direction": column.direction,
                "legend": [(swatch(look[c.key]), _curve_title(c), len(c.points)) for c in drawn],
                "large": _plot(drawn, look, group, column, label, faded, bounds, 860, 470, "l"),
                "small": _plot(drawn, look, group, column, label, faded, bounds, 400, 330, "s"),
                "keys": [c.key for c in drawn],
                "shapes": sorted({c.kind for c in drawn}, key=lambda k: KINDS.index(k) if k in KINDS else 9),
            }
        )
    plots += cost_plots(group, label, runs, look, faded, plotted) if not plots else []
    told = made(main, "", by)
    hows = {(t.by, t.how) for t in told if t.by and t.how}
    # What no kind has a value for is said once, below all of them.
    nowhere = [line for line in told[0].unmeasured if all(line in t.unmeasured for t in told)] if told else []
    for table in told:
        table.unmeasured = [line for line in table.unmeasured if line not in nowhere]
    return {
        "group": group,
        "tables": told,
        "how": next(iter(hows)) if len(hows) == 1 else None,
        "other": made(other, "-other", None) if other else [],
        "speed": made(speed, "-speed", None) if speed else [],
        "plots": plots,
        "by": by,
        "quality": [n for n in plotted if not facts[n].get("convention_of")],
        "nowhere": nowhere,
        "curves": curves(fair, by, others=runs) if by else [],
        "ranked": any(is_ranked(r) for r in group.runs),
    }


COSTS = {"image-seconds-p50": ("time to image", "s/image"), "nfe": ("network evaluations", "per image")}
"""What a drawn image takes: the axis of generators, which have no rate."""


def cost_plots(
    group: Group, label: Mapping[str, Label], runs: Sequence[Run], look: Mapping[str, Style], faded: set[str],
    metrics: Sequence[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """Quality against cost, for a task whose runs have no rate: each metric with a direction, against each cost."""
    out = []
    for metric in metrics:
        if metric in COSTS:
            continue
        for cost, (title, unit) in COSTS.items():
            drawn = curves(group.runs, metric, others=runs, cost=cost)
            points = [p for c in drawn for p in c.points]
            # A cost that is the same for all says nothing.
            if len(points) < 2 or len({p.x for p in points}) < 2:
                continue
            column = tables.column(group.runs, metric, group)
            stated = tables.card(group.runs, metric).get("bounds")
            bounds = [aggregate.finite(b) for b in stated] if isinstance(stated, (list, tuple)) else []
            axis = (title, unit)
            out.append(
                {
                    "metric": f"{metric} against {cost}",
                    "title": f"{column.title} against {title}",
                    "against": f"{title} ({unit})",
                    "arrow": column.arrow,
                    "direction": column.direction,
                    "legend": [(swatch(look[c.key]), _curve_title(c), len(c.points)) for c in drawn],
                    "large": _plot(drawn, look, group, column, label, faded, bounds, 860, 470, f"{cost}-l", axis),
                    "small": _plot(drawn, look, group, column, label, faded, bounds, 400, 330, f"{cost}-s", axis),
                    "keys": [c.key for c in drawn],
                    "shapes": sorted({c.kind for c in drawn}, key=lambda k: KINDS.index(k) if k in KINDS else 9),
                }
            )
    return out


def _curve_title(curve: aggregate.Curve) -> str:
    return words.short(f"{curve.title}, by {curve.knob}" if curve.knob and len(curve.points) > 1 else curve.title, 70)


def _plot(
    drawn: Sequence[aggregate.Curve],
    look: Mapping[str, Style],
    group: Group,
    column: tables.Column,
    label: Mapping[str, Label],
    faded: set[str],
    bounds: Sequence[float | None],
    width: int,
    height: int,
    suffix: str,
    axis: tuple[str, str] = ("bits per pixel", "bit/px"),
) -> Any:
    """axis: what the curves stand against, and its unit."""
    unit = f" ({column.unit})" if column.unit else ""
    better = next((b for b, d in words.DIRECTIONS.items() if d == column.direction), None)
    return rd_plot(
        drawn,
        dict(look),
        ident=f"p-{group.ident}-{words.anchor(column.metric)}-{suffix}",
        title=f"{column.title} against {'rate' if axis[1] == 'bit/px' else axis[0]}: {group.task_title}, {group.where}",
        y_title=f"{words.short(column.title, 44)}{unit} {column.arrow}".strip(),
        better=better,
        labels={key: told.full for key, told in label.items()},
        hrefs={key: told.href for key, told in label.items()},
        width=width,
        height=height,
        x_title=axis[0] if axis[1] == "bit/px" else f"{axis[0]}, {axis[1]}",
        x_unit=axis[1],
        faded=faded,
        bounds=(bounds[0], bounds[1]) if len(bounds) == 2 else (None, None),
    )


def headlines(sections: Sequence[Mapping[str, Any]]) -> list[Table]:
    """One table a kind: systems down, the deciding metric of every group across; cells lead to their runs."""
    used: list[Mapping[str, Any]] = []
    for section in sections:
        # Two tasks may ask the same thing of the same pictures (compression repeats PSNR): it is said once.
        asked = (section["group"].key[2:5], section["by"])
        if section["by"] and asked not in [(s["group"].key[2:5], s["by"]) for s in used]:
            used.append(section)
    used = used[:HEADLINES]
    out = []
    present = {kind(r) for s in used for r in s["group"].runs}
    for name in sorted(present, key=lambda k: (KINDS.index(k) if k in KINDS else 9, k)):
        ident = f"glance-{words.anchor(name)}"
        notes = words.Notes(ident)
        tabled = [(s, t) for s in used if (t := next((t for t in s["tables"] if t.kind == name), None)) is not None]
        shown = [(section, section["by"]) for section, _ in tabled]
        if tabled:
            # With few tasks there is room for more of what the first one measures.
            first = tabled[0][0]
            more = [m for m in first["quality"] if m != first["by"]]
            shown[1:1] = [(first, m) for m in more[: max(0, HEADLINES // 2 - len(shown))]]
        columns = [
            replace(tables.column(s["group"].runs, m, s["group"]), where=s["group"].where, href=f"#{s['group'].ident}")
            for s, m in shown
        ]
        lines: dict[tuple[str, Any], dict[int, tuple[Table, Row, Run]]] = {}
        for section, table in tabled:
            for row in table.rows:
                run = next(r for r in section["group"].runs if identity(r) == row.curve)
                lines.setdefault((system(run), run.info.get("limit")), {})[id(section)] = (table, row, run)
        made: list[Row] = []
        for parts in lines.values():
            _, top, _ = next(iter(parts.values()))
            found = [row.rate for _, row, _ in parts.values() if row.rate is not None]
            rated = next((cell for cell in found if cell.sort is not None), found[0] if found else None)
            cells = []
            for section, metric in shown:
                if id(section) not in parts:
                    cells.append(Cell("", title="this system was not run here"))
                    continue
                table, row, run = parts[id(section)]
                at = next((i for i, c in enumerate(table.columns) if c.metric == metric), None)
                cell = tables.score_cell(run, metric, 2, notes) if at is None else _renoted(row.cells[at], notes)
                cell.href = row.label.href
                cells.append(cell)
            ranked = any(row.ranked for _, row, _ in parts.values())
            grey = top.grey and not ranked
            why = None if ranked else top.why
            rate = _renoted(rated, notes) if rated is not None else None
            made.append(replace(top, rate=rate, cells=cells, ranked=ranked, why=why, grey=grey))
        table = Table(name, columns, made, notes)
        out.append(table)
    return out


def _renoted(cell: Cell, notes: words.Notes) -> Cell:
    """A copy of a cell for another table, its remark among that table's notes."""
    note = notes.add(cell.title) if cell.note and cell.title else None
    warning = notes.add(cell.title) if cell.warning and cell.title else None
    return replace(cell, note=note, warning=warning)


def savings(sections: Sequence[Mapping[str, Any]], look: Mapping[str, Style]) -> list[dict[str, Any]]:
    """BD-rate tables of the groups that hold a codec's curve to measure against, once for the same pictures."""
    out = []
    seen: set[tuple[Any, ...]] = set()
    for section in sections:
        by, group = section["by"], section["group"]
        if not section["curves"] or (group.key[2:5], by) in seen:
            continue
        seen.add((group.key[2:5], by))
        found = aggregate.bd_table(section["curves"], by, str(tables.card(group.runs, by).get("better")))
        # Where no other system has a curve, the table would be a list of excuses.
        if found and found.several:
            title = tables.column(group.runs, by, None).title
            shown = [(swatch(look[line.curve.key]), line) for line in found.lines]
            out.append({"group": group, "table": found, "title": title, "lines": shown})
    return out


def metric_cards(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every metric card that a run carries, once a version."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        for name, facts in part(run, "metrics").items():
            if isinstance(facts, Mapping):
                found.setdefault((str(name), str(facts.get("version"))), {"name": str(name), **facts})
    return [found[key] for key in sorted(found)]


def protocols(runs: Sequence[Run]) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in runs:
        view, suite = part(run, "view"), part(run, "suite")
        key = (str(suite.get("name")), str(suite.get("hash")), str(view.get("name")), str(view.get("fingerprint")))
        found.setdefault(
            key, {"suite": suite, "view": view, "protocol": view.get("protocol") or run.info.get("protocol")}
        )
    return [found[key] for key in sorted(found)]


def shots_of(run: Run, rooms: Sequence[gallery.Room]) -> list[tuple[gallery.Exhibit, gallery.Shot]]:
    """The samples of a run's system on this run's images."""
    suite, view = part(run, "suite").get("name", ""), part(run, "view").get("name", "")
    return [
        (exhibit, shot)
        for room in rooms
        if room.suite == suite and room.view == view
        for exhibit in room.exhibits
        for shot in exhibit.shots
        if system(shot.run) == system(run)
    ]
