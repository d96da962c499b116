"""Differences of two systems on the same images: intervals, tests, Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vtbench.statistics.intervals import (
    LEVEL,
    RESAMPLES,
    SMALL,
    Bounds,
    bca_ends,
    influence,
    is_proportion,
    resample_sums,
    standard_error,
    student_half,
    weighted,
)
from vtbench.statistics.permutation import FEWEST, finest, permutation_p
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.statistics.intervals import Floats


@dataclass(frozen=True)
class Scale:
    """A score that is an increasing or decreasing function of sum(w v) / sum(w), and that function's derivative."""

    of: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


PLAIN = Scale(lambda means: means, np.ones_like)
"""The mean itself."""


@dataclass(frozen=True)
class Paired:
    """Score of A minus score of B on the same images, and what speaks against 'no difference'.

    p: two-sided, paired permutation test, exact up to 13 images; under 0.05 only from 6 images on. Where it is as small
    as exchanges of 6 to 29 images can make it, Student's t says how much smaller it is (for means, and differences that
    scatter): comparisons of many systems need that. sign_p: exact sign test, ties left out. wins, losses, ties: images
    where A is better, worse, equal. method: of the interval.
    """

    difference: float
    low: float | None
    high: float | None
    n: int
    p: float | None
    sign_p: float | None
    wins: int
    losses: int
    ties: int
    method: str

    @property
    def win_rate(self) -> float | None:
        """Share of images where A is better; half of the ties count."""
        return (self.wins + 0.5 * self.ties) / self.n if self.n else None


def sign_test(wins: int, losses: int) -> float | None:
    """Exact two-sided p under wins ~ Binomial(wins + losses, 1/2); None if there is nothing but ties."""
    if wins + losses == 0:
        return None
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, 0.5).pvalue)


def paired(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    weights_a: Sequence[float] | Floats | None = None,
    weights_b: Sequence[float] | Floats | None = None,
    *,
    better: str | None = "higher",
    scale: Scale = PLAIN,
    bounds: Bounds = (None, None),
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Paired:
    """Compares the scores of A and B on the same n images; `a[i]` and `b[i]` belong to one image.

    `scale` turns sum(w v) / sum(w) into the score, as for a PSNR of pooled squared errors; `better` still speaks of the
    values. bounds: those of the values, which tell shares from other numbers. The interval is Bonett and Price's of two
    proportions, else Student's t below 30 images, else BCa.
    """
    if len(a) != len(b):
        raise VtbenchError(f"a paired comparison got {len(a)} and {len(b)} values: give the same images", code=1)
    one, two = weighted(a, weights_a), weighted(b, weights_b)
    (va, wa), (vb, wb) = one, two
    n = len(va)
    up = -1 if better == "lower" else 1
    wins, losses = int((up * (va - vb) > 0).sum()), int((up * (va - vb) < 0).sum())
    untested = Paired(0.0, None, None, n, None, sign_test(wins, losses), wins, losses, n - wins - losses, "none")
    if not n or wa.sum() <= 0 or wb.sum() <= 0:
        return replace(untested, method="none: no image in common")
    means = np.array([(wa * va).sum() / wa.sum(), (wb * vb).sum() / wb.sum()])
    scores = scale.of(means)
    with np.errstate(invalid="ignore"):
        difference = float(scores[0] - scores[1])
    if n == 1 or not math.isfinite(difference):
        why = "none: one image" if n == 1 else "none: a score is infinite"
        return replace(untested, difference=difference, method=why)
    slopes = scale.slope(means)
    parts = slopes[0] * influence(va, wa) - slopes[1] * influence(vb, wb)
    if scale is PLAIN and is_proportion(np.concatenate([va, vb]), np.concatenate([wa, wb]), bounds):
        low, high = bonett_price(va, vb, level)
        method = "Bonett and Price"
    elif n < SMALL:
        half = student_half(standard_error(parts), n, level)
        low, high, method = difference - half, difference + half, "Student's t"
    else:
        low, high = _bootstrap(one, two, scale, difference, parts, seed, resamples, level)
        method = f"paired BCa bootstrap, {resamples} resamples, seed {seed}"
    p = permutation_p(one, two, scale.of, resamples=resamples, seed=seed)
    if method == "Student's t" and scale is PLAIN and n >= FEWEST and p <= finest(n, resamples):
        p = min(p, _student_p(difference, standard_error(parts), n) or p)
    return replace(untested, difference=difference, low=low, high=high, p=p, method=method)


def _student_p(difference: float, error: float, n: int) -> float | None:
    """Two-sided p of Student's t; None where the differences do not scatter, which is no certainty."""
    from scipy.special import stdtr

    return float(2 * stdtr(n - 1, -abs(difference) / error)) if error > 1e-9 * abs(difference) else None


def bonett_price(a: Floats, b: Floats, level: float) -> tuple[float, float]:
    """(low, high) of the difference of two proportions on the same images, values 0 and 1.

    Bonett and Price 2012, Journal of Educational and Behavioral Statistics 37: a Wald interval with one more image won
    and one more lost.
    """
    from scipy.special import ndtri

    n = len(a) + 2
    won, lost = (float((a > b).sum()) + 1) / n, (float((a < b).sum()) + 1) / n
    half = float(ndtri((1 + level) / 2)) * math.sqrt((won + lost - (won - lost) ** 2) / n)
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)


def _bootstrap(
    one: tuple[Floats, Floats],
    two: tuple[Floats, Floats],
    scale: Scale,
    difference: float,
    parts: Floats,
    seed: int,
    resamples: int,
    level: float,
) -> tuple[float, float]:
    """(low, high) of the difference from resamples of the images that both share."""
    (va, wa), (vb, wb) = one, two
    sums = resample_sums(np.stack([wa * va, wa, wb * vb, wb], axis=1), resamples, seed)
    sums = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]
    with np.errstate(invalid="ignore"):
        drawn = scale.of(sums[:, 0] / sums[:, 1]) - scale.of(sums[:, 2] / sums[:, 3])
    largest = max(abs(float(va.max())), abs(float(vb.max())))
    return bootstrap_ends(drawn, difference, parts, largest, scale, level)


def bootstrap_ends(
    drawn: Floats, difference: float, parts: Floats, largest: float, scale: Scale, level: float
) -> tuple[float, float]:
    """(low, high) of a difference from what it is in every resample, which is changed; `largest`: of the values."""
    # Two infinite scores are equal.
    drawn[np.isnan(drawn)] = 0.0
    # Rounding alone must not turn equal scores into a difference.
    drawn[np.abs(drawn) < 1e-14 * max(1.0, largest)] = 0.0
    # A function of the means may give infinities, between which nothing can be interpolated.
    return bca_ends(drawn, difference, parts, level, "linear" if scale is PLAIN else "inverted_cdf")


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979), in the order given; None stays None and does not count."""
    p = np.array(p_values, dtype=np.float64)  # None is NaN here
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.minimum(1.0, np.arange(len(known), 0, -1) * p[order])
    p[order] = np.maximum.accumulate(steps)
    adjusted: list[float] = p.tolist()
    return list(adjusted) if len(known) == len(p) else [None if math.isnan(a) else a for a in adjusted]
