"""Runs as a table for a paper or a model card: which numbers stand in it, which are marked, and what its caption says.

A table is of one question (task, images, view), so that its numbers may stand side by side. Within each kind of system
the best by value is marked, and every system that the paired test of `vtbench compare` cannot tell from it; runs that
are not ranked are shown with the reason and never marked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vtbench import registry
from vtbench.reporting import runs as facts
from vtbench.reporting.compare import Difference, compare
from vtbench.reporting.image_values import RowValues
from vtbench.reporting.measured import RATE, RATE_UNITS, measured_images, metric_card, newest_version, score, scores
from vtbench.reporting.ranking import APART
from vtbench.reporting.values import mapping
from vtbench.results.record import Run, Score
from vtbench.statistics.paired import holm
from vtbench.types.errors import VtbenchError, near

Mark = Literal["best", "tie", None]
COLUMNS = 6
"""Metrics of a table beside the rate, unless others are asked for; a page of a journal holds no more."""
KINDS = {
    "codec": "Codecs",
    "continuous": "Continuous tokenizers",
    "discrete": "Discrete tokenizers",
    "closed": "Closed systems",
    "generator": "Generators",
}
"""Titles of the parts of a table."""


@dataclass(frozen=True)
class Column:
    """One metric: `better` is "higher", "lower" or None; `digits` behind the point."""

    metric: str
    title: str
    unit: str
    better: str | None
    version: int
    digits: int


@dataclass(frozen=True)
class Cell:
    """A number with its 95 % interval and how many images it is over, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str | None = None
    mark: Mark = None


@dataclass(frozen=True)
class Line:
    """A system. `note`: the number of the sentence that says why it is not ranked; 0: it is."""

    title: str
    cells: tuple[Cell, ...]
    note: int = 0


@dataclass(frozen=True)
class Table:
    """All systems of one question, by kind. caption: sentences on what the numbers are; notes: numbered ones."""

    title: str
    caption: tuple[str, ...]
    columns: tuple[Column, ...]
    parts: tuple[tuple[str, tuple[Line, ...]], ...]
    notes: tuple[str, ...] = ()


def tables(runs: Sequence[Run], metrics: Sequence[str] | None = None) -> list[Table]:
    """One table a question, in the order of the runs. metrics: columns by name; default: the rate and the first
    metrics of the task that have a better end and are no convention of another.

    Raises VtbenchError for a metric that none of the runs has.
    """
    wanted = None if metrics is None else registry.metric_names(metrics)
    if wanted is not None:
        known = {s.metric for run in runs for s in run.scores}
        for name in wanted:
            if name not in known:
                raise VtbenchError(f"none of the runs has a score of {name}{near(name, known)}")
    by_question: dict[Any, list[Run]] = {}
    for run in runs:
        by_question.setdefault(facts.question(run), []).append(run)
    return [_table(members, wanted) for members in by_question.values()]


def _table(runs: Sequence[Run], wanted: Sequence[str] | None) -> Table:
    columns = [_column(name, runs) for name in (_names(runs) if wanted is None else wanted) if _has(name, runs)]
    marks, tests = _marks(runs, columns)
    titles = labels(runs)
    notes: dict[str, int] = {}
    parts = []
    for kind in sorted({facts.kind(run) for run in runs}, key=facts.kind_order):
        lines = []
        for run in runs:
            if facts.kind(run) != kind:
                continue
            why = facts.why_not_ranked(run)
            number = 0 if why is None else notes.setdefault(why, len(notes) + 1)
            cells = tuple(_cell(run, c, marks.get((facts.identity(run), c.metric))) for c in columns)
            lines.append(Line(titles[facts.identity(run)], cells, number))
        parts.append((KINDS.get(kind, kind or "Systems"), tuple(lines)))
    title = f"{facts.task_title(runs[0])} on {facts.suite_name(runs[0])}"
    return Table(title, tuple(caption(runs, tests)), tuple(columns), tuple(parts), tuple(notes))


def _has(name: str, runs: Iterable[Run]) -> bool:
    return any(score(run, name) is not None for run in runs)


def _names(runs: Sequence[Run]) -> list[str]:
    """The rate, then the first metrics of quality, in the task's order, that any of the runs has a value of."""
    names = dict.fromkeys(s.metric for run in runs for s in scores(run) if s.value is not None)
    quality = [name for name in names if _is_quality(name, runs)]
    return [*([RATE] if RATE in names else []), *quality[:COLUMNS]]


def _is_quality(name: str, runs: Iterable[Run]) -> bool:
    """Whether a metric says how good pictures are: no cost, no rate, no other convention of a metric."""
    cards = [card for run in runs if (card := metric_card(run, name)) is not None]
    return any(card.better and not card.convention_of and card.unit not in RATE_UNITS for card in cards)


def _column(name: str, runs: Sequence[Run]) -> Column:
    stated = [s for run in runs if (s := score(run, name)) is not None]
    card = next((card for run in runs if (card := metric_card(run, name)) is not None), None)
    better = next((s.better for s in stated if s.better), card.better if card else None)
    unit = next((s.unit for s in stated if s.unit), "")
    title = card.title if card and card.title else name
    return Column(name, title, unit, better, newest_version(runs, name), digits(stated))


def digits(stated: Iterable[Score]) -> int:
    """Digits behind the point for a column: two of the smallest half of an interval, else four of the largest value."""
    values = list(stated)
    halves = [(s.high - s.low) / 2 for s in values if s.low is not None and s.high is not None and s.high > s.low]
    sizes = [abs(s.value) for s in values if s.value]
    if halves:
        wanted = 1 - math.floor(math.log10(min(halves)))
    elif sizes:
        wanted = 3 - math.floor(math.log10(max(sizes)))
    else:
        return 0
    return min(4, max(0, wanted))


def _cell(run: Run, column: Column, mark: Mark) -> Cell:
    stated = score(run, column.metric)
    if stated is None:
        return Cell(None, why="not measured")
    if stated.version != column.version:
        return Cell(None, why=f"of version {stated.version} of this metric")
    if stated.value is None:
        return Cell(None, why=stated.why)
    return Cell(stated.value, stated.low, stated.high, stated.n, mark=mark)


def labels(runs: Sequence[Run]) -> dict[str, str]:
    """A title for every run by its id: the model's with its setting, and the first digits of the id where that is
    another's too."""
    plain = {facts.identity(run): _label(run) for run in runs}
    twice = {title for title in plain.values() if list(plain.values()).count(title) > 1}
    return {key: f"{title} ({key[:8]})" if title in twice else title for key, title in plain.items()}


def _label(run: Run) -> str:
    knob, setting = facts.knob(run)
    defaults = mapping(facts.model_card(run).get("options"))
    parts = [f"{knob} {_plain(setting)}"] if knob else []
    parts += [f"{k} {_plain(v)}" for k, v in facts.options(run).items() if k != knob and v != defaults.get(k)]
    return ", ".join([facts.model_title(run), *parts])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


@dataclass
class _Tests:
    """How marks were found. `images`: the fewest and the most that a test was over; `untested`: metrics without values
    of single images."""

    count: int = 0
    images: set[int] = field(default_factory=set)
    untested: list[str] = field(default_factory=list)
    unranked: bool = False


def _marks(runs: Sequence[Run], columns: Sequence[Column]) -> tuple[dict[tuple[str, str], Mark], _Tests]:
    """Marks by run id and metric. Within each kind the best of the ranked runs by value, and those that the paired test
    of `compare` does not tell from it, p adjusted by Holm over all tests of the table."""
    tests = _Tests()
    out: dict[tuple[str, str], Mark] = {}
    able = [run for run in runs if facts.is_ranked(run)]
    tests.unranked = not able
    rows = RowValues()
    pairs: list[tuple[tuple[str, str], Difference]] = []
    for column in (c for c in columns if c.better in ("higher", "lower") and _is_quality(c.metric, runs)):
        for kind in dict.fromkeys(facts.kind(run) for run in able):
            members = [run for run in able if facts.kind(run) == kind and _cell(run, column, None).value is not None]
            if len(members) < 2:
                continue
            best = _best(members, column)
            out[facts.identity(best), column.metric] = "best"
            for other in members:
                if other is not best:
                    difference = _difference(best, other, column.metric, rows)
                    if difference is None:
                        tests.untested += [] if column.title in tests.untested else [column.title]
                        if _value(other, column) == _value(best, column):
                            out[facts.identity(other), column.metric] = "best"
                    else:
                        pairs.append(((facts.identity(other), column.metric), difference))
    adjusted, signs = holm([d.p for _, d in pairs]), holm([d.sign_p for _, d in pairs])
    for (key, difference), p, sign_p in zip(pairs, adjusted, signs, strict=True):
        tests.images.add(difference.n)
        if not replace(difference, p_holm=p, sign_p_holm=sign_p).verdict.endswith("is better"):
            out[key] = "tie"
    tests.count = len(pairs)
    return out, tests


def _value(run: Run, column: Column) -> float:
    value = _cell(run, column, None).value
    assert value is not None
    return value


def _best(members: Sequence[Run], column: Column) -> Run:
    up = 1 if column.better == "higher" else -1
    return max(members, key=lambda run: (up * _value(run, column), facts.identity(run)))


def _difference(best: Run, other: Run, metric: str, rows: RowValues) -> Difference | None:
    """What `compare` says of the two; None where it cannot pair their images."""
    try:
        compared = compare([best, other], [metric], rows=rows).differences
    except VtbenchError:
        return None
    return compared[0] if compared and compared[0].n else None


def caption(runs: Sequence[Run], tests: _Tests) -> list[str]:
    """What the numbers of a table are: images, view, protocol, n, versions, intervals, marks."""
    first = runs[0]
    counts = sorted({measured_images(run) for run in runs})
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    digest = f" (sha256 {str(facts.suite_hash(first))[:12]})" if facts.suite_hash(first) else ""
    view = facts.view_name(first)
    side = view if not view.isdigit() else f"{view} × {view} pixels"
    versions = ", ".join(sorted({v for run in runs if (v := facts.vtbench_version(run))}))
    out = [
        f"{facts.task_title(first)} (task {facts.task_name(first)}, version {facts.task_version(first)}) on "
        f"{facts.suite_name(first)}{digest}, n = {n} images, view {side}, "
        f"protocol {facts.protocol(first) or 'not stated'}, vtbench {versions or 'of an unknown version'}.",
        "In brackets: 95 % intervals over images.",
    ]
    if tests.unranked:
        return [*out, "Nothing is marked: none of these runs is ranked."]
    if tests.count:
        images = sorted(tests.images)
        over = f"{images[0]:,}" if len(images) == 1 else f"{images[0]:,} to {images[-1]:,}"
        out.append(
            f"Marked within each kind of system: the best, and those that a paired permutation test on the same {over} "
            f"images cannot tell from it (p ≥ {APART:g}, Holm over {tests.count} tests)."
        )
    if tests.untested:
        out.append(
            f"Of {', '.join(tests.untested)} the best by value alone is marked: no run holds values of single images."
        )
    return out
