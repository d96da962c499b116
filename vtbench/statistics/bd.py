"""Bjøntegaard deltas between rate–distortion curves, by piecewise cubics (pchip).

BD-rate: mean difference of log rate at equal quality, in per cent (negative: fewer bits than the anchor). BD-PSNR: mean
difference of quality at equal log rate. Bjøntegaard 2001 (VCEG-M33); pchip as in JCTVC-L1100, since a cubic fit swings
on curves of unequal spacing. A delta exists only for monotone curves of at least four points that share at least three
quarters of the narrower curve's range; else it is None with the reason. (The package bjontegaard, which gives the same
values, divides the overlap by the union of both ranges, which would refuse a narrow curve inside a wide one; both
shares are given.)
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vtbench.types.errors import VtbenchError

MIN_POINTS = 4
MIN_OVERLAP = 0.75

Point = tuple[float, float]
"""(rate in bits per pixel, quality) of one operating point: the scores of one run."""


@dataclass(frozen=True)
class Delta:
    """One Bjøntegaard delta; `value` None needs `why`. overlap: share of the narrower range, of the union of both."""

    value: float | None
    why: str | None = None
    overlap: float | None = None
    overlap_of_union: float | None = None
    low: float | None = None
    high: float | None = None
    """The range (of quality for BD-rate, of bits per pixel for BD-PSNR) over which the mean is taken."""


def curve(points: Sequence[Point], better: str = "higher") -> tuple[list[float], list[float]] | str:
    """(rates, qualities) in ascending rate, quality turned so that higher is better; or the reason why it is none."""
    if better not in ("higher", "lower"):
        raise VtbenchError(f"a rate–distortion curve needs a quality that is better higher or lower, not {better!r}")
    broken = next((point for point in points if not all(map(math.isfinite, point))), None)
    if broken is not None:
        return f"the point at rate {broken[0]:.4g} has the quality {broken[1]:.4g}: both must be finite numbers"
    ordered = sorted(points)
    rates = [r for r, _ in ordered]
    quality = [q if better == "higher" else -q for _, q in ordered]
    if len(points) < MIN_POINTS:
        return f"{len(points)} points are not a curve: at least {MIN_POINTS} are needed"
    if rates[0] <= 0:
        return f"a rate of {rates[0]} has no logarithm"
    if any(b <= a for a, b in itertools.pairwise(rates)):
        return f"two points have the rate {next(a for a, b in itertools.pairwise(rates) if b <= a):.6g}"
    for (r1, q1), (r2, q2) in itertools.pairwise(zip(rates, quality, strict=True)):
        if q2 <= q1:
            return f"quality does not grow with rate between {r1:.4g} and {r2:.4g} bits per pixel"
    return rates, quality


def bd_rate(anchor: Sequence[Point], points: Sequence[Point], better: str = "higher") -> Delta:
    """Mean difference in rate at equal quality, per cent, of `points` against `anchor` ((bpp, quality) each)."""
    return _delta(anchor, points, better, "rate")


def bd_quality(anchor: Sequence[Point], points: Sequence[Point], better: str = "higher") -> Delta:
    """Mean difference in quality at equal rate (dB for PSNR: BD-PSNR); positive is better, whatever `better` is."""
    return _delta(anchor, points, better, "quality")


def _delta(anchor: Sequence[Point], points: Sequence[Point], better: str, what: str) -> Delta:
    curves = []
    for name, operating in (("the anchor", anchor), ("the curve", points)):
        ordered = curve(operating, better)
        if isinstance(ordered, str):
            return Delta(None, f"{name}: {ordered}")
        curves.append(ordered)
    (axis_a, mean_a), (axis_b, mean_b) = (
        (quality, np.log10(rates).tolist()) if what == "rate" else (np.log10(rates).tolist(), quality)
        for rates, quality in curves
    )
    low, high = max(axis_a[0], axis_b[0]), min(axis_a[-1], axis_b[-1])
    shared = max(0.0, high - low)
    narrow = shared / min(axis_a[-1] - axis_a[0], axis_b[-1] - axis_b[0])
    union = shared / (max(axis_a[-1], axis_b[-1]) - min(axis_a[0], axis_b[0]))
    if narrow < MIN_OVERLAP:
        axis = "quality" if what == "rate" else "rate"
        why = f"the curves share {100 * narrow:.0f} % of the narrower range of {axis}"
        return Delta(None, f"{why}; {100 * MIN_OVERLAP:.0f} % are needed", narrow, union)
    # Rates that no medium has, as 1e-300, make infinities, which say so.
    with np.errstate(all="ignore"):
        areas = [_cubic(tuple(x), tuple(y)).integrate(low, high) for x, y in ((axis_a, mean_a), (axis_b, mean_b))]
        value = np.float64(areas[1] - areas[0]) / (high - low)
        value = (10**value - 1) * 100 if what == "rate" else value
    ends = (low, high) if what == "rate" else (10**low, 10**high)
    if what == "rate" and better == "lower":
        ends = (-high, -low)
    return Delta(float(value), None, narrow, union, *ends)


@functools.lru_cache(maxsize=256)
def _cubic(x: tuple[float, ...], y: tuple[float, ...]) -> Any:
    """The monotone cubics through a curve's points: every curve meets every anchor."""
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(np.array(x), np.array(y))
