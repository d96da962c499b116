"""Many pairs at once say what each pair's own test says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from vtbench.reporting.image_values import DECIBELS
from vtbench.statistics.paired import PLAIN, Scale, paired
from vtbench.statistics.pairs import Systems, pair_p
from vtbench.statistics.permutation import permutation_p

DRAWS = 500


def alone(one: np.ndarray, two: np.ndarray, weights: tuple[np.ndarray, np.ndarray], scale: Scale) -> float | None:
    """p of one pair by `paired`, sharpened by the width of its interval where draws cannot make it smaller."""
    result = paired(list(one), list(two), list(weights[0]), list(weights[1]), scale=scale, resamples=DRAWS)
    if not math.isfinite(result.difference):
        return result.sign_p
    p = result.p
    if p is None or result.low is None or result.high is None or p > 2.5 / (DRAWS + 1) or result.n < 30:
        return p
    error = (result.high - result.low) / (2 * float(ndtri(0.975)))
    return p if error <= 1e-9 * abs(result.difference) else min(p, float(2 * ndtr(-abs(result.difference) / error)))


@pytest.mark.parametrize("n", [1, 5, 9, 20, 40])
@pytest.mark.parametrize("values", ["means", "weighted", "decibels", "shares", "lossless"])
def test_pairs_at_once_are_pairs_alone(n: int, values: str) -> None:
    rng = np.random.default_rng(n)
    table = rng.normal(30, 1, (n, 1)) + rng.normal(0, 0.1, (n, 5)) + np.array([0.0, 0.02, 0.3, 2.0, 2.0])
    weights = rng.uniform(0.5, 2, (n, 5)) if values == "weighted" else np.ones((n, 5))
    scale = DECIBELS if values in ("decibels", "lossless") else PLAIN
    if values == "shares":
        table = (rng.uniform(size=(n, 5)) < np.array([0.1, 0.2, 0.5, 0.9, 1.0])).astype(float)
        table[:, 4] = rng.normal(0.5, 0.1, n)
    if values == "lossless":
        table[:, :2] = 0.0
    pairs = list(itertools.combinations(range(5), 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        at_once = pair_p(Systems(table, weights, scale, 0, DRAWS), pairs, 0.95)
        by_one = [alone(table[:, a], table[:, b], (weights[:, a], weights[:, b]), scale) for a, b in pairs]
    assert [p is None for p in at_once] == [p is None for p in by_one]
    for ours, theirs in zip(at_once, by_one, strict=True):
        # Both are sums of the same terms in another order.
        assert ours is None or ours == pytest.approx(theirs, rel=1e-9, abs=1e-300)


def test_where_one_draw_of_all_is_as_far_apart_the_width_speaks_too() -> None:
    """p of 2 / (draws + 1): the smallest but one that draws can give, which adjustments would lose."""
    rng = np.random.default_rng(4)
    base = rng.normal(30, 3, 40)
    shifts = [base + rng.normal(0.5, 1, 40) for _ in range(60)]
    values, weights = np.stack([base, *shifts], axis=1), np.ones((40, 61))
    pairs = [(0, k + 1) for k in range(60)]
    plain = [paired(list(base), list(other), resamples=DRAWS).p for other in shifts]
    second = [k for k, p in enumerate(plain) if p == pytest.approx(2 / (DRAWS + 1))]
    assert len(second) > 2
    given = pair_p(Systems(values, weights, PLAIN, 0, DRAWS), pairs, 0.95)
    ones = (weights[:, 0], weights[:, 0])
    for k in second:
        assert given[k] == pytest.approx(alone(base, shifts[k], ones, PLAIN))
    assert any((given[k] or 1) < 1.9 / (DRAWS + 1) for k in second)


@pytest.mark.parametrize("n", [6, 12, 14])
@pytest.mark.parametrize("scale", [PLAIN, DECIBELS])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_pairs_that_one_system_wins_on_every_image(n: int, scale: Scale, weight: float) -> None:
    """Draws that move no image, or all, are as far apart as the pair is; those that move one are nearer, but for an
    image on which the two are equal, or nearly so."""
    rng = np.random.default_rng(n)
    table = rng.uniform(20, 30, (n, 1)) + rng.uniform(0.5, 1, (n, 5)).cumsum(1)
    table[0, 1], table[1, 2] = table[0, 0], table[1, 0] + 1e-13
    # 40,000 draws of 14 images move none or all of them some five times.
    weights, draws = np.full((n, 5), weight), 40_000 if n == 14 else 500
    systems = Systems(table, weights, scale, 1, draws)
    pairs = list(itertools.combinations(range(5), 2))
    given = pair_p(systems, pairs, 0.95)
    for (a, b), p in zip(pairs, given, strict=True):
        whole = permutation_p(
            (table[:, a], weights[:, a]), (table[:, b], weights[:, b]), scale.of, resamples=draws, seed=1
        )
        student = paired(list(table[:, a]), list(table[:, b]), resamples=draws, seed=1).p
        assert p == pytest.approx(min(whole, student or 1.0) if scale is PLAIN else whole, rel=1e-9)
    assert n != 14 or systems.unmoved > 1
