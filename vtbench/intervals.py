"""Shim: until the sweep. The simulations move to benchmarks/metrics/coverage.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from vtbench.statistics.intervals import (
    LEVEL,
    RESAMPLES,
    SMALL,
    Floats,
    Interval,
    counts,
    jackknife,
    mean_interval,
    ratio_error,
    resample_sums,
    weighted,
)
from vtbench.statistics.paired import Paired, holm, paired, sign_test
from vtbench.statistics.ranks import Rank, ranks

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "SMALL",
    "Floats",
    "Interval",
    "Paired",
    "Rank",
    "counts",
    "holm",
    "jackknife",
    "mean_interval",
    "paired",
    "ranks",
    "ratio_error",
    "resample_sums",
    "sign_test",
    "simulate_coverage",
    "simulate_level",
    "weighted",
]


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
