"""Tests of differences against SciPy and the textbook."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vtbench.statistics.intervals import mean_interval
from vtbench.statistics.paired import holm, paired, sign_test


def test_holm_equals_the_textbook() -> None:
    """Holm 1979: 0.01, 0.04, 0.03, 0.005 -> 0.03, 0.06, 0.06, 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.02]) == [None, 0.02]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_sign_test_equals_the_binomial() -> None:
    assert sign_test(9, 1) == pytest.approx(22 / 1024, rel=1e-12)
    assert sign_test(0, 0) is None


def test_paired_t_equals_scipy_below_thirty_images() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(1, 1, 15), rng.normal(0, 1, 15)
    result = paired(list(a), list(b))
    reference = stats.ttest_rel(a, b)
    assert result.p == pytest.approx(reference.pvalue, rel=1e-10)
    interval = reference.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), rel=1e-10)


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
