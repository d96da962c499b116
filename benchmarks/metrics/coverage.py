"""Intervals and tests by simulation: how often an interval holds the truth, how often a test cries wolf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import table
from vtbench.metrics import frechet, moments
from vtbench.statistics import intervals
from vtbench.statistics.paired import holm, paired

Draw = Callable[[np.random.Generator, int], tuple[Any, Any]]
"""(generator, n) -> (values, weights or None) of n images, or the values of two systems on the same n images."""


def simulate_coverage(
    draw: Draw, truth: float, n: int, *, trials: int = 400, seed: int = 0, resamples: int = 1000, method: str = "auto"
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
            sums = intervals.resample_sums(np.stack([w * np.asarray(values), w], axis=1), resamples, seed + trial)
            low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
        else:
            interval = intervals.mean_interval(list(values), weights, seed=seed + trial, resamples=resamples)
            assert interval is not None
            assert interval.low is not None
            assert interval.high is not None
            low, high = interval.low, interval.high
        inside += bool(low <= truth <= high)
    return inside / trials


def simulate_level(draw: Draw, n: int, *, trials: int = 400, seed: int = 0, resamples: int = 1000) -> dict[str, float]:
    """Share of `trials` in which each paired test says p < 0.05 though A and B are drawn alike.

    draw(rng, n) -> (a, b) of equal distribution.
    """
    rng = np.random.default_rng(seed)
    hits = {"paired": 0, "sign": 0}
    for trial in range(trials):
        a, b = draw(rng, n)
        comparison = paired(list(a), list(b), seed=seed + trial, resamples=resamples)
        hits["paired"] += comparison.p is not None and comparison.p < 0.05
        hits["sign"] += comparison.sign_p is not None and comparison.sign_p < 0.05
    return {name: count / trials for name, count in hits.items()}


def sources() -> dict[str, tuple[Draw, float]]:
    """Distributions like those of real metrics, and their true scores."""

    def psnr(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        return rng.normal(28, 4, n), None

    def lpips(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        return rng.gamma(4, 0.05, n), None

    def cer(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        length = rng.integers(5, 60, n).astype(float)
        return rng.binomial(length.astype(int), 0.2) / length, length

    return {
        "normal, like PSNR (28 ± 4 dB)": (psnr, 28.0),
        "skewed, like LPIPS (gamma)": (lpips, 0.2),
        "ratio of sums, like CER (weights 5 to 59)": (cer, 0.2),
    }


def statistics(trials: int = 1000) -> list[str]:
    """Coverage of the intervals and level of the tests: lines of the page."""
    return [*interval_coverage(trials), *level_of_tests(trials), *holm_level(trials), *jackknife_coverage()]


def interval_coverage(trials: int) -> list[str]:
    rows = []
    for name, (draw, truth) in sources().items():
        cells: list[Any] = [name]
        for n in (5, 10, 29, 30, 100, 1000):
            auto = simulate_coverage(draw, truth, n, trials=trials, resamples=1000)
            if n < intervals.SMALL:
                plain = simulate_coverage(draw, truth, n, trials=trials, resamples=1000, method="bootstrap")
                cells.append(f"{100 * auto:.1f} % ({100 * plain:.1f} %)")
            else:
                cells.append(f"{100 * auto:.1f} %")
        rows.append(cells)
    error = 100 * 1.96 * math.sqrt(0.95 * 0.05 / trials)
    return [
        f"Share of {trials} simulated sets whose 95 % interval holds the true score (± {error:.1f} points by chance). "
        "Below 30 images Student's t is used; in brackets what the percentile bootstrap would have given.",
        "",
        *table(["values", "n = 5", "10", "29", "30", "100", "1000"], rows),
    ]


def level_of_tests(trials: int) -> list[str]:
    def alike(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        common = rng.normal(28, 4, n)
        return common + rng.normal(0, 0.5, n), common + rng.normal(0, 0.5, n)

    def skewed(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        common = rng.gamma(4, 0.05, n)
        return common * rng.lognormal(0, 0.1, n), common * rng.lognormal(0, 0.1, n)

    rows = []
    for name, pair in (("PSNR of two equal systems", alike), ("LPIPS of two equal systems", skewed)):
        for n in (10, 30, 100, 1000):
            level = simulate_level(pair, n, trials=trials, resamples=1000)
            rows.append([name, n, f"{100 * level['paired']:.1f} %", f"{100 * level['sign']:.1f} %"])
    return [
        "Level of the tests: share of simulated comparisons of two equal systems with p below 0.05 (5 % is right; the "
        "exact sign test may stay below it).",
        "",
        *table(["systems", "n", "paired bootstrap (t below 30)", "sign test"], rows),
    ]


def holm_level(trials: int) -> list[str]:
    """Family-wise error of ten comparisons of equal systems, with and without Holm."""
    rng = np.random.default_rng(1)
    plain = adjusted = 0
    for trial in range(trials):
        p = []
        for _ in range(10):
            d = rng.normal(0, 1, 20)
            p.append(paired(list(d), [0.0] * 20, seed=trial).p)
        plain += min(x for x in p if x is not None) < 0.05
        adjusted += min(x for x in holm(p) if x is not None) < 0.05
    return [
        f"Ten comparisons at once of equal systems: at least one p below 0.05 in {100 * plain / trials:.1f} % of "
        f"{trials} simulations without correction, in {100 * adjusted / trials:.1f} % with Holm's.",
        "",
    ]


def jackknife_coverage(trials: int = 300) -> list[str]:
    """Coverage of FID's interval for the expected value at its n, and of the bootstrap that is not used."""
    rng = np.random.default_rng(2)
    reference = moments.of(rng.normal(0, 1, (5000, 12)))
    drawn = [rng.normal(0.15, 1.1, (300, 12)) for _ in range(trials)]
    values = [frechet.distance(reference, moments.of(x)) for x in drawn]
    expected = float(np.mean(values))
    inside = 0
    for x in drawn:
        interval = frechet.interval(reference, x, paired=False)
        inside += interval is not None and interval.low is not None and interval.low <= expected <= (interval.high or 0)
    boot = []
    for x in drawn[:50]:
        again = [frechet.distance(reference, moments.of(x[rng.integers(0, 300, 300)])) for _ in range(20)]
        boot.append(float(np.mean(again)))
    shift = 100 * (float(np.mean(boot)) / float(np.mean(values[:50])) - 1)
    return [
        f"Fréchet distance, 300 images of 12 features, {frechet.GROUPS} groups: the jackknife's 95 % interval holds "
        f"the expected distance at this n in {100 * inside / trials:.1f} % of {trials} simulations. A bootstrap would "
        f"centre {shift:+.0f} % away: its duplicates look like a smaller set, which is why none is used.",
        "",
    ]
