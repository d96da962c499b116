"""What the pages say of all runs together: counts, the cards of metrics, images and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vtbench.leaderboard import words
from vtbench.leaderboard.groups import Group
from vtbench.reporting.measured import metric_cards
from vtbench.reporting.runs import (
    is_ranked,
    model_name,
    protocol,
    suite_hash,
    suite_images,
    suite_name,
    system,
    view_fingerprint,
    view_name,
    why_not_ranked,
)
from vtbench.reporting.values import finite
from vtbench.results.record import Run
from vtbench.types.metric import MetricCard


def shared_reason(runs: Sequence[Run]) -> str | None:
    """The reason that keeps every single run from being ranked: said once on top instead of on every line."""
    if not runs or any(is_ranked(run) for run in runs):
        return None
    reasons = [set(str(why_not_ranked(run)).split("; ")) for run in runs]
    return "; ".join(sorted(set.intersection(*reasons))) or None


def counts(runs: Sequence[Run], groups: Sequence[Group]) -> list[tuple[str, str]]:
    """(number, what is counted) of the line at the top of the page."""
    suites = {group.question.suite: group.images or 0 for group in groups}
    ranked = sum(is_ranked(run) for run in runs)

    def count(n: int, word: str) -> tuple[str, str]:
        return words.number(float(n), 0), word if n == 1 else f"{word}s"

    return [
        count(len({model_name(run) for run in runs}), "system"),
        count(len({system(run) for run in runs}), "operating point"),
        count(len({group.question.task for group in groups}), "task"),
        count(sum(suites.values()), "image"),
        (f"{ranked} of {len(runs)}", "runs ranked"),
    ]


def all_metric_cards(runs: Sequence[Run]) -> list[MetricCard]:
    """Every metric card that a run carries, once a version."""
    cards: dict[tuple[str, str], MetricCard] = {}
    for run in runs:
        for name, card in metric_cards(run).items():
            cards.setdefault((name, str(card.version)), card)
    return [cards[key] for key in sorted(cards)]


def newest_cards(runs: Sequence[Run]) -> dict[str, MetricCard]:
    """The card of every metric in the newest version that a run carries, by name."""
    newest: dict[str, MetricCard] = {}
    for card in all_metric_cards(runs):
        version = finite(card.version) or 0.0
        if card.name not in newest or version > (finite(newest[card.name].version) or 0.0):
            newest[card.name] = card
    return newest


@dataclass(frozen=True)
class Images:
    """One suite in one view, as the methods page names it; `n` images."""

    suite: str
    n: int | None
    hash: str | None
    view: str
    protocol: str | None
    fingerprint: str | None


def all_images(runs: Sequence[Run]) -> list[Images]:
    """Every suite in every view that a run was measured on, by name."""
    seen: dict[tuple[str, ...], Images] = {}
    for run in runs:
        images = Images(
            suite_name(run), suite_images(run), suite_hash(run), view_name(run), protocol(run), view_fingerprint(run)
        )
        seen.setdefault((images.suite, str(images.hash), images.view, str(images.fingerprint)), images)
    return [seen[key] for key in sorted(seen)]
