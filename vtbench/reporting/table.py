"""Scores as a table: one line per run and metric."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.reporting import runs as facts
from vtbench.reporting.measured import scores
from vtbench.results.record import Run

if TYPE_CHECKING:
    import pandas as pd

OF_RUN: Mapping[str, Callable[[Run], Any]] = {
    "run": facts.identity,
    "model": facts.model_name,
    "title": facts.model_title,
    "family": facts.family,
    "kind": facts.kind,
    "options": lambda run: json.dumps(facts.options(run), sort_keys=True, default=str),
    "curve": facts.curve_key,
    "knob": lambda run: facts.knob(run)[0],
    "knob_value": lambda run: facts.knob(run)[1],
    "task": facts.task_name,
    "task_version": facts.task_version,
    "suite": facts.suite_name,
    "suite_hash": facts.suite_hash,
    "images": facts.suite_images,
    "view": facts.view_name,
    "protocol": facts.protocol,
    "fingerprint": facts.view_fingerprint,
}
"""Columns that come before the score's."""
OF_SCORE = {
    "metric": "metric",
    "metric_version": "version",
    "unit": "unit",
    "better": "better",
    "value": "value",
    "low": "low",
    "high": "high",
    "n": "n",
    "missing": "missing",
    "why": "why",
    "warning": "warning",
}
"""Columns of a score -> attributes of the score."""
OF_CIRCUMSTANCES: Mapping[str, Callable[[Run], Any]] = {
    "status": facts.status,
    "ranked": facts.is_ranked,
    "why_not_ranked": facts.why_not_ranked,
    "limit": facts.limit,
    "weights": lambda run: facts.weights(run).status,
    "dtype": facts.dtype,
    "device": lambda run: facts.device(run).kind,
    "seed": facts.seed,
    "vtbench": facts.vtbench_version,
}
"""Columns that come after the score's."""
COLUMNS = (*OF_RUN, *OF_SCORE, *OF_CIRCUMSTANCES)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet runs."""


def records(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One flat record per run and metric, keys as in COLUMNS; missing is None and `why`."""
    out: list[dict[str, Any]] = []
    for run in runs:
        before = {name: of(run) for name, of in OF_RUN.items()}
        after = {name: of(run) for name, of in OF_CIRCUMSTANCES.items()}
        for score in scores(run):
            out.append({**before, **{name: getattr(score, at) for name, at in OF_SCORE.items()}, **after})
    return out


def scores_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One line per run and metric, columns as in COLUMNS; `value`, `low` and `high` are float64 (missing: NaN there
    only, since that is how pandas says missing; files get null)."""
    import pandas as pd

    table = pd.DataFrame(records(runs), columns=list(COLUMNS))
    for name in ("value", "low", "high"):
        table[name] = table[name].astype("float64")
    return table


def scores_csv(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Every value, one line a run and metric. lines: as `records` gives them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(*(_csv_cells(column(lines, name)) for name in COLUMNS), strict=True))
    return text.getvalue().encode()


def column(lines: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """One of COLUMNS of every line."""
    return list(map(operator.itemgetter(name), lines))


def _csv_cells(values: list[Any]) -> list[Any]:
    """Text that a spreadsheet would run as a formula gets a quote in front (OWASP, CSV injection)."""
    with contextlib.suppress(TypeError):  # an object or a list has no hash
        if not any(isinstance(value, str) and value.startswith(FORMULAS) for value in set(values)):
            return values
    return [f"'{v}" if isinstance(v, str) and v.startswith(FORMULAS) else v for v in values]
