"""Intervals against SciPy, arithmetic and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.metrics.coverage import simulate_coverage, simulate_level
from vtbench.statistics.intervals import counts, jackknife, mean_interval
from vtbench.types.errors import VtbenchError


def test_student_interval_equals_scipy_below_thirty_images() -> None:
    x = np.random.default_rng(1).normal(30, 4, 12)
    result = mean_interval(list(x))
    low, high = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert result is not None
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-12)
    assert result.value == pytest.approx(x.mean(), rel=1e-14)


def test_bootstrap_equals_scipys_percentile_bootstrap() -> None:
    """Both are Monte Carlo: the quantiles of 10,000 resamples vary by about 2 % of the interval's width."""
    x = np.random.default_rng(2).exponential(1, 200)
    result = mean_interval(list(x))
    reference = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=10_000, rng=3).confidence_interval
    assert result is not None
    width = reference.high - reference.low
    assert result.low == pytest.approx(reference.low, abs=0.04 * width)
    assert result.high == pytest.approx(reference.high, abs=0.04 * width)


def test_weighted_score_and_its_bootstrap_resample_pairs() -> None:
    rng = np.random.default_rng(4)
    w = rng.integers(1, 50, 300).astype(float)
    v = rng.random(300)
    result = mean_interval(list(v), list(w))
    assert result is not None
    assert result.value == pytest.approx(np.average(v, weights=w), rel=1e-13)
    reference = stats.bootstrap(
        (v, w), lambda a, b: (a * b).sum() / b.sum(), method="percentile", paired=True, vectorized=False, rng=5
    ).confidence_interval
    width = reference.high - reference.low
    assert (result.low, result.high) == pytest.approx((reference.low, reference.high), abs=0.05 * width)


def test_same_seed_same_interval_and_missing_values_are_left_out() -> None:
    x = [*np.random.default_rng(6).normal(0, 1, 50), None, None]
    assert mean_interval(x, seed=1) == mean_interval(x[:50], seed=1)
    assert mean_interval(x, seed=1) != mean_interval(x, seed=2)
    assert mean_interval([None]) is None
    one = mean_interval([3.0])
    assert one is not None
    assert one.low is None
    assert one.why
    with pytest.raises(VtbenchError, match="not finite"):
        mean_interval([float("nan"), 1.0])


def test_an_interval_stays_within_the_bounds_of_its_metric() -> None:
    result = mean_interval([1.0, 1.0, 0.9], bounds=(None, 1.0))
    assert result is not None
    assert result.high == 1.0


def test_counts_are_exact_sampling_with_replacement() -> None:
    """Every resample draws n images; a count is Binomial(n, 1/n): mean 1, variance 1 - 1/n."""
    drawn = np.concatenate(list(counts(40, 5000, seed=0)))
    assert (drawn.sum(axis=1) == 40).all()
    assert drawn.var() == pytest.approx(1 - 1 / 40, rel=0.02)
    assert np.cov(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(-1 / 40, abs=0.05)


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    """With groups of one image, the jackknife of a mean is s / sqrt(n) exactly (Efron and Stein)."""
    x = np.random.default_rng(11).normal(0, 1, 20)
    result = jackknife(float(x.mean()), [float(np.delete(x, i).mean()) for i in range(20)])
    low, high = stats.t.interval(0.95, 19, loc=x.mean(), scale=stats.sem(x))
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-10)


def test_coverage_and_level_by_simulation() -> None:
    """400 trials: a true 95 % shows between 92 and 98 %; the percentile bootstrap of 5 images is far below."""

    def normal(rng: np.random.Generator, n: int) -> tuple[np.ndarray, None]:
        return rng.normal(0, 1, n), None

    def alike(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        common = rng.normal(0, 1, n)
        return common + rng.normal(0, 1, n), common + rng.normal(0, 1, n)

    assert 0.92 <= simulate_coverage(normal, 0.0, 5) <= 0.98
    assert simulate_coverage(normal, 0.0, 5, method="bootstrap") < 0.9
    assert 0.92 <= simulate_coverage(normal, 0.0, 100, resamples=600) <= 0.98
    level = simulate_level(alike, 100, resamples=600)
    assert 0.02 <= level["paired"] <= 0.08
    assert level["sign"] <= 0.08
