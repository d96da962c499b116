"""Intervals of means over images.

A score is sum(w v) / sum(w) over images; the image is the unit that is resampled. Every random step takes a seed, and
resamples of equal n and seed are the same whoever asks, so that all models of a page share theirs.
docs/metrics.md shows by simulation how often these intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtbench.types.errors import VtbenchError

Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
SMALL = 30
"""Below this many images Student's t is used: the percentile bootstrap undercovers there."""
_BLOCK = 2_000_000
"""Numbers drawn at a time: memory stays at some tens of megabytes whatever n is."""


@dataclass(frozen=True)
class Interval:
    """A score with its interval at `level`; low and high are None (with `why`) where there is none."""

    value: float
    low: float | None
    high: float | None
    n: int
    method: str
    why: str | None = None


def weighted(values: Sequence[float | None], weights: Sequence[float] | None = None) -> tuple[Floats, Floats]:
    """The values that exist, with their weights (1 where none are given), both float64 (n,)."""
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(w) != len(values):
        raise VtbenchError(f"{len(values)} values came with {len(w)} weights: give one weight a value", code=1)
    keep = np.array([v is not None for v in values], dtype=bool)
    kept = np.array([v for v in values if v is not None], dtype=np.float64)
    if not np.isfinite(kept).all():
        raise VtbenchError("a value is not finite: a missing value is None with a reason, never NaN", code=1)
    return kept, w[keep]


def counts(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Blocks (r, n): how often each of n images was drawn; `resamples` rows in all, exact draws with replacement."""
    rng = np.random.Generator(np.random.SFC64(seed))
    rows = max(1, _BLOCK // n)
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, size=(min(rows, resamples - start), n), dtype=np.uint32)
        block = np.empty(drawn.shape)
        for row, indices in enumerate(drawn):
            block[row] = np.bincount(indices, minlength=n)
        yield block


def resample_sums(columns: Floats, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Sums of every column (n, m) over each resample: (resamples, m) float64."""
    return np.concatenate([block @ columns for block in counts(len(columns), resamples, seed)])


def ratio_error(values: Floats, weights: Floats) -> float:
    """Standard error of sum(w v) / sum(w) by linearisation; for equal weights s / sqrt(n)."""
    n = len(values)
    centre = float((weights * values).sum() / weights.sum())
    parts = weights * (values - centre) / weights.mean()
    return math.sqrt(float((parts**2).sum()) / (n * (n - 1)))


def mean_interval(
    values: Sequence[float | None],
    weights: Sequence[float] | None = None,
    *,
    bounds: tuple[float | None, float | None] = (None, None),
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval | None:
    """sum(w v) / sum(w) with its interval: percentile bootstrap over images, Student's t below 30 of them.

    `values` may hold None (left out). `bounds` clip the interval to what the metric can be. None if nothing is left.
    """
    v, w = weighted(values, weights)
    if not len(v) or w.sum() <= 0:
        return None
    value = float((w * v).sum() / w.sum())
    n = len(v)
    if n == 1:
        return Interval(value, None, None, 1, "none", "one image has no interval")
    if n < SMALL:
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, n - 1)) * ratio_error(v, w)
        low, high, method = value - half, value + half, "Student's t"
    else:
        sums = resample_sums(np.stack([w * v, w], axis=1), resamples, seed)
        some = sums[:, 1] > 0
        low, high = (float(q) for q in np.quantile(sums[some, 0] / sums[some, 1], [(1 - level) / 2, (1 + level) / 2]))
        method = f"percentile bootstrap, {resamples} resamples, seed {seed}"
    if bounds[0] is not None:
        low, high = max(low, bounds[0]), max(high, bounds[0])
    if bounds[1] is not None:
        low, high = min(low, bounds[1]), min(high, bounds[1])
    return Interval(value, low, high, n, method)


def jackknife(estimate: float, without: Sequence[float], level: float = LEVEL) -> Interval:
    """Delete-a-group jackknife: `without[g]` is the estimate from all images but those of group g (equal groups)."""
    from scipy.stats import t

    groups = len(without)
    if groups < 2:
        return Interval(estimate, None, None, groups, "none", "the jackknife needs at least two groups")
    left = np.asarray(without, dtype=np.float64)
    error = math.sqrt((groups - 1) / groups * float(((left - left.mean()) ** 2).sum()))
    half = float(t.ppf((1 + level) / 2, groups - 1)) * error
    return Interval(estimate, estimate - half, estimate + half, groups, f"delete-a-group jackknife, {groups} groups")
