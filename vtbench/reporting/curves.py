"""Rate–distortion curves, the Pareto front, and what a curve saves against another.

Curves join the kinds of systems; ranks never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtbench.reporting.measured import RATE, score, value
from vtbench.reporting.runs import (
    adapter_sha256,
    curve_key,
    dtype,
    identity,
    kind,
    knob,
    limit,
    model_title,
    once,
    options,
    question,
    system,
    weights,
)
from vtbench.results.record import Run
from vtbench.statistics.bd import MIN_POINTS, bd_rate


@dataclass(frozen=True)
class Point:
    """One run on a rate–distortion plot: x bits per pixel, y quality with its 95 % interval where it has one."""

    run: Run
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """Runs that differ in their knob only (same weights, adapter, dtype, other options), by increasing rate."""

    key: str
    title: str
    kind: str
    points: tuple[Point, ...] = ()
    knob: str | None = None


def rate(run: Run, others: Iterable[Run] = ()) -> float | None:
    """Bits per pixel of a run: its own, or that of the same system on the same images and view in another task."""
    own = value(run, RATE)
    if own is not None:
        return own
    wanted = system(run), _images(run)
    for other in others:
        if (system(other), _images(other)) == wanted:
            theirs = value(other, RATE)
            if theirs is not None:
                return theirs
    return None


def rates(runs: Sequence[Run]) -> dict[str, float | None]:
    """`rate` of every run among `runs`, by run id."""
    known: dict[tuple[Any, ...], float] = {}
    for run in runs:
        own = value(run, RATE)
        if own is not None:
            known.setdefault((system(run), _images(run)), own)
    return {
        identity(run): known.get((system(run), _images(run))) if (own := value(run, RATE)) is None else own
        for run in runs
    }


def _images(run: Run) -> tuple[Any, ...]:
    """Equal for runs that sent the same pixels through their systems."""
    asked = question(run)
    return (*asked.images, asked.fit, limit(run))


def curves(
    runs: Sequence[Run],
    y: str = "psnr",
    *,
    others: Sequence[Run] = (),
    rates: Mapping[str, float | None] | None = None,
    cost: str | None = None,
) -> list[Curve]:
    """The curves of runs of one question; a run without a rate or without `y` has no point (it stays in the table).

    others: runs in which a run without a rate may find its own; rates: those of all, by run id, where they are known.
    cost: a metric that stands on the axis in place of the rate, as what a generator's image takes.
    """
    points: dict[str, list[Point]] = {}
    for run in runs:
        bits = rate(run, others) if rates is None else rates[identity(run)]
        x, quality = bits if cost is None else value(run, cost), score(run, y)
        if x is None or x <= 0 or quality is None or quality.value is None:
            continue
        points.setdefault(curve_key(run), []).append(Point(run, x, quality.value, quality.low, quality.high))
    titles = _titles({key: of_key[0].run for key, of_key in points.items()})
    return [_curve(key, titles[key], of_key) for key, of_key in points.items()]


def _curve(key: str, title: str, points: Sequence[Point]) -> Curve:
    first = points[0].run
    ordered = tuple(sorted(points, key=lambda p: (p.x, p.y, identity(p.run))))
    return Curve(key, title, kind(first), ordered, knob(first)[0])


def _titles(runs: Mapping[str, Run]) -> dict[str, str]:
    """A title for the curve of each run; where several would read alike, with what tells them apart."""
    facts = {key: _facts(run) for key, run in runs.items()}
    by_title: dict[str, list[list[str]]] = {}
    for key, run in runs.items():
        by_title.setdefault(model_title(run), []).append(facts[key])
    out = {}
    for key, run in runs.items():
        alike = by_title[model_title(run)]
        apart = [n for n in range(len(facts[key])) if len({other[n] for other in alike}) > 1]
        words = ", ".join(filter(None, (facts[key][n] for n in apart)))
        if not words and len(alike) > 1:
            words = f"run {identity(run)[:8]}"
        out[key] = f"{model_title(run)} ({words})" if words else model_title(run)
    return out


@once
def _facts(run: Run) -> list[str]:
    """What may tell two curves of one model apart, the most telling first; empty where the record does not say."""
    fixed = ", ".join(f"{k} {v}" for k, v in options(run).items() if k != knob(run)[0])
    files = "".join(file.sha256[:8] for file in weights(run).files)
    adapter = (adapter_sha256(run) or "")[:8]
    return [
        fixed,
        dtype(run) or "",
        f"weights {files}" if files else "",
        f"adapter {adapter}" if adapter else "",
    ]


def pareto(points: Sequence[tuple[float, float]], better: str = "higher") -> list[int]:
    """Indices, by increasing rate, of the (rate, quality) points that no other point beats.

    A point is beaten by one with no more rate and no worse quality that is strictly better in one of the two; of equal
    points all stay.
    """
    sign = -1.0 if better == "lower" else 1.0
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1], i))
    front: list[int] = []
    best: float | None = None
    last: tuple[float, float] | None = None
    for i in order:
        quality = sign * points[i][1]
        if best is None or quality > best:
            best, last = quality, points[i]
            front.append(i)
        elif points[i] == last:
            front.append(i)
    return front


@dataclass(frozen=True)
class Saving:
    """A curve against an anchor: BD-rate in percent (negative: fewer bits for the same quality), or None and why."""

    curve: Curve
    percent: float | None
    why: str | None = None
    place: int | None = None
    """Among the curves of its kind that have a number, the anchor among them at 0 %; None where it is alone."""
    of: int = 0


@dataclass(frozen=True)
class Savings:
    """Every other curve against the anchor."""

    anchor: Curve
    metric: str
    lines: tuple[Saving, ...]
    several: bool
    """Whether any other system has points enough for a curve."""


def bd_table(
    drawn: Sequence[Curve], metric: str, better: str = "higher", *, anchor: Curve | None = None
) -> Savings | None:
    """BD-rate of every curve against `anchor`, or else the codec curve with most points (the first of equals); None
    without an anchor."""
    anchors = [c for c in drawn if c.kind == "codec" and len(c.points) >= MIN_POINTS]
    if anchor is None and not anchors:
        return None
    anchor = anchor or max(anchors, key=lambda c: len(c.points))
    lines = []
    for curve in drawn:
        if curve.key == anchor.key:
            continue
        delta = bd_rate([(p.x, p.y) for p in anchor.points], [(p.x, p.y) for p in curve.points], better)
        lines.append(Saving(curve, delta.value, delta.why))
    several = any(len(line.curve.points) >= MIN_POINTS for line in lines)
    return Savings(anchor, metric, tuple(_placed(anchor, lines)), several)


def _placed(anchor: Curve, lines: Sequence[Saving]) -> list[Saving]:
    """Every line with its place, by what it saves; those without a number last."""
    of_kind: dict[str, list[float]] = {anchor.kind: [0.0]}
    for line in lines:
        if line.percent is not None:
            of_kind.setdefault(line.curve.kind, []).append(line.percent)
    out = []
    for line in lines:
        rivals = of_kind.get(line.curve.kind, [])
        if line.percent is not None and len(rivals) > 1:
            ahead = sum(other < line.percent for other in rivals)
            line = replace(line, place=1 + ahead, of=len(rivals))
        out.append(line)
    return sorted(out, key=lambda line: (line.percent is None, line.percent or 0.0))
