"""Tests of differences against SciPy and the textbook."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vtbench.reporting.image_values import DECIBELS
from vtbench.statistics.intervals import mean_interval
from vtbench.statistics.paired import PLAIN, holm, paired, sign_test
from vtbench.statistics.pairs import Systems, pair_p
from vtbench.statistics.permutation import FEWEST


def test_holm_equals_the_textbook() -> None:
    """Holm 1979: 0.01, 0.04, 0.03, 0.005 -> 0.03, 0.06, 0.06, 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.02]) == [None, 0.02]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_sign_test_equals_the_binomial() -> None:
    assert sign_test(9, 1) == pytest.approx(22 / 1024, rel=1e-12)
    assert sign_test(0, 0) is None


def test_the_interval_below_thirty_images_is_scipys_paired_t() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(1, 1, 15), rng.normal(0, 1, 15)
    result = paired(list(a), list(b))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), rel=1e-10)


def decibels(error: np.ndarray) -> np.ndarray:
    return 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("n", [2, 5, 9, 13])
@pytest.mark.parametrize("pooled", [False, True])
def test_p_equals_scipys_exact_permutation_test(n: int, pooled: bool) -> None:
    rng = np.random.default_rng(n)
    a, b, w = rng.gamma(1, 50, n), rng.gamma(1, 60, n), rng.integers(1, 9, n).astype(float)

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        means = [(w * v).sum(axis=axis) / w.sum() for v in (x, y)]
        return decibels(means[0]) - decibels(means[1]) if pooled else means[0] - means[1]

    settings = {"permutation_type": "samples", "n_resamples": np.inf, "vectorized": True}
    reference = stats.permutation_test((a, b), statistic, **settings)
    scale = {"scale": DECIBELS} if pooled else {}
    assert paired(list(a), list(b), list(w), list(w), **scale).p == pytest.approx(reference.pvalue, rel=1e-12)


def test_p_by_random_exchanges_nears_the_exact_one() -> None:
    """At 14 images both can be had; 10,000 random exchanges err by about sqrt(p (1 - p) / 10,000)."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 1, 14), rng.normal(0, 1, 14)
    reference = stats.permutation_test(
        (a, b),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    p = paired(list(a), list(b)).p
    assert p == pytest.approx(reference.pvalue, abs=5 * np.sqrt(reference.pvalue / 10_000))


@pytest.mark.parametrize("n", [2, 3, 5, 6, 10, 40])
def test_a_constant_difference_is_not_certain(n: int) -> None:
    """All of n differences alike speak as loud as n throws of a coin: 2 / 2^n, and never 0."""
    result = paired([31.0] * n, [30.0] * n)
    assert result.p is not None
    assert result.p == pytest.approx(max(2 / 2**n, 1 / 10_001) if n <= 13 else 1 / 10_001)
    assert (result.p < 0.05) == (n >= FEWEST)


def test_the_difference_of_two_proportions_is_bonett_and_prices() -> None:
    """By their formula (2012), 1 added to wins and losses: 3 won, 1 lost, 4 equal of 8."""
    a, b = [1.0, 1, 1, 0, 1, 0, 1, 0], [0.0, 0, 0, 1, 1, 0, 1, 0]
    result = paired(a, b)
    won, lost = 4 / 10, 2 / 10
    half = 1.959963984540054 * np.sqrt((won + lost - (won - lost) ** 2) / 10)
    assert (result.low, result.high) == pytest.approx((won - lost - half, won - lost + half), rel=1e-9)
    assert result.difference == pytest.approx(2 / 8)
    assert result.p == pytest.approx(stats.binomtest(3, 4).pvalue)  # McNemar's exact test
    same = paired([1.0] * 5, [1.0] * 5, bounds=(0.0, 1.0))
    assert same.low is not None
    assert same.low < -0.3, "five images say little of a sixth"


def test_the_interval_of_pooled_decibels_is_the_delta_methods() -> None:
    """d/dm 10 log10(255²/m) = -10 / (ln 10 m)."""
    rng = np.random.default_rng(5)
    a, b, w = rng.gamma(2, 50, 12), rng.gamma(2, 60, 12), rng.integers(1, 9, 12).astype(float)
    ma, mb = np.average(a, weights=w), np.average(b, weights=w)
    parts = 10 / np.log(10) * w / w.mean() * ((b - mb) / mb - (a - ma) / ma)
    half = stats.t.ppf(0.975, 11) * np.sqrt((parts**2).sum() / (12 * 11))
    result = paired(list(a), list(b), list(w), list(w), better="lower", scale=DECIBELS)
    assert result.difference == pytest.approx(decibels(ma) - decibels(mb))
    assert (result.high or 0) - result.difference == pytest.approx(half, rel=1e-10)


def test_pairing_sees_a_small_difference_that_two_intervals_hide() -> None:
    rng = np.random.default_rng(8)
    a = rng.normal(30, 4, 200)
    b = a - 0.1 + rng.normal(0, 0.2, 200)
    alone_a, alone_b = mean_interval(list(a)), mean_interval(list(b))
    assert alone_a is not None
    assert alone_b is not None
    assert alone_a.low is not None
    assert alone_b.high is not None
    assert alone_a.low < alone_b.high
    result = paired(list(a), list(b), better="higher")
    assert result.p is not None
    assert result.p < 0.001
    assert result.low is not None
    assert result.low > 0
    assert result.wins + result.losses + result.ties == 200
    lower = paired(list(a), list(b), better="lower")
    assert lower.wins == result.losses


def test_equal_models_do_not_differ() -> None:
    x = list(np.random.default_rng(9).random(100))
    result = paired(x, x)
    assert (result.difference, result.p, result.sign_p, result.ties) == (0.0, 1.0, None, 100)
    assert result.win_rate == 0.5


def test_systems_of_shares_among_which_nothing_differs_much() -> None:
    """No pair is left for the last test: the demo's word accuracies of seven texts."""
    values = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    (p,) = pair_p(Systems(values, np.ones_like(values), PLAIN, 0, 1000), [(0, 1)], 0.95)
    assert p == pytest.approx(1.0)


def test_what_cannot_be_compared_says_why() -> None:
    nothing, one = paired([], []), paired([31.0], [30.0])
    assert (nothing.difference, nothing.p, nothing.sign_p, nothing.win_rate) == (0.0, None, None, None)
    assert nothing.method == "none: no image in common"
    assert (one.difference, one.low, one.p, one.sign_p, one.method) == (1.0, None, None, 1.0, "none: one image")
    weightless = paired([1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [1.0, 1.0])
    assert (weightless.p, weightless.losses, weightless.method) == (None, 2, "none: no image in common")
    lossless = paired([0.0] * 8, [5.0] * 8, better="lower", scale=DECIBELS)
    assert (lossless.difference, lossless.p, lossless.low) == (np.inf, None, None)
    assert (lossless.sign_p, lossless.method) == (pytest.approx(2 / 2**8), "none: a score is infinite")


def test_an_exchange_that_leaves_a_side_without_weight_is_no_difference() -> None:
    """As it is 2 - 1; both exchanged 1 - 2; with one exchanged, a side has nothing left: 2 of 4 are as far apart."""
    assert paired([2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]).p == 0.5


def test_rounding_is_no_difference() -> None:
    """Weights of 3 for weights of 1: the same mean but for its last digits, in every resample."""
    values = list(np.random.default_rng(6).normal(30, 4, 60))
    result = paired(values, values, [1.0] * 60, [3.0] * 60)
    assert (result.low, result.high) == (0.0, 0.0)
    assert result.p == 1.0
    assert result.ties == 60
