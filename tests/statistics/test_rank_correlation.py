"""Rank correlation against scipy.stats, and its interval against the same draws counted otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vtbench.statistics.rank_correlation import rank_correlation
from vtbench.types.errors import VtbenchError

DICE = np.random.default_rng(5)
FAMILIES = [f"f{i // 3}" for i in range(24)]


@pytest.mark.parametrize("ties", [1, 3, 40])
def test_coefficients_are_scipys(ties: int) -> None:
    x, y = (np.round(DICE.normal(size=24) * ties) / ties for _ in range(2))
    ours = rank_correlation(x, y, FAMILIES, resamples=10)
    assert ours.spearman is not None
    assert ours.kendall is not None
    assert ours.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert ours.kendall.value == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    left = [stats.spearmanr(*(v[[f != one for f in FAMILIES]] for v in (x, y))).statistic for one in set(FAMILIES)]
    assert ours.without_one == pytest.approx((min(left), max(left)), abs=1e-12)


def test_the_interval_draws_whole_families() -> None:
    x = DICE.normal(size=24)
    y = x + DICE.normal(size=24)
    ours = rank_correlation(x, y, FAMILIES, seed=3, resamples=300)
    dice = np.random.Generator(np.random.PCG64(3))
    drawn = []
    for _ in range(300):
        index = [3 * k + i for k in dice.integers(8, size=8) for i in range(3)]
        drawn.append((stats.spearmanr(x[index], y[index]).statistic, stats.kendalltau(x[index], y[index]).statistic))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert ours.spearman is not None
    assert ours.kendall is not None
    assert (ours.spearman.low, ours.kendall.low) == pytest.approx(tuple(low), abs=1e-12)
    assert (ours.spearman.high, ours.kendall.high) == pytest.approx(tuple(high), abs=1e-12)


def test_copies_of_a_system_in_one_family_are_no_new_witnesses() -> None:
    x = DICE.normal(size=8)
    y = x + DICE.normal(size=8)
    names = [f"f{i}" for i in range(8)]
    once = rank_correlation(x, y, names, resamples=400)
    tenfold = rank_correlation(np.repeat(x, 10), np.repeat(y, 10), list(np.repeat(names, 10)), resamples=400)
    alone = rank_correlation(np.repeat(x, 10), np.repeat(y, 10), [str(i) for i in range(80)], resamples=400)
    widths = [r.spearman.high - r.spearman.low for r in (once, tenfold, alone) if r.spearman and r.spearman.high]
    assert widths[0] == pytest.approx(widths[1])
    assert widths[2] < widths[0] / 2


def test_too_few_or_equal_systems_have_no_coefficient() -> None:
    few = rank_correlation(range(7), range(7), "abcdefg")
    assert (few.spearman, few.n, few.why) == (None, 7, "7 systems: fewer than 8 give no coefficient")
    flat = rank_correlation([1.0] * 9, range(9), "abcdefghi")
    assert flat.spearman is None
    assert "equal in one of the two" in str(flat.why)
    two = rank_correlation(range(10), range(10), "aaaaabbbbb")
    assert two.spearman is not None
    assert (two.spearman.value, two.spearman.low) == (1.0, None)
    assert two.why_no_interval == "2 families: fewer than 5 give no interval"
    for bad in ([float("nan"), 1.0], [1.0]):
        with pytest.raises(VtbenchError):
            rank_correlation(bad, [1.0, 2.0], "ab")
