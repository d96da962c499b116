"""Intervals and tests against SciPy, arithmetic and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vtbench import intervals
from vtbench.types.errors import VtbenchError


def test_student_interval_equals_scipy_below_thirty_images() -> None:
    x = np.random.default_rng(1).normal(30, 4, 12)
    found = intervals.mean_interval(list(x))
    low, high = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.value == pytest.approx(x.mean(), rel=1e-14)


def test_bootstrap_equals_scipys_percentile_bootstrap() -> None:
    """Both are Monte Carlo: the quantiles of 10,000 resamples vary by about 2 % of the interval's width."""
    x = np.random.default_rng(2).exponential(1, 200)
    found = intervals.mean_interval(list(x))
    reference = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=10_000, rng=3).confidence_interval
    assert found is not None
    width = reference.high - reference.low
    assert found.low == pytest.approx(reference.low, abs=0.04 * width)
    assert found.high == pytest.approx(reference.high, abs=0.04 * width)


def test_weighted_score_and_its_bootstrap_resample_pairs() -> None:
    rng = np.random.default_rng(4)
    w = rng.integers(1, 50, 300).astype(float)
    v = rng.random(300)
    found = intervals.mean_interval(list(v), list(w))
    assert found is not None
    assert found.value == pytest.approx(np.average(v, weights=w), rel=1e-13)
    reference = stats.bootstrap(
        (v, w), lambda a, b: (a * b).sum() / b.sum(), method="percentile", paired=True, vectorized=False, rng=5
    ).confidence_interval
    width = reference.high - reference.low
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.05 * width)


def test_same_seed_same_interval_and_missing_values_are_left_out() -> None:
    x = [*np.random.default_rng(6).normal(0, 1, 50), None, None]
    assert intervals.mean_interval(x, seed=1) == intervals.mean_interval(x[:50], seed=1)
    assert intervals.mean_interval(x, seed=1) != intervals.mean_interval(x, seed=2)
    assert intervals.mean_interval([None]) is None
    one = intervals.mean_interval([3.0])
    assert one is not None
    assert one.low is None
    assert one.why
    with pytest.raises(VtbenchError, match="not finite"):
        intervals.mean_interval([float("nan"), 1.0])


def test_an_interval_stays_within_the_bounds_of_its_metric() -> None:
    found = intervals.mean_interval([1.0, 1.0, 0.9], bounds=(None, 1.0))
    assert found is not None
    assert found.high == 1.0


def test_counts_are_exact_sampling_with_replacement() -> None:
    """Every resample draws n images; a count is Binomial(n, 1/n): mean 1, variance 1 - 1/n."""
    drawn = np.concatenate(list(intervals.counts(40, 5000, seed=0)))
    assert (drawn.sum(axis=1) == 40).all()
    assert drawn.var() == pytest.approx(1 - 1 / 40, rel=0.02)
    assert np.cov(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(-1 / 40, abs=0.05)


def test_holm_equals_the_textbook() -> None:
    """Holm 1979: 0.01, 0.04, 0.03, 0.005 -> 0.03, 0.06, 0.06, 0.02."""
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([None, 0.02]) == [None, 0.02]
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0]


def test_sign_test_equals_the_binomial() -> None:
    assert intervals.sign_test(9, 1) == pytest.approx(22 / 1024, rel=1e-12)
    assert intervals.sign_test(0, 0) is None


def test_paired_t_equals_scipy_below_thirty_images() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(1, 1, 15), rng.normal(0, 1, 15)
    found = intervals.paired(list(a), list(b))
    reference = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-10)
    interval = reference.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-10)


def test_pairing_sees_a_small_difference_that_two_intervals_hide() -> None:
    rng = np.random.default_rng(8)
    a = rng.normal(30, 4, 200)
    b = a - 0.1 + rng.normal(0, 0.2, 200)
    alone_a, alone_b = intervals.mean_interval(list(a)), intervals.mean_interval(list(b))
    assert alone_a is not None
    assert alone_b is not None
    assert alone_a.low is not None
    assert alone_b.high is not None
    assert alone_a.low < alone_b.high
    found = intervals.paired(list(a), list(b), better="higher")
    assert found.p is not None
    assert found.p < 0.001
    assert found.low is not None
    assert found.low > 0
    assert found.wins + found.losses + found.ties == 200
    lower = intervals.paired(list(a), list(b), better="lower")
    assert lower.wins == found.losses


def test_equal_models_do_not_differ() -> None:
    x = list(np.random.default_rng(9).random(100))
    found = intervals.paired(x, x)
    assert (found.difference, found.p, found.sign_p, found.ties) == (0.0, 1.0, None, 100)
    assert found.win_rate == 0.5


def test_ranks_share_their_resamples_and_tie_what_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(10)
    base = rng.normal(30, 3, 120)
    table = {
        "worst": (list(base - 2 + rng.normal(0, 0.5, 120)), None),
        "best": (list(base), None),
        "twin": (list(base + rng.normal(0, 0.5, 120) - 0.0005), None),
    }
    first, second, third = intervals.ranks(table, better="higher", resamples=2000)
    assert {first.name, second.name} == {"best", "twin"}
    assert (first.low, first.high, second.low, second.high) == (1, 2, 1, 2)
    assert second.tied_with_above
    assert not first.tied_with_above
    assert (third.name, third.low, third.high, third.tied_with_above) == ("worst", 3, 3, False)
    assert [r.rank for r in intervals.ranks(table, better="lower", resamples=500)] == [1, 2, 3]


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    """With groups of one image, the jackknife of a mean is s / sqrt(n) exactly (Efron and Stein)."""
    x = np.random.default_rng(11).normal(0, 1, 20)
    found = intervals.jackknife(float(x.mean()), [float(np.delete(x, i).mean()) for i in range(20)])
    low, high = stats.t.interval(0.95, 19, loc=x.mean(), scale=stats.sem(x))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)


def test_coverage_and_level_by_simulation() -> None:
    """400 trials: a true 95 % shows between 92 and 98 %; the percentile bootstrap of 5 images is far below."""

    def normal(rng: np.random.Generator, n: int) -> tuple[np.ndarray, None]:
        return rng.normal(0, 1, n), None

    def alike(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        common = rng.normal(0, 1, n)
        return common + rng.normal(0, 1, n), common + rng.normal(0, 1, n)

    assert 0.92 <= intervals.simulate_coverage(normal, 0.0, 5) <= 0.98
    assert intervals.simulate_coverage(normal, 0.0, 5, method="bootstrap") < 0.9
    assert 0.92 <= intervals.simulate_coverage(normal, 0.0, 100, resamples=600) <= 0.98
    level = intervals.simulate_level(alike, 100, resamples=600)
    assert 0.02 <= level["paired"] <= 0.08
    assert level["sign"] <= 0.08
