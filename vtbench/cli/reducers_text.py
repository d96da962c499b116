"""Runs of reducers as one table: a line a method and count, draws of the random tokens as mean and spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.cli.tables import table

if TYPE_CHECKING:
    from vtbench.results.record import Run

COLUMNS = {
    "tokens": "visual-tokens",
    "cosine": "centred-cosine",
    "coverage": "coverage",
    "dense": "dense-correlation",
    "agree": "agreement",
    "kl": "kl",
    "accuracy": "accuracy",
    "retained %": "retained",
    "5-NN full": "knn-transfer",
    "5-NN own": "knn-refit",
    "answers": "answer-agreement",
}
"""What is shown of each, by its metric; columns without any value are left out, and --json holds everything."""
DRAW = "draw"


def reducers(runs: Sequence[Run]) -> str | None:
    """The table of several runs of reducers on one model; None for any others."""
    if len(runs) < 2 or any(run.info.model.kind != "reducer" for run in runs):
        return None
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        options = {k: v for k, v in run.info.model.options.items() if k != DRAW}
        groups.setdefault((run.name, *sorted((k, str(v)) for k, v in options.items())), []).append(run)
    metrics = {head: name for head, name in COLUMNS.items() if any(_values(group, name) for group in groups.values())}
    lines = [
        [_name(group[0]), *(_shown(_values(group, name), len(group)) for name in metrics.values())]
        for group in groups.values()
    ]
    info = runs[0].info
    tower = info.model.as_dict().get("tower") or {}
    head = (
        f"{info.task.name} on {info.suite.name} · {info.n} images · {tower.get('name')}, {tower.get('tokens')} tokens"
    )
    said = [*dict.fromkeys(note for run in runs for note in [*run.info.suite.notes, *run.info.notes])]
    draws = max(map(len, groups.values()))
    if draws > 1:
        said.append(f"random: mean ± standard deviation of {draws} draws")
    why = next((s.why for run in runs for s in run.scores if s.metric == "centred-cosine" and s.why), None)
    return "\n".join([table(["reducer", *metrics], lines, head), *said, *([f"cosine —: {why}"] if why else [])])


def _name(run: Run) -> str:
    options = dict(run.info.model.options)
    stage, block = options.get("stage"), options.get("block")
    where = "" if stage in ("tower", "input") else f", {stage}" + (f" {block}" if block is not None else "")
    return run.name if options.get("keep") is None else f"{run.name} {options['keep']}{where}"


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    scores = [run.score(metric) for run in runs]
    return [score.value for score in scores if score is not None and score.value is not None]


def _shown(values: Sequence[float], of: int) -> str:
    """The value; of several draws mean and standard deviation; a dash where one is missing."""
    if not values or len(values) < of:
        return "—"
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4g}"
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return f"{mean:.4g} ± {spread:.2g}"
