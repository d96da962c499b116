"""Versions of metrics: another version is another number, and two of them never stand in one column."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from vtbench.reporting.measured import newest_version
from vtbench.reporting.runs import identity, question
from vtbench.results.record import Run, Score


def _newest(runs: Sequence[Run]) -> list[dict[str, int]]:
    """For each run the version of every metric that counts among the runs of its question."""
    by_question: dict[object, list[Run]] = {}
    for run in runs:
        by_question.setdefault(question(run), []).append(run)
    newest = {}
    for asked, members in by_question.items():
        names = {s.metric for run in members for s in run.scores}
        newest[asked] = {name: newest_version(members, name) for name in names}
    return [newest[question(run)] for run in runs]


def older_metrics(runs: Sequence[Run]) -> dict[str, set[str]]:
    """Metrics by run id that the run has in an older version than counts among the runs of its question."""
    return {
        identity(run): {s.metric for s in run.scores if s.version != newest[s.metric]}
        for run, newest in zip(runs, _newest(runs), strict=True)
    }


def of_newest(runs: Sequence[Run]) -> list[Run]:
    """The same runs, each metric in one version only among the runs of one question: the newest that any of them has a
    value of. Where a run has an older one, its score has no value and says why."""
    return [_of(run, newest) for run, newest in zip(runs, _newest(runs), strict=True)]


def _of(run: Run, newest: Mapping[str, int]) -> Run:
    scores = tuple(_without(s, newest[s.metric]) for s in run.scores)
    return run if scores == run.scores else dataclasses.replace(run, scores=scores)


def _without(score: Score, newest: int) -> Score:
    if score.version == newest or score.value is None:
        return score
    why = f"{score.value:.5g} by version {score.version} of this metric, so not compared with version {newest}"
    return score.model_copy(update={"value": None, "low": None, "high": None, "details": {}, "why": why})
