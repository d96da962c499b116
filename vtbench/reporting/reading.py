"""Runs for a report, from wherever they lie: each once, in an order of their content, the bad ones named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtbench.reporting.runs import (
    curve_key,
    family,
    identity,
    is_complete,
    kind,
    kind_order,
    knob,
    question,
    section,
    system,
)
from vtbench.reporting.values import finite
from vtbench.results.record import Run, find_runs, read_run
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading

DAMAGED = "it is damaged, or no result of vtbench"


def read_runs(paths: Sequence[Path], left_out: dict[Path, str] | None = None) -> list[Run]:
    """Every run at or below `paths`, each id once (the complete one of two copies), in an order of their content.

    left_out: where it is given, a run that cannot be read is noted there with the reason in place of an error, and
    those that it names are not read.
    """
    best: dict[str, tuple[tuple[Any, ...], Run]] = {}
    order: dict[str, tuple[Any, ...]] = {}
    for path in find_runs([Path(p) for p in paths]):
        if left_out is not None and path in left_out:
            continue
        try:
            with reading(path, "a run", DAMAGED):
                run = _whole(path)
                progress, place = _progress(run), _order(run)
        except VtbenchError as bad:
            if left_out is None:
                raise
            left_out[path] = str(bad)
            continue
        kept = best.get(identity(run))
        if kept is None or (progress, _content(run)) > (kept[0], _content(kept[1])):
            best[identity(run)], order[identity(run)] = (progress, run), place
    return sorted((run for _, run in best.values()), key=lambda run: order[identity(run)])


def _whole(path: Path) -> Run:
    """The run, if its record names all that a report calls it by."""
    run = read_run(path)
    lacking = [f"{name}.name" for name in ("model", "task", "suite", "view") if not section(run, name).get("name")]
    lacking += [] if identity(run) else ["id"]
    if lacking:
        raise VtbenchError(f"{path / 'run.json'} states no {lacking[0]}, so it is no whole record: run it again")
    return run


def _progress(run: Run) -> tuple[Any, ...]:
    """Of two copies of one answer, the one that got further, or was renewed."""
    versions = sum(s.version for s in run.scores if s.value is not None)
    return (is_complete(run), len(run.scores), versions)


def _content(run: Run) -> str:
    """Breaks a tie of two copies by content alone."""
    return json.dumps([run.info, run.scores], sort_keys=True, default=str)


def _order(run: Run) -> tuple[Any, ...]:
    """Sorts by kind, family, curve, knob, question, id: never by where the files lie."""
    setting = knob(run)[1]
    number = finite(setting)
    return (
        kind_order(kind(run)),
        str(family(run) or ""),
        curve_key(run),
        (0, number, "") if number is not None else (1, 0.0, str(setting)),
        system(run),
        question(run),
        identity(run),
    )
