"""Intervals of means over images.

A score is sum(w v) / sum(w) over images; the image is the unit that is resampled. Every random step takes a seed, and
resamples of equal n and seed are the same whoever asks, so that all models of a page share theirs.
Proportions (values 0 and 1) have Wilson's interval, other means Student's t below 30 images and the BCa bootstrap from
there. docs/metrics.md shows by simulation how often these intervals hold the truth.
"""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


RESAMPLES = 10_000
LEVEL = 0.95
SMALL = 30
"""Below this many images Student's t is used: the bootstrap undercovers there."""
BLOCK = 2_000_000
"""Numbers drawn at a time: memory stays at some tens of megabytes whatever n is."""
KEPT = 16_000_000
"""Up to so many drawn numbers, of two bytes each, are kept for the next who asks for the same."""


@dataclass(frozen=True)
class Interval:
    """A score with its interval at `level`; low and high are None (with `why`) where there is none."""

    value: float
    low: float | None
    high: float | None
    n: int
    method: str
    why: str | None = None


def weighted(
    values: Sequence[float | None] | Floats, weights: Sequence[float] | Floats | None = None
) -> tuple[Floats, Floats]:
    """The values that exist, with their weights (1 where none are given), both float64 (n,)."""
    import numpy as np

    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(w) != len(values):
        raise VtbenchError(f"{len(values)} values came with {len(w)} weights: give one weight a value", code=1)
    if isinstance(values, np.ndarray | array):
        # None is missing of these, and as objects they would take four times the room.
        kept = np.asarray(values, dtype=np.float64)
    else:
        w = w[np.array([v is not None for v in values], dtype=bool)]
        kept = np.array([v for v in values if v is not None], dtype=np.float64)
    if not np.isfinite(kept).all():
        raise VtbenchError("a value is not finite: a missing value is None with a reason, never NaN", code=1)
    return kept, w


def counts(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Blocks (r, n): how often each of n images was drawn; `resamples` rows in all, exact draws with replacement."""
    import numpy as np

    draws = _kept_counts if resamples * n <= KEPT else _drawn_counts
    for block in draws(n, resamples, seed):
        yield block.astype(np.float64)


def _drawn_counts(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    import numpy as np

    rng = np.random.Generator(np.random.SFC64(seed))
    rows = max(1, BLOCK // n)
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, size=(min(rows, resamples - start), n), dtype=np.uint32)
        block = np.empty(drawn.shape, dtype=np.uint16)
        for row, indices in enumerate(drawn):
            block[row] = np.bincount(indices, minlength=n)
        yield block


@functools.lru_cache(maxsize=4)
def _kept_counts(n: int, resamples: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    """They are the same whoever asks: every pair of a ranking does, and every metric of a run."""
    return tuple(_drawn_counts(n, resamples, seed))


def resample_sums(columns: Floats, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Sums of every column (n, m) over each resample: (resamples, m) float64."""
    import numpy as np

    return np.concatenate([block @ columns for block in counts(len(columns), resamples, seed)])


def influence(values: Floats, weights: Floats) -> Floats:
    """How far each image moves sum(w v) / sum(w), times n: w (v - mean) / mean(w), (n,)."""
    centre = (weights * values).sum() / weights.sum()
    parts: Floats = weights * (values - centre) / weights.mean()
    return parts


def standard_error(parts: Floats) -> float:
    """Of a score whose influences are `parts` (n,), n > 1, by linearisation."""
    n = len(parts)
    return math.sqrt(float((parts**2).sum()) / (n * (n - 1)))


def ratio_error(values: Floats, weights: Floats) -> float:
    """Standard error of sum(w v) / sum(w) by linearisation; for equal weights s / sqrt(n)."""
    return standard_error(influence(values, weights))


def student_half(error: float, n: int, level: float) -> float:
    """Half of the width of Student's interval of n images."""
    # What scipy.stats.t.ppf calls; scipy.stats itself takes most of a second to import.
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + level) / 2)) * error


def bca_ends(drawn: Floats, value: float, parts: Floats, level: float, method: str = "linear") -> tuple[float, float]:
    """(low, high) of the bias-corrected and accelerated bootstrap (Efron 1987, as scipy.stats.bootstrap has it).

    drawn: the score of every resample. parts: the images' influences on the score, whose skewness accelerates; scipy
    takes the jackknife, which for a mean is the same. method: of numpy's quantiles.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    spread = float((parts**2).sum())
    if not 0 < below < 1 or spread == 0:
        return float(drawn.min()), float(drawn.max())
    bias, pull = ndtri(below), float((parts**3).sum()) / (6 * spread**1.5)
    shifted = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(drawn, ndtr(bias + shifted / (1 - pull * shifted)), method=method)  # type: ignore[call-overload]
    return float(low), float(high)


SHARES = (0.0, 1.0)
Bounds = tuple[float | None, float | None]


def is_proportion(values: Floats, weights: Floats, bounds: Bounds = (None, None)) -> bool:
    """Are these successes and failures: zeros and ones of equal weight? Where only one of them occurs, or the values
    might be anything, the bounds of their metric say so."""
    import numpy as np

    plain = bool(np.isin(values, SHARES).all()) and bool((weights == weights[0]).all())
    return plain and (bounds == SHARES or (bounds == (None, None) and len(np.unique(values)) == 2))


def mean_interval(
    values: Sequence[float | None],
    weights: Sequence[float] | None = None,
    *,
    bounds: Bounds = (None, None),
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    logarithm: bool = False,
) -> Interval | None:
    """sum(w v) / sum(w) with its interval: Wilson's of a proportion, else Student's t below 30 images, else BCa.

    `values` may hold None (left out). `bounds` clip the interval to what the metric can be. logarithm: Student's
    interval is that of the score's logarithm, for skewed positive values that are shown as decibels. None if nothing
    is left.
    """
    import numpy as np

    v, w = weighted(values, weights)
    if not len(v) or w.sum() <= 0:
        return None
    value = float((w * v).sum() / w.sum())
    n = len(v)
    if n == 1:
        return Interval(value, None, None, 1, "none", "one image has no interval")
    if is_proportion(v, w, bounds):
        from scipy.stats import binomtest

        ends = binomtest(int(v.sum()), n).proportion_ci(level, method="wilson")
        return Interval(value, float(ends.low), float(ends.high), n, "Wilson")
    if n < SMALL:
        half = student_half(ratio_error(v, w), n, level)
        low, high, method = value - half, value + half, "Student's t"
        if logarithm and value > 0:
            factor = math.exp(min(half / value, 700.0))
            low, high, method = value / factor, value * factor, "Student's t of the logarithm"
    else:
        sums = resample_sums(np.stack([w * v, w], axis=1), resamples, seed)
        some = sums[:, 1] > 0
        low, high = bca_ends(sums[some, 0] / sums[some, 1], value, influence(v, w), level)
        method = f"BCa bootstrap, {resamples} resamples, seed {seed}"
    if bounds[0] is not None:
        low, high = max(low, bounds[0]), max(high, bounds[0])
    if bounds[1] is not None:
        low, high = min(low, bounds[1]), min(high, bounds[1])
    return Interval(value, low, high, n, method)


def jackknife(estimate: float, without: Sequence[float], level: float = LEVEL) -> Interval:
    """Delete-a-group jackknife: `without[g]` is the estimate from all images but those of group g (equal groups)."""
    import numpy as np

    groups = len(without)
    if groups < 2:
        return Interval(estimate, None, None, groups, "none", "the jackknife needs at least two groups")
    left = np.asarray(without, dtype=np.float64)
    error = math.sqrt((groups - 1) / groups * float(((left - left.mean()) ** 2).sum()))
    half = student_half(error, groups, level)
    return Interval(estimate, estimate - half, estimate + half, groups, f"delete-a-group jackknife, {groups} groups")
