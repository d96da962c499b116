"""Differences of two systems on the same images: intervals, tests, Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vtbench.statistics.intervals import LEVEL, RESAMPLES, SMALL, Floats, resample_sums, weighted
from vtbench.types.errors import VtbenchError


@dataclass(frozen=True)
class Paired:
    """Score of A minus score of B on the same images, and what speaks against 'no difference'.

    p: two-sided, paired bootstrap (Student's t below 30 images). sign_p: exact sign test, ties left out.
    wins, losses, ties: images where A is better, worse, equal.
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
    a: Sequence[float],
    b: Sequence[float],
    weights_a: Sequence[float] | None = None,
    weights_b: Sequence[float] | None = None,
    *,
    better: str | None = "higher",
    transform: Callable[[Floats], Floats] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Paired:
    """Compares the scores of A and B on the same n images; `a[i]` and `b[i]` belong to one image.

    `transform` (of arrays, increasing or decreasing) turns sum(w v) / sum(w) into the score, as for a PSNR of pooled
    squared errors; `better` still speaks of the values. The bootstrap is then used for any n.
    """
    if len(a) != len(b):
        raise VtbenchError(f"a paired comparison got {len(a)} and {len(b)} values: give the same images", code=1)
    one, two = weighted(list(a), weights_a), weighted(list(b), weights_b)
    (va, wa), (vb, wb) = one, two
    n = len(va)
    up = -1 if better == "lower" else 1
    wins, losses = int((up * (va - vb) > 0).sum()), int((up * (va - vb) < 0).sum())
    untested = Paired(0.0, None, None, n, None, sign_test(wins, losses), wins, losses, n - wins - losses, "none")
    if not n or wa.sum() <= 0 or wb.sum() <= 0:
        return replace(untested, method="none: no image in common")
    means = np.array([(wa * va).sum() / wa.sum(), (wb * vb).sum() / wb.sum()])
    scores = transform(means) if transform else means
    difference = float(scores[0] - scores[1])
    if n == 1 or not math.isfinite(difference):
        why = "none: one image" if n == 1 else "none: a score is infinite"
        return replace(untested, difference=difference, method=why)
    if n < SMALL and transform is None:
        low, high, p = _student(one, two, difference, level)
        method = "Student's t"
    else:
        low, high, p = _bootstrap(one, two, transform, seed, resamples, level)
        method = f"paired percentile bootstrap, {resamples} resamples, seed {seed}"
    return replace(untested, difference=difference, low=low, high=high, p=p, method=method)


def _student(
    one: tuple[Floats, Floats], two: tuple[Floats, Floats], difference: float, level: float
) -> tuple[float, float, float]:
    """(low, high, p) of the difference of two ratios of sums, its error by linearisation."""
    from scipy.stats import t

    (va, wa), (vb, wb) = one, two
    n = len(va)
    mean_a, mean_b = (wa * va).sum() / wa.sum(), (wb * vb).sum() / wb.sum()
    parts = wa * (va - mean_a) / wa.mean() - wb * (vb - mean_b) / wb.mean()
    error = math.sqrt(float((parts**2).sum()) / (n * (n - 1)))
    half = float(t.ppf((1 + level) / 2, n - 1)) * error
    p = 1.0 if difference == 0 else (0.0 if error == 0 else float(2 * t.sf(abs(difference) / error, n - 1)))
    return difference - half, difference + half, p


def _bootstrap(
    one: tuple[Floats, Floats],
    two: tuple[Floats, Floats],
    transform: Callable[[Floats], Floats] | None,
    seed: int,
    resamples: int,
    level: float,
) -> tuple[float, float, float]:
    """(low, high, p) of the difference from resamples of the images that both share."""
    (va, wa), (vb, wb) = one, two
    sums = resample_sums(np.stack([wa * va, wa, wb * vb, wb], axis=1), resamples, seed)
    sums = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]
    means_a, means_b = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
    drawn = transform(means_a) - transform(means_b) if transform else means_a - means_b
    # Rounding alone must not turn equal scores into a difference.
    drawn[np.abs(drawn) < 1e-14 * max(1.0, abs(float(va.max())), abs(float(vb.max())))] = 0.0
    # A transform may give infinities, between which nothing can be interpolated.
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = (float(q) for q in np.quantile(drawn, tails, method="linear" if transform is None else "inverted_cdf"))
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return low, high, min(1.0, 2 * (tail + 1) / (len(drawn) + 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979), in the order given; None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    out: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - place) * p))
        out[index] = highest
    return out
