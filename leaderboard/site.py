"""The site: what is on which page, written beside its place and swapped in as a whole."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

from vtbench import aggregate
from vtbench.aggregate import KINDS, RATE, RowValues, curves, identity, is_ranked, kind, pareto, part, system
from vtbench.errors import VtbenchError
from vtbench.leaderboard import gallery, runpage, tables, words
from vtbench.leaderboard.plot import Style, rd_plot, styles, swatch
from vtbench.leaderboard.tables import Cell, Group, Label, Row, Table
from vtbench.metrics.bd import MIN_POINTS
from vtbench.results import Run, disk_error

HERE = Path(__file__).resolve().parent
MARKER = "vtbench-site.json"
"""Its presence says that a folder is a site of ours and may be replaced."""
SITE_SCHEMA = 1
HEADLINES = 8
"""Columns of the first table; every group has a table of its own below."""


def write_site(runs: Sequence[Path], out: Path) -> Path:
    """Builds in a new folder beside `out`, then swaps; a failure leaves the old site as it was."""
    out = out.resolve()
    check_replaceable(out)
    found = aggregate.read(runs)
    files = site_files(found)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))
    except OSError as bad:
        raise disk_error(bad, out) from bad
    old: Path | None = None
    try:
        for name, data in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        mask = os.umask(0)
        os.umask(mask)
        fresh.chmod(0o777 & ~mask)
        check_replaceable(out)
        if out.exists():
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old-"))
            out.rename(old / "site")
        try:
            fresh.rename(out)
        except OSError:
            if old is not None:
                (old / "site").rename(out)
            raise
    except OSError as bad:
        raise disk_error(bad, out) from bad
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    return out / "index.html"


def check_replaceable(out: Path) -> None:
    """Refuses to touch anything that is neither absent, nor empty, nor a site of vtbench."""
    if not out.exists():
        return
    if not out.is_dir():
        raise VtbenchError(f"{out} is a file, not a folder: choose another --out for the page")
    if not any(out.iterdir()):
        return
    try:
        mark = json.loads((out / MARKER).read_text())
    except (OSError, ValueError):
        mark = None
    if not isinstance(mark, dict) or mark.get("vtbench") != "site":
        raise VtbenchError(
            f"{out} holds files but is not a page of vtbench (no {MARKER}), so it is left alone: choose another --out"
        )


def environment() -> jinja2.Environment:
    """Everything is escaped unless it was made by us as Markup; an unknown name is an error, never an empty string."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(KIND_TITLES=words.KIND_TITLES, KIND_WORDS=words.KIND_WORDS, RATE=RATE, identity=identity)
    env.filters.update(number=words.number, short=words.short, seconds=words.seconds, anchor=words.anchor)
    return env


def site_files(runs: Sequence[Run]) -> dict[str, bytes]:
    """Every file of the site by its path: a function of the runs' contents alone, without a clock."""
    hrefs = {identity(r): f"runs/{words.slug(r.name, identity(r))}.html" for r in runs}
    label = tables.labels(runs, hrefs)
    rows = RowValues()
    groups = tables.groups(runs)
    look = styles(_all_curves(runs))
    store = gallery.Store()
    rooms = gallery.rooms(runs, store)
    banner = _shared_reason(runs)
    sections: list[dict[str, Any]] = []
    drawn: set[tuple[Any, ...]] = set()
    for group in groups:
        section = _section(group, label, rows, runs, look, banner)
        # A plot of one metric on the same pictures is drawn for the first task that has it.
        section["plots"] = [p for p in section["plots"] if (group.key[2:5], p["metric"]) not in drawn]
        drawn |= {(group.key[2:5], p["metric"]) for p in section["plots"]}
        sections.append(section)
    env = environment()
    swatches = {identity(r): swatch(look[aggregate.curve_key(r)]) for r in runs}
    common: dict[str, Any] = {
        "label": label,
        "swatches": swatches,
        "banner": banner,
        "rooms": rooms,
        "versions": sorted({v for r in runs if (v := aggregate.made_by(r))}),
    }
    files: dict[str, bytes] = {}

    def page(name: str, template: str, **more: Any) -> None:
        root = "../" * name.count("/")
        files[name] = env.get_template(template).render(root=root, here=name, **common, **more).encode()

    page(
        "index.html",
        "index.html.j2",
        stats=_stats(runs, groups),
        sections=sections,
        headlines=_headlines(sections),
        hero=next((s for s in sections if s["plots"]), None),
        bd=_bd(sections, look),
        teasers=[(room, room.exhibits[0]) for room in rooms],
    )
    page("gallery.html", "gallery.html.j2")
    page("methods.html", "methods.html.j2", cards=_cards(runs), protocols=_protocols(runs))
    siblings: dict[str, list[Run]] = {}
    for run in runs:
        siblings.setdefault(system(run), []).append(run)
    for run in runs:
        kin = [r for r in siblings[system(run)] if r is not run]
        facts = runpage.facts(run, label[identity(run)], kin, label)
        page(hrefs[identity(run)], "run.html.j2", **facts, shots=_shots(run, rooms))
    files.update(store.files)
    files.update(_data(runs))
    for asset in sorted((HERE / "assets").iterdir()):
        if asset.suffix in (".css", ".js"):
            files[f"assets/{asset.name}"] = asset.read_bytes()
    files[MARKER] = _json({"vtbench": "site", "schema": SITE_SCHEMA, "runs": [identity(r) for r in runs]})
    return files


def _all_curves(runs: Sequence[Run]) -> list[aggregate.Curve]:
    """One entry a curve key, in page order, so that a system has one colour everywhere."""
    found: dict[str, Run] = {}
    for run in runs:
        found.setdefault(aggregate.curve_key(run), run)
    return [aggregate.Curve(key, run.name, kind(run)) for key, run in found.items()]


def _shared_reason(runs: Sequence[Run]) -> str | None:
    """The reason that keeps every single run from being ranked: said once on top instead of on every line."""
    if not runs or any(is_ranked(r) for r in runs):
        return None
    reasons = [set(str(aggregate.why_not_ranked(r)).split("; ")) for r in runs]
    shared = set.intersection(*reasons)
    return "; ".join(sorted(shared)) or None


def _stats(runs: Sequence[Run], groups: Sequence[Group]) -> list[tuple[str, str]]:
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


def _section(
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
        plots.append(
            {
                "metric": metric,
                "title": f"{column.title}{f' ({column.unit})' if column.unit else ''}",
                "arrow": column.arrow,
                "direction": column.direction,
                "legend": [(swatch(look[c.key]), _curve_title(c), len(c.points)) for c in drawn],
                "large": _plot(drawn, look, group, column, label, faded, 860, 470, "l"),
                "small": _plot(drawn, look, group, column, label, faded, 400, 330, "s"),
                "shapes": sorted({c.kind for c in drawn}, key=lambda k: KINDS.index(k) if k in KINDS else 9),
            }
        )
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


def _curve_title(curve: aggregate.Curve) -> str:
    return words.short(f"{curve.title}, by {curve.knob}" if curve.knob and len(curve.points) > 1 else curve.title, 70)


def _plot(
    drawn: Sequence[aggregate.Curve],
    look: Mapping[str, Style],
    group: Group,
    column: tables.Column,
    label: Mapping[str, Label],
    faded: set[str],
    width: int,
    height: int,
    suffix: str,
) -> Any:
    unit = f" ({column.unit})" if column.unit else ""
    better = next((b for b, d in words.DIRECTIONS.items() if d == column.direction), None)
    return rd_plot(
        drawn,
        dict(look),
        ident=f"p-{group.ident}-{words.anchor(column.metric)}-{suffix}",
        title=f"{column.title} against rate: {group.task_title}, {group.where}",
        y_title=f"{column.title}{unit} {column.arrow}".strip(),
        better=better,
        labels={key: told.full for key, told in label.items()},
        hrefs={key: told.href for key, told in label.items()},
        width=width,
        height=height,
        x_title="bits per pixel (log scale)" if width > 500 else "bits per pixel (log)",
        faded=faded,
    )


def _headlines(sections: Sequence[Mapping[str, Any]]) -> list[Table]:
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
            rated = next((row.cells[0] for _, row, _ in parts.values() if row.cells[0].sort is not None), top.cells[0])
            cells = [_renoted(rated, notes)]
            for section, metric in shown:
                if id(section) not in parts:
                    cells.append(Cell("", title="this system was not run here"))
                    continue
                table, row, run = parts[id(section)]
                at = next((i for i, c in enumerate(table.columns) if c.metric == metric), None)
                cell = tables.score_cell(run, metric, 2, notes) if at is None else _renoted(row.cells[at + 1], notes)
                cell.href = row.label.href
                cells.append(cell)
            ranked = any(row.ranked for _, row, _ in parts.values())
            grey = top.grey and not ranked
            made.append(replace(top, cells=cells, ranked=ranked, why=None if ranked else top.why, grey=grey))
        table = Table(name, columns, made, notes)
        out.append(table)
    return out


def _renoted(cell: Cell, notes: words.Notes) -> Cell:
    """A copy of a cell for another table, its remark among that table's notes."""
    note = notes.add(cell.title) if cell.note and cell.title else None
    warning = notes.add(cell.title) if cell.warning and cell.title else None
    return replace(cell, note=note, warning=warning)


def _bd(sections: Sequence[Mapping[str, Any]], look: Mapping[str, Style]) -> list[dict[str, Any]]:
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
        if found and any(len(line.curve.points) >= MIN_POINTS for line in found.lines):
            title = tables.column(group.runs, by, None).title
            shown = [(swatch(look[line.curve.key]), line) for line in found.lines]
            out.append({"group": group, "table": found, "title": title, "lines": shown})
    return out


def _cards(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every metric card that a run carries, once a version."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        for name, facts in part(run, "metrics").items():
            if isinstance(facts, Mapping):
                found.setdefault((str(name), str(facts.get("version"))), {"name": str(name), **facts})
    return [found[key] for key in sorted(found)]


def _protocols(runs: Sequence[Run]) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in runs:
        view, suite = part(run, "view"), part(run, "suite")
        key = (str(suite.get("name")), str(suite.get("hash")), str(view.get("name")), str(view.get("fingerprint")))
        found.setdefault(
            key, {"suite": suite, "view": view, "protocol": view.get("protocol") or run.info.get("protocol")}
        )
    return [found[key] for key in sorted(found)]


def _shots(run: Run, rooms: Sequence[gallery.Room]) -> list[tuple[gallery.Exhibit, gallery.Shot]]:
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


def _clean(value: Any) -> Any:
    """JSON-ready: a NaN or an infinity that somebody's file holds becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(value: Any) -> bytes:
    return (json.dumps(_clean(value), ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n").encode()


def _csv_cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a quote in front (OWASP, CSV injection)."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _data(runs: Sequence[Run]) -> dict[str, bytes]:
    """Everything on the page as files: scores.csv, scores.json, runs.json."""
    records = aggregate.records(runs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(aggregate.COLUMNS)
    writer.writerows([_csv_cell(record[name]) for name in aggregate.COLUMNS] for record in records)
    return {
        "data/scores.csv": text.getvalue().encode(),
        "data/scores.json": _json(records),
        "data/runs.json": _json([dict(run.info) for run in runs]),
    }
