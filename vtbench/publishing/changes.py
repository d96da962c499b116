"""`vtbench leaderboard diff OLD NEW`: which runs came, which went, which numbers changed, and which of those cannot be.

A run is the same one in both where its id is: the same question, answered twice. Where the id differs and the system,
its options and its images are the same (a new release of the code, another seed), it was measured again. In both cases
a number that jumps is a mistake somewhere: no new release moves a PSNR by 10 dB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vtbench.reporting.measured import is_cost, metric_card, score, scores
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import (
    dtype,
    identity,
    is_ranked,
    model_name,
    options,
    question,
    suite_name,
    task_name,
    view_name,
    why_not_ranked,
)
from vtbench.results.record import Run, Score

DECIBELS = 3.0
"""A larger step of a number in dB is implausible for one system on the same images."""
SHARE = 0.1
"""The same of a number between two bounds, as a part of what lies between them."""
RATIO = 1.5
"""The same of any other number: the larger by the smaller."""
SMALL = {"set": 1.0}
"""Steps that are plausible whatever the ratio, by the kind of metric: a distance of sets may go from 0.1 to 0.5."""
SMALLEST = 0.02
"""The same of all others."""
RANGE = 2.0
"""Numbers whose bounds are further apart (a squared error) go by their ratio."""


@dataclass(frozen=True)
class Change:
    """One number of one system that is another in NEW. `again`: the system was measured again, under another id; `why`:
    why the step is implausible, None where it is not."""

    run: str
    what: str
    metric: str
    old: float | None
    new: float | None
    again: bool
    why: str | None = None


@dataclass(frozen=True)
class Changes:
    """What NEW has that OLD lacks (`came`), the other way round (`went`), what changed, and runs whose right to a rank
    changed, each in words."""

    came: tuple[str, ...]
    went: tuple[str, ...]
    changed: tuple[Change, ...]
    ranks: tuple[str, ...]
    same: int

    @property
    def implausible(self) -> list[Change]:
        return [change for change in self.changed if change.why is not None]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "implausible": len(self.implausible)}

    def text(self) -> str:
        """What the command prints."""
        lines = [f"came: {what}" for what in self.came]
        lines += [f"went: {what}" for what in self.went]
        lines += [f"rank: {what}" for what in self.ranks]
        lines += [_line(change) for change in self.changed]
        counts = f"{len(self.came)} came, {len(self.went)} went, {self.same} stayed"
        return "\n".join([*lines, f"{counts}, {len(self.changed)} numbers changed"])


def _line(change: Change) -> str:
    old, new = (f"{v:.5g}" if v is not None else "none" for v in (change.old, change.new))
    again = ", measured again" if change.again else ""
    why = f": IMPLAUSIBLE, {change.why}" if change.why else ""
    return f"changed: {change.what}{again}: {change.metric} {old} -> {new}{why}"


def changes(old: Path, new: Path) -> Changes:
    """Compares all runs at or below two folders: of runs, or sites that `build` wrote. VtbenchError where either holds
    none."""
    before, after = ({identity(run): run for run in read_runs([path])} for path in (old, new))
    kept = [(before[key], after[key]) for key in before if key in after]
    gone, fresh = (
        [runs[key] for key in runs if key not in other] for runs, other in ((before, after), (after, before))
    )
    pairs = _measured_again(gone, fresh)
    came = [run for run in fresh if all(run is not b for _, b in pairs)]
    went = [run for run in gone if all(run is not a for a, _ in pairs)]
    both = [*((a, b, False) for a, b in kept), *((a, b, True) for a, b in pairs)]
    return Changes(
        tuple(words(run) for run in came),
        tuple(words(run) for run in went),
        tuple(change for a, b, again in both for change in _of_pair(a, b, again)),
        tuple(f"{words(b)}: {_standing(b)}" for a, b, _ in both if is_ranked(a) != is_ranked(b)),
        len(both),
    )


def words(run: Run) -> str:
    """A run as a line of this comparison names it."""
    settings = "".join(f" {name}={value}" for name, value in sorted(options(run).items()))
    return f"{model_name(run)}{settings}, {task_name(run)} on {suite_name(run)} at {view_name(run)}"


def _standing(run: Run) -> str:
    return "ranked now" if is_ranked(run) else f"not ranked any more ({why_not_ranked(run)})"


def _measured_again(gone: Sequence[Run], fresh: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Runs of the same system on the same images, one that went with one that came; where there are several of one, as
    of several seeds, in their order."""
    waiting: dict[str, list[Run]] = {}
    for run in gone:
        waiting.setdefault(_system(run), []).append(run)
    return [(others.pop(0), run) for run in fresh if (others := waiting.get(_system(run)))]


def _system(run: Run) -> str:
    asked = question(run)
    return repr((model_name(run), sorted(map(str, options(run).items())), dtype(run), asked.task, asked.images))


def _of_pair(old: Run, new: Run, again: bool) -> Iterator[Change]:
    names = dict.fromkeys([s.metric for s in (*scores(old), *scores(new))])
    for name in names:
        a, b = score(old, name), score(new, name)
        before, after = (None if s is None else s.value for s in (a, b))
        if before == after or (again and is_cost(new, name)):
            # What a machine needs is another number every time.
            continue
        why = None if a is None or b is None else implausible(a, b, new)
        yield Change(identity(new), words(new), name, before, after, again, why)


def implausible(old: Score, new: Score, run: Run) -> str | None:
    """Why the step from one score to the other cannot be; None where it may. A metric of another version is another
    number, and what a machine needs has no bounds."""
    if old.value is None or new.value is None or old.version != new.version or is_cost(run, new.metric):
        return None
    step = abs(new.value - old.value)
    if new.unit == "dB":
        return f"a step of {step:.3g} dB, where {DECIBELS:g} are plausible" if step > DECIBELS else None
    card = metric_card(run, new.metric)
    low, high = card.bounds if card is not None and len(card.bounds) == 2 else (None, None)
    if low is not None and high is not None and high - low <= RANGE:
        most = SHARE * (high - low)
        return f"a step of {step:.3g}, where {most:.3g} is plausible" if step > most else None
    smaller, larger = sorted((abs(old.value), abs(new.value)))
    flips = old.value * new.value < 0
    least = SMALL.get(card.kind, SMALLEST) if card is not None else SMALLEST
    if step > least and (flips or larger > RATIO * smaller):
        times = f"{larger / smaller:.3g} times" if smaller and not flips else f"by {step:.3g}"
        return f"{times}, where {RATIO:g} times is plausible"
    return None
