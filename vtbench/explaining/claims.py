"""Claims and what moves them: a number that somebody printed, ours, and what every open choice does to ours."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from vtbench.explaining.conventions import card_of, metric_named, metric_named_or_none
from vtbench.explaining.measure import Score
from vtbench.statistics.paired import paired
from vtbench.types.cards import Card, Published
from vtbench.types.conditions import Conditions
from vtbench.types.errors import VtbenchError

NOISE = 0.01
"""A choice that leaves less than this part of the gap closes it: what another resize or another library's floats leave
is less, and what a second choice moves is mostly more."""
SAID = 3
"""So many choices that close a gap are named; all of them stand below."""


@dataclass(frozen=True)
class Move:
    """What one choice does: value under it, difference to the default with its paired 95 % interval, and what is left
    of the gap to the claim; `closes`: so little that the choice explains it. `changes`: how many things the choice
    changes at once. value None needs why."""

    dimension: str
    choice: str
    value: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    left: float | None = None
    n: int = 0
    why: str | None = None
    source: str = ""
    title: str = ""
    changes: int = 1
    closes: bool = False

    @property
    def name(self) -> str:
        return f"{self.dimension}: {self.choice}" + (f" ({self.title})" if self.title else "")

    def text(self) -> str:
        """The line of a choice that was measured."""
        span = "" if self.low is None else f" [{self.low:+.3g}, {self.high:+.3g}]"
        left = "" if self.left is None else f", leaves {self.left:+.4g}"
        return f"  {self.name}: {self.value or 0.0:.5g}, moves it by {self.difference or 0.0:+.4g}{span}{left}"


@dataclass(frozen=True)
class Claim:
    """One claimed number, the default's, and the moves: those that close the gap first, then by what they leave of it,
    the unmeasured ones last. `verdict`: in one sentence what explains the claim, or that nothing here does."""

    metric: str
    claimed: float
    value: float | None
    low: float | None
    high: float | None
    n: int
    default: str
    moves: tuple[Move, ...]
    source: str | None = None
    why: str | None = None
    verdict: str = ""

    def text(self) -> str:
        lines = [f"{self.metric}: claimed {self.claimed:g}" + (f" ({self.source})" if self.source else "")]
        if self.value is None:
            lines.append(f"  {self.default}: not measured ({self.why})")
        else:
            span = "" if self.low is None else f"  [{self.low:.4g}, {self.high:.4g}]"
            gap = self.claimed - self.value
            lines.append(f"  {self.default}: {self.value:.5g}{span}, the claim is {gap:+.4g} away")
        lines += [f"  {self.verdict}"] if self.verdict else []
        measured = [move.text() for move in self.moves if move.left is not None]
        return "\n".join([*lines, *measured, *_unmeasured([move for move in self.moves if move.left is None])])


def _unmeasured(moves: Sequence[Move]) -> list[str]:
    """One line a reason, with all that it holds for."""
    by_reason: dict[str | None, dict[str, list[str]]] = {}
    for m in moves:
        by_reason.setdefault(m.why, {}).setdefault(m.dimension, []).append(m.choice)
    lines = []
    for why, of in by_reason.items():
        what = "; ".join(f"{dimension}: {', '.join(names)}" for dimension, names in of.items())
        lines.append(f"  {what}: not measured ({why})")
    return lines


@dataclass(frozen=True)
class Explanation:
    """The answer: every claim on the same `n` images. `notes`: what is to be known beside the numbers."""

    system: str
    images: str
    n: int
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The page that the command prints."""
        lines = [f"{self.system} on {self.n} images of {self.images}"]
        for claim in self.claims:
            lines += ["", claim.text()]
        return "\n".join([*lines, *([""] if self.notes else []), *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class Printed:
    """A number as somebody printed it; `digits`: half a unit of its last digit, which is all that it says."""

    value: float
    digits: float

    @staticmethod
    def of(text: str | float) -> Printed:
        value = float(text)
        exponent = Decimal(str(text).strip().replace("_", "")).as_tuple().exponent
        return Printed(value, 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0)

    def is_met_by(self, value: float) -> bool:
        # The digits as a decimal number are not exactly a float.
        return abs(self.value - value) <= self.digits * (1 + 1e-9)


def claimed_numbers(claims: Mapping[str, str | float]) -> dict[str, Printed]:
    """The claims by our names of the metrics, as finite numbers; refused otherwise."""
    if not claims:
        raise VtbenchError("nothing to explain: give --claim metric=value, e.g. --claim ssim=0.675")
    out: dict[str, Printed] = {}
    for name, text in claims.items():
        metric = metric_named(name)
        if metric in out:
            raise VtbenchError(
                f"--claim gives {metric} twice, once as {name}: explain one number of a metric at a time"
            )
        try:
            out[metric] = Printed.of(text)
        except (ValueError, ArithmeticError):
            raise VtbenchError(f"--claim {name}={text}: give a number, e.g. {name}=0.5") from None
        if not math.isfinite(out[metric].value):
            raise VtbenchError(f"--claim {name}={text}: give a finite number")
    return out


def published(card: Card, metric: str, claimed: Printed) -> list[Published]:
    """The claims of the card that are this number, under this metric or a convention of it, to the digits of either."""
    of = card_of(metric).convention_of or metric
    out = []
    for entry in card.published:
        name = metric_named_or_none(entry.metric)
        alike = name is not None and (card_of(name).convention_of or name) == of
        if alike and (claimed.is_met_by(entry.value) or Printed.of(entry.value).is_met_by(claimed.value)):
            out.append(entry)
    nearest = min((abs(entry.value - claimed.value) for entry in out), default=0.0)
    return [entry for entry in out if abs(entry.value - claimed.value) <= nearest]


def stated_by(entries: Sequence[Published]) -> Conditions | None:
    """What all of these state alike: where a number stands in two tables, nobody knows which of them is meant."""
    return (
        functools.reduce(lambda one, two: one.in_common(two), (e.protocol or Conditions() for e in entries))
        if entries
        else None
    )


def move(
    dimension: str,
    name: str,
    default: Score,
    there: Score,
    claimed: Printed,
    source: str = "",
    title: str = "",
    changes: int = 1,
) -> Move:
    """From the default's score to that of a choice, paired image by image where both have values of images."""
    if there.value is None or default.value is None:
        why = there.why or default.why or "the default has no value"
        return Move(dimension, name, there.value, why=why, source=source, title=title, changes=changes)
    difference, low, high, n = there.value - default.value, None, None, 0
    if there.images is not None and default.images is not None:
        both = [place for place in default.images if place in there.images]
        values, others = ([column.values[k] for k in both] for column in (there.images, default.images))
        weights, other_weights = ([column.weights[k] for k in both] for column in (there.images, default.images))
        result = paired(values, others, weights, other_weights, better=None)
        difference, low, high, n = result.difference, result.low, result.high, len(both)
    left = claimed.value - there.value
    closes = claimed.is_met_by(there.value) or abs(left) <= NOISE * abs(claimed.value - default.value)
    return Move(dimension, name, there.value, difference, low, high, left, n, None, source, title, changes, closes)


def nearest_first(moves: Sequence[Move]) -> tuple[Move, ...]:
    """Those that close the gap first, the simpler before the more involved; then by what is left of the gap; the
    unmeasured ones last, in the order in which they came."""

    def key(m: Move) -> tuple[bool, bool, int, float]:
        left = math.inf if m.left is None else abs(m.left)
        # Two ways to the same pixels leave the same but for the last bits of a sum.
        return m.left is None, not m.closes, m.changes if m.closes else 0, float(f"{left:.9g}")

    return tuple(sorted(moves, key=key))


def verdict(claimed: Printed, default: Score, span: tuple[float | None, float | None], moves: Sequence[Move]) -> str:
    """One sentence: what closes the gap, or that none of these does. moves: nearest first."""
    if default.value is None:
        return "none of these could be measured here, so that nothing explains the claim"
    if claimed.is_met_by(default.value):
        return "the default gives the claimed number, to the digits that were printed: there is nothing to explain"
    closing = [m.name for m in moves if m.closes]
    if closing:
        others = f"; so do {', '.join(closing[1:SAID])}" if closing[1:] else ""
        more = f" and {len(closing) - SAID} more" if len(closing) > SAID else ""
        return f"{closing[0]} closes the gap{others}{more}"
    low, high = span
    chance = ""
    if low is not None and high is not None and low <= claimed.value <= high:
        chance = "; the claim lies within the interval of these images' mean, so that other images may give it"
    measured = [m for m in moves if m.left is not None]
    if not measured:
        return f"none of these could be measured here{chance}"
    gap = claimed.value - default.value
    if abs(measured[0].left or 0.0) >= abs(gap):
        return f"none of these closes the gap of {gap:+.4g}, each leaves as much or more{chance}"
    nearest = f"the nearest, {measured[0].name}, leaves {measured[0].left:+.4g}"
    return f"none of these closes the gap of {gap:+.4g}: {nearest}{chance}"
