"""Scores of a run whose metric has another version here: another version is another number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from vtbench.results.record import Run


class Stale(NamedTuple):
    """The version of a metric that a run has a value of, and the one that is installed here."""

    measured: int
    installed: int


def stale_metrics(run: Run, version_here: Callable[[str], int | None]) -> dict[str, Stale]:
    """Metrics that the run has a value of and whose version here is another one; those that are not here are left
    out. version_here: `registry.metric_version`."""
    out = {}
    for score in run.scores:
        if score.value is None or not isinstance(run.info.metrics.get(score.metric), Mapping):
            continue
        installed = version_here(score.metric)
        if installed is not None and installed != score.version:
            out[score.metric] = Stale(score.version, installed)
    return out
