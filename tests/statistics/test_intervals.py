"""Intervals against SciPy, arithmetic and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vtbench.statistics.intervals import counts, jackknife, mean_interval
from vtbench.statistics.paired import paired
from vtbench.types.errors import VtbenchError


def test_student_interval_equals_scipy_below_thirty_images() -> None:
    x = np.random.default_rng(1).normal(30, 4, 12)
    result = mean_interval(list(x))
    low, high = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert result is not None
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-12)
    assert result.value == pytest.approx(x.mean(), rel=1e-14)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_bootstrap_equals_scipys_bca(weighted: bool) -> None:
    """Both are Monte Carlo: the quantiles of 10,000 resamples vary by about 2 % of the interval's width. The skewness
    moves the ends by more than that, which the percentile bootstrap would miss."""
    rng = np.random.default_rng(2)
    v = rng.lognormal(0, 1.2, 60)
    w = rng.integers(1, 50, 60).astype(float) if weighted else np.ones(60)
    result = mean_interval(list(v), list(w))
    assert result is not None
    assert result.value == pytest.approx(np.average(v, weights=w), rel=1e-13)
    assert result.method.startswith("BCa")

    def score(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return (a * b).sum(axis=axis) / b.sum(axis=axis)

    settings = {"paired": True, "vectorized": True, "n_resamples": 10_000, "rng": 3}
    ends = [stats.bootstrap((v, w), score, method=m, **settings).confidence_interval for m in ("BCa", "percentile")]
    width = ends[0].high - ends[0].low
    assert (result.low, result.high) == pytest.approx((ends[0].low, ends[0].high), abs=0.05 * width)
    assert ends[0].high - ends[1].high > 0.08 * width


def test_a_proportion_has_wilsons_interval() -> None:
    """Wilson 1927 by its formula; sure at neither end, however few the images."""
    z = stats.norm.ppf(0.975)
    for k, n in ((0, 3), (2, 5), (5, 5), (17, 40)):
        result = mean_interval([1.0] * k + [0.0] * (n - k), bounds=(0.0, 1.0))
        p = k / n
        centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        assert result is not None
        assert (result.low, result.high) == pytest.approx(
            ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)), rel=1e-9, abs=1e-12
        )
        assert result.method == "Wilson"


@pytest.mark.parametrize(
    ("values", "weights", "bounds"),
    [
        ([0.0] * 4, None, (0.0, 65025.0)),  # squared errors of lossless images
        ([0.0, 1.0, 0.0, 1.0], None, (0.0, 65025.0)),
        ([0.0, 1.0, 0.5, 1.0], None, (0.0, 1.0)),
        ([0.0, 1.0, 1.0, 1.0], [1.0, 2.0, 1.0, 1.0], (0.0, 1.0)),
        ([1.0] * 4, None, (None, None)),
    ],
)
def test_other_numbers_are_no_proportion(values: list[float], weights: list[float] | None, bounds: tuple) -> None:
    result = mean_interval(values, weights, bounds=bounds)
    assert result is not None
    assert result.method == "Student's t"


def test_the_interval_of_a_logarithm_stays_positive() -> None:
    """Squared errors of which one is far larger: by the delta method, exp(t s / (mean sqrt n)) to either side."""
    v = np.array([1.0, 2.0, 40.0])
    result = mean_interval(list(v), logarithm=True)
    half = stats.t.ppf(0.975, 2) * stats.sem(v) / v.mean()
    assert result is not None
    assert (result.low, result.high) == pytest.approx((v.mean() * np.exp(-half), v.mean() * np.exp(half)), rel=1e-12)


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


def test_a_resample_without_weight_says_nothing() -> None:
    """Two of thirty images have weight: an eighth of the resamples hold neither, and have no score."""
    values, weights = [1.0, 2.0, *[7.0] * 28], [1.0, 1.0, *[0.0] * 28]
    mean = mean_interval(values, weights, resamples=500)
    assert mean is not None
    assert (mean.value, mean.low, mean.high) == (1.5, 1.0, 2.0)
    result = paired(values, [0.0] * 30, weights, weights, resamples=500)
    assert (result.difference, result.low, result.high) == (1.5, 1.0, 2.0)
