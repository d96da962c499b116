"""What the pages say of all runs together: counts, bits saved, the cards of metrics, images and views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vtbench.leaderboard import words
from vtbench.leaderboard.cells import column
from vtbench.leaderboard.groups import Group
from vtbench.leaderboard.plot import Style, swatch
from vtbench.leaderboard.sections import Section
from vtbench.reporting.curves import Curve, Saving, Savings, bd_table
from vtbench.reporting.measured import metric_cards
from vtbench.reporting.runs import (
    curve_key,
    is_ranked,
    kind,
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


def all_curves(runs: Sequence[Run]) -> list[Curve]:
    """One entry a curve key, in page order, so that a system has one colour everywhere."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(curve_key(run), run)
    return [Curve(key, run.name, kind(run)) for key, run in first.items()]


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


@dataclass(frozen=True)
class SavingsTable:
    """BD-rates of one group: `title` of the metric, and every line with its swatch."""

    group: Group
    table: Savings
    title: str
    lines: Sequence[tuple[Markup, Saving]]


def savings(sections: Sequence[Section], styles: Mapping[str, Style]) -> list[SavingsTable]:
    """BD-rate tables of the groups that hold a codec's curve to measure against, once for the same pictures."""
    out = []
    asked = []
    for section in sections:
        by, group = section.by, section.group
        card = group.card(by) if by else None
        if by is None or card is None or not section.curves or section.asked in asked:
            continue
        asked.append(section.asked)
        table = bd_table(section.curves, by, str(card.better))
        # Where no other system has a curve, the table would be a list of excuses.
        if table and table.several:
            lines = [(swatch(styles[line.curve.key]), line) for line in table.lines]
            out.append(SavingsTable(group, table, column(group, by).title, lines))
    return out


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
