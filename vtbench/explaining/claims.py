"""Claims and what moves them: a number that somebody printed, ours, and what every open choice does to ours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtbench import registry
from vtbench.explaining.choices import ALIASES
from vtbench.explaining.measure import Score
from vtbench.statistics.paired import paired
from vtbench.types.cards import Card, Published
from vtbench.types.errors import VtbenchError, near


@dataclass(frozen=True)
class Move:
    """What one choice does: value under it, difference to the default with its paired 95 % interval, and what is left
    of the gap to the claim. value None needs why."""

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

    def text(self) -> str:
        name = f"  {self.dimension}: {self.choice}"
        if self.value is None or self.difference is None:
            return f"{name}: not measured ({self.why})"
        span = "" if self.low is None else f" [{self.low:+.3g}, {self.high:+.3g}]"
        left = "" if self.left is None else f", leaves {self.left:+.4g}"
        return f"{name}: {self.value:.5g}, moves it by {self.difference:+.4g}{span}{left}"


@dataclass(frozen=True)
class Claim:
    """One claimed number, the default's, and the moves, largest first, the unmeasured ones last."""

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

    def text(self) -> str:
        lines = [f"{self.metric}: claimed {self.claimed:g}" + (f" ({self.source})" if self.source else "")]
        if self.value is None:
            lines.append(f"  {self.default}: not measured ({self.why})")
        else:
            span = "" if self.low is None else f"  [{self.low:.4g}, {self.high:.4g}]"
            gap = self.claimed - self.value
            lines.append(f"  {self.default}: {self.value:.5g}{span}, the claim is {gap:+.4g} away")
        return "\n".join([*lines, *(move.text() for move in self.moves)])


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


def claimed_numbers(claims: Mapping[str, str | float]) -> dict[str, float]:
    """The claims by our names of the metrics, as finite numbers; refused otherwise."""
    if not claims:
        raise VtbenchError("nothing to explain: give --claim metric=value, e.g. --claim ssim=0.675")
    known = registry.metrics()
    out = {}
    for name, text in claims.items():
        metric = ALIASES.get(name, name)
        if metric not in known:
            raise VtbenchError(f"there is no metric {name!r}{near(name, known)}: `vtbench list metrics` shows all")
        try:
            out[metric] = float(text)
        except ValueError:
            raise VtbenchError(f"--claim {name}={text}: give a number, e.g. {name}=0.5") from None
        if not math.isfinite(out[metric]):
            raise VtbenchError(f"--claim {name}={text}: give a finite number")
    return out


def published(card: Card, metric: str, claimed: float) -> Published | None:
    """The claim as the card lists it (equal to the digits that were given)."""
    for entry in card.published:
        if ALIASES.get(entry.metric, entry.metric) == metric and math.isclose(entry.value, claimed, rel_tol=1e-3):
            return entry
    return None


def move(dimension: str, name: str, default: Score, there: Score, claimed: float, source: str = "") -> Move:
    """From the default's score to that of a choice, paired image by image where both have values of images."""
    if there.value is None or default.value is None:
        why = there.why or default.why or "the default has no value"
        return Move(dimension, name, there.value, why=why, source=source)
    difference, low, high, n = there.value - default.value, None, None, 0
    if there.pairs is not None and default.pairs is not None:
        both = [item for item in default.pairs if item in there.pairs]
        values, others = ([pairs[item][0] for item in both] for pairs in (there.pairs, default.pairs))
        weights, other_weights = ([pairs[item][1] for item in both] for pairs in (there.pairs, default.pairs))
        result = paired(values, others, weights, other_weights, better=None)
        difference, low, high, n = result.difference, result.low, result.high, len(both)
    return Move(dimension, name, there.value, difference, low, high, claimed - there.value, n, None, source)


def largest_first(moves: Sequence[Move]) -> tuple[Move, ...]:
    """By what they do; the unmeasured ones last, in the order in which they came."""
    return tuple(sorted(moves, key=lambda m: -1.0 if m.difference is None else abs(m.difference), reverse=True))
