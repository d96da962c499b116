"""data.html: everything on the pages as files, what became of the results over time, and how to cite them."""

from __future__ import annotations

import importlib.util
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from vtbench.leaderboard.addresses import model_address
from vtbench.leaderboard.page import File, Page, Site, as_json
from vtbench.leaderboard.words import short
from vtbench.reporting import runs as records
from vtbench.reporting import table
from vtbench.reporting.measured import metric_card
from vtbench.reporting.runs import identity
from vtbench.reporting.versions import older_metrics
from vtbench.results.record import Run

NUMBERS = ("value", "low", "high")
WHOLE = ("task_version", "images", "metric_version", "n", "missing", "limit", "seed")


def pages(site: Site) -> list[Page | File]:
    out: list[Page | File] = [Page("data.html", "data.html.j2", partial(_facts, site))]
    if site.runs:
        # The same lines in three files.
        lines = cache(lambda: table.records(site.runs))
        out += [
            File("data/scores.csv", lambda: table.scores_csv(lines())),
            File("data/scores.json", lambda: as_json(lines())),
            File("data/runs.json", lambda: as_json([records.record(run) for run in site.runs])),
        ]
        if has_parquet():
            out.append(File("data/scores.parquet", lambda: scores_parquet(lines())))
    return out


def has_parquet() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def _facts(site: Site) -> dict[str, Any]:
    """What templates/data.html.j2 shows."""
    return {
        "runs": len(site.runs),
        "parquet": has_parquet(),
        "columns": table.COLUMNS,
        "days": changelog(site.runs),
        "superseded": superseded(site.runs),
        "release": sorted({version for run in site.runs if (version := records.vtbench_version(run))}),
    }


@dataclass(frozen=True)
class Entry:
    """Runs of one model that were finished on one day. `tasks`: with how many runs of each."""

    title: str
    href: str
    tasks: str
    versions: str
    unranked: int


def changelog(runs: Sequence[Run]) -> list[tuple[str, list[Entry]]]:
    """Results by the day on which their run was finished, the newest first; without one they come last."""
    by_day: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        day = short(str(records.provenance(run).finished or "")[:10], 10)
        by_day.setdefault(day, {}).setdefault(records.model_name(run), []).append(run)
    return [
        (day or "day not stated", [_entry(by_day[day][name]) for name in sorted(by_day[day])])
        for day in sorted(by_day, reverse=True)
    ]


def _entry(runs: Sequence[Run]) -> Entry:
    tasks = Counter(short(f"{records.task_title(run)} on {records.suite_name(run)}", 120) for run in runs)
    return Entry(
        short(records.model_title(runs[0]), 120),
        model_address(records.model_name(runs[0])),
        "; ".join(f"{task} ({n})" if n > 1 else task for task, n in sorted(tasks.items())),
        short(", ".join(sorted({str(records.vtbench_version(run) or "not stated") for run in runs})), 80),
        sum(not records.is_ranked(run) for run in runs),
    )


def superseded(runs: Sequence[Run]) -> list[tuple[str, int, str]]:
    """(metric, how many runs hold an older version of it than counts, those versions), by metric."""
    older = older_metrics(runs)
    seen: dict[str, list[Any]] = {}
    for run in runs:
        for metric in older[identity(run)]:
            card = metric_card(run, metric)
            stated = run.score(metric)
            seen.setdefault(metric, []).append(stated.version if stated else card and card.version)
    return [(short(name, 60), len(of), ", ".join(sorted({str(v) for v in of}))) for name, of in sorted(seen.items())]


def scores_parquet(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """The same as a table of pyarrow's: numbers as float64 and int64, missing as null, all else as text. A damaged
    record's whole number beyond 64 bits is null here and stands in scores.csv."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name in table.COLUMNS:
        values = table.column(lines, name)
        if name in NUMBERS:
            columns[name] = pa.array([None if v is None else float(v) for v in values], pa.float64())
        elif name in WHOLE:
            columns[name] = pa.array([_int64(v) for v in values], pa.int64())
        elif name == "ranked":
            columns[name] = pa.array([bool(v) for v in values], pa.bool_())
        else:
            columns[name] = _texts(values)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _int64(value: Any) -> int | None:
    return None if value is None or not -(2**63) <= int(value) < 2**63 else int(value)


def _texts(values: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except (TypeError, UnicodeError):
        # Some value is no text, or no valid UTF-8.
        return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _text(value: Any) -> str:
    """Valid UTF-8, whatever a record holds."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode(errors="replace").decode()
