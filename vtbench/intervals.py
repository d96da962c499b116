"""Uncertainty: intervals of means, tests of paired differences, ranks. NumPy and SciPy only, never torch.

A score is sum(w v) / sum(w) over images; the image is the unit that is resampled. Every random step takes a seed, and
resamples of equal n and seed are the same whoever asks, so that all models of a page share theirs.
`vtbench.metrics_report` shows the coverage and the level of everything here by simulation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    given = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(given) != len(values):
        raise VtbenchError(f"{len(values)} values came with {len(given)} weights: give one weight a value", code=1)
    keep = np.array([v is not None for v in values], dtype=bool)
    kept = np.array([v for v in values if v is not None], dtype=np.float64)
    if not np.isfinite(kept).all():
        raise VtbenchError("a value is not finite: a missing value is None with a reason, never NaN", code=1)
    return kept, given[keep]


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
    va, wa = weighted(list(a), weights_a)
    vb, wb = weighted(list(b), weights_b)
    n = len(va)
    up = -1 if better == "lower" else 1
    wins, losses = int((up * (va - vb) > 0).sum()), int((up * (va - vb) < 0).sum())
    sign_p = sign_test(wins, losses)
    if not n or wa.sum() <= 0 or wb.sum() <= 0:
        return Paired(0.0, None, None, n, None, sign_p, wins, losses, n - wins - losses, "none: no image in common")
    score: Callable[[Floats], Floats] = transform or (lambda x: x)
    means = score(np.array([(wa * va).sum() / wa.sum(), (wb * vb).sum() / wb.sum()]))
    difference = float(means[0] - means[1])
    ties = n - wins - losses
    if n == 1 or not math.isfinite(difference):
        why = "none: one image" if n == 1 else "none: a score is infinite"
        return Paired(difference, None, None, n, None, sign_p, wins, losses, ties, why)
    if n < SMALL and transform is None:
        from scipy.stats import t

        mean_a, mean_b = (wa * va).sum() / wa.sum(), (wb * vb).sum() / wb.sum()
        parts = wa * (va - mean_a) / wa.mean() - wb * (vb - mean_b) / wb.mean()
        error = math.sqrt(float((parts**2).sum()) / (n * (n - 1)))
        half = float(t.ppf((1 + level) / 2, n - 1)) * error
        p = 1.0 if difference == 0 else (0.0 if error == 0 else float(2 * t.sf(abs(difference) / error, n - 1)))
        return Paired(difference, difference - half, difference + half, n, p, sign_p, wins, losses, ties, "Student's t")
    sums = resample_sums(np.stack([wa * va, wa, wb * vb, wb], axis=1), resamples, seed)
    sums = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]
    drawn = score(sums[:, 0] / sums[:, 1]) - score(sums[:, 2] / sums[:, 3])
    # Rounding alone must not turn equal scores into a difference.
    drawn[np.abs(drawn) < 1e-14 * max(1.0, abs(float(va.max())), abs(float(vb.max())))] = 0.0
    # A transform may give infinities, between which nothing can be interpolated.
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = (float(q) for q in np.quantile(drawn, tails, method="linear" if transform is None else "inverted_cdf"))
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (len(drawn) + 1))
    method = f"paired percentile bootstrap, {resamples} resamples, seed {seed}"
    return Paired(difference, low, high, n, p, sign_p, wins, losses, ties, method)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979), in the order given; None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    out: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - place) * p))
        out[index] = highest
    return out


@dataclass(frozen=True)
class Rank:
    """Place of a model (1 = best), its interval from shared resamples, and whether it ties with the one above."""

    name: str
    value: float
    rank: int
    low: int
    high: int
    tied_with_above: bool
    p_above: float | None
    """Paired p against the model one place above, Holm-adjusted over all such neighbours; None for the first."""


def ranks(
    table: Mapping[str, tuple[Sequence[float], Sequence[float] | None]],
    *,
    better: str,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[Rank]:
    """Ranks of all models, best first. `table[name]` = (values, weights or None) over the same images in one order.

    Every resample draws one set of images for all models, ranks them anew, and the interval is that of the ranks.
    A model is tied with the one above it when the adjusted paired p is at least 0.05.
    """
    names = list(table)
    if not names:
        return []
    pairs = [weighted(list(table[name][0]), table[name][1]) for name in names]
    n = len(pairs[0][0])
    if any(len(v) != n for v, _ in pairs):
        raise VtbenchError("ranks need the same images of every model: leave out images that some model lacks", code=1)
    sign = -1.0 if better == "higher" else 1.0
    value = np.array([(w * v).sum() / w.sum() for v, w in pairs])
    order = np.argsort(sign * value, kind="stable")
    columns = np.stack([column for v, w in pairs for column in (w * v, w)], axis=1)
    sums = resample_sums(columns, resamples, seed)
    drawn = sign * sums[:, 0::2] / np.where(sums[:, 1::2] > 0, sums[:, 1::2], np.inf)
    # Rank 1 + number of models strictly better: equal models share the better place.
    place = np.stack([1 + (drawn < drawn[:, [m]]).sum(axis=1) for m in range(len(names))], axis=1)
    low, high = np.quantile(place, [(1 - level) / 2, (1 + level) / 2], axis=0, method="nearest")
    raw: list[float | None] = [None]
    for above, below in itertools.pairwise(order):
        (va, wa), (vb, wb) = pairs[above], pairs[below]
        raw.append(paired(list(va), list(vb), list(wa), list(wb), better=better, seed=seed, resamples=resamples).p)
    out = []
    for index, (m, p) in enumerate(zip(order, holm(raw), strict=True)):
        name, tied = names[m], index > 0 and (p is None or p >= 0.05)
        out.append(Rank(name, float(value[m]), index + 1, int(low[m]), int(high[m]), tied, p))
    return out


def simulate_coverage(
    draw: Any, truth: float, n: int, *, trials: int = 400, seed: int = 0, resamples: int = 1000, method: str = "auto"
) -> float:
    """Share of `trials` in which the interval of n values holds `truth`.

    draw(rng, n) -> (values, weights or None). method "bootstrap" forces the percentile bootstrap whatever n is, to
    show why it is not used for few images.
    """
    rng = np.random.default_rng(seed)
    inside = 0
    for trial in range(trials):
        values, weights = draw(rng, n)
        if method == "bootstrap":
            w = np.ones(n) if weights is None else np.asarray(weights)
            sums = resample_sums(np.stack([w * np.asarray(values), w], axis=1), resamples, seed + trial)
            low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
        else:
            found = mean_interval(list(values), weights, seed=seed + trial, resamples=resamples)
            assert found is not None
            assert found.low is not None
            assert found.high is not None
            low, high = found.low, found.high
        inside += bool(low <= truth <= high)
    return inside / trials


def simulate_level(draw: Any, n: int, *, trials: int = 400, seed: int = 0, resamples: int = 1000) -> dict[str, float]:
    """Share of `trials` in which each paired test says p < 0.05 though A and B are drawn alike.

    draw(rng, n) -> (a, b) of equal distribution.
    """
    rng = np.random.default_rng(seed)
    hits = {"paired": 0, "sign": 0}
    for trial in range(trials):
        a, b = draw(rng, n)
        found = paired(list(a), list(b), seed=seed + trial, resamples=resamples)
        hits["paired"] += found.p is not None and found.p < 0.05
        hits["sign"] += found.sign_p is not None and found.sign_p < 0.05
    return {name: count / trials for name, count in hits.items()}
