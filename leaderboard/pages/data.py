"""Everything on the pages as files: scores.csv, scores.json, runs.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from vtbench.leaderboard.page import File, Page, Site, as_json
from vtbench.reporting import table
from vtbench.reporting.runs import record
from vtbench.results.record import Run


def pages(site: Site) -> list[Page | File]:
    if not site.runs:
        return []
    return [
        File("data/scores.csv", lambda: scores_csv(site.runs)),
        File("data/scores.json", lambda: as_json(table.records(site.runs))),
        File("data/runs.json", lambda: as_json([record(run) for run in site.runs])),
    ]


def scores_csv(runs: Sequence[Run]) -> bytes:
    """Every value, one line a run and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.COLUMNS)
    writer.writerows([csv_cell(line[name]) for name in table.COLUMNS] for line in table.records(runs))
    return text.getvalue().encode()


def csv_cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a quote in front (OWASP, CSV injection)."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
