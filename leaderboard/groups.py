"""Runs that may be compared: one task on one suite in one view, and what they say together of a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vtbench.leaderboard.words import ARROWS, anchor, short
from vtbench.reporting.measured import RATE_UNITS, metric_card, scores, value
from vtbench.reporting.readers import REDUCERS, reader_name
from vtbench.reporting.runs import Question, kind, protocol, question, suite_images, suite_name, task_title, view_name
from vtbench.reporting.values import finite
from vtbench.results.record import Run
from vtbench.types.metric import MetricCard

TASK_ORDER = ("reconstruction", "detail", "text", "compression", "generation", "written", "understanding")
"""How the page is read; tasks that are not named here follow by name."""


@dataclass(frozen=True)
class Group:
    """The runs of one question. `images`: how many the suite has, None where the records do not say."""

    question: Question
    ident: str
    """Fragment of its section on the page."""
    task_title: str
    suite: str
    view: str
    protocol: str
    images: int | None
    runs: Sequence[Run]
    _cards: dict[str, MetricCard | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    columns: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Metrics as columns, as they were asked for (cells.column)."""

    @property
    def where(self) -> str:
        return f"{self.suite}, {self.view}"

    def card(self, metric: str) -> MetricCard | None:
        """The metric's card, the newest that a run states; None for a cost, which has no card."""
        if metric not in self._cards:
            self._cards[metric] = self._newest_card(metric)
        return self._cards[metric]

    def _newest_card(self, metric: str) -> MetricCard | None:
        cards = [card for run in self.runs if (card := metric_card(run, metric))]
        return max(cards, key=lambda card: finite(card.version) or 0.0) if cards else None

    def metrics(self) -> list[str]:
        """Names of the metrics in the order in which the task lists them."""
        return list(dict.fromkeys(score.metric for run in self.runs for score in scores(run)))

    def primary_metric(self) -> str | None:
        """The task's first metric with a better end that some run has a value for; quality before price."""
        candidates: list[tuple[bool, int, str]] = []
        for name in self.metrics():
            card = self.card(name)
            if card is None or card.better not in ARROWS or card.convention_of:
                continue
            if any(value(run, name) is not None for run in self.runs):
                candidates.append((is_price(card), len(candidates), name))
        return min(candidates)[2] if candidates else None


def is_price(card: MetricCard | None) -> bool:
    """Whether a metric says what is paid (bits, tokens) rather than what is got for it."""
    return card is not None and card.unit in RATE_UNITS


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """The groups in the order of the page: TASK_ORDER, the newest version of a task first, then by suite."""
    by_question: dict[Question, list[Run]] = {}
    for run in runs:
        by_question.setdefault(question(run), []).append(run)

    def order(asked: Question) -> tuple[Any, ...]:
        place = TASK_ORDER.index(asked.task) if asked.task in TASK_ORDER else len(TASK_ORDER)
        return (place, asked.task, -asked.task_version, suite_name(by_question[asked][0]), asked)

    hashes: dict[str, set[str]] = {}
    for asked, members in by_question.items():
        hashes.setdefault(suite_name(members[0]), set()).add(asked.suite)
    return [
        _group(asked, by_question[asked], len(hashes[suite_name(by_question[asked][0])]) > 1)
        for asked in sorted(by_question, key=order)
    ]


def _group(asked: Question, members: Sequence[Run], namesakes: bool) -> Group:
    """namesakes: other pictures are called so too, which are told apart by their hash."""
    first = members[0]
    names = f"{asked.task} {suite_name(first)} {asked.view} v{asked.task_version}"
    return Group(
        question=asked,
        ident=anchor(f"{names} {asked.suite[:6]} {asked.fingerprint[:6]} {asked.fit} {asked.reader[:6]}".rstrip()),
        task_title=short(task_title(first), 80),
        suite=short(suite_name(first), 80) + (f" ({asked.suite[:6]})" if namesakes else "") + _by(first),
        view=short(view_name(first), 40),
        protocol=short(protocol(first) or "", 40),
        images=suite_images(first),
        runs=members,
    )


def _by(run: Run) -> str:
    """Which model reads the pictures, where the question says so."""
    name = reader_name(run)
    what = "" if kind(run) in REDUCERS else "reconstructions "
    return f", {what}read by {short(name, 60)}" if name else ""
