"""Ranks of models whose differences are known; scipy's paired t-test says which pairs are told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from vtbench.reporting.image_values import DECIBELS
from vtbench.statistics.ranks import Rank, ranks
from vtbench.types.errors import VtbenchError

Table = dict[str, tuple[list[float], None]]


def told_apart(table: Table) -> set[frozenset[str]]:
    """Pairs with a p below 0.05 by scipy's paired t-test, Holm's way: from the smallest p to the first that fails."""
    asked = itertools.combinations(table, 2)
    pairs = {frozenset(pair): stats.ttest_rel(*(table[name][0] for name in pair)).pvalue for pair in asked}
    out: set[frozenset[str]] = set()
    for place, (pair, p) in enumerate(sorted(pairs.items(), key=lambda item: item[1])):
        if p * (len(pairs) - place) >= 0.05:
            break
        out.add(pair)
    return out


@pytest.mark.parametrize("n", [24, 200])
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_ranks_of_eight_models_are_what_scipy_says_of_their_pairs(n: int, better: str) -> None:
    """Two twins, two more, three alone: every rank is 1 + the models told apart before it, to 8 - those behind it."""
    rng = np.random.default_rng(3)
    images = rng.normal(30, 4, n)
    truth = {"a": 3.0, "b": 3.0, "c": 2.0, "d": 1.0, "e": 0.0, "f": 0.0, "g": -1.0, "h": -5.0}
    sign = 1 if better == "higher" else -1
    table: Table = {name: (list(sign * (images + at + rng.normal(0, 0.3, n))), None) for name, at in truth.items()}
    apart = told_apart(table)
    assert apart == {frozenset(p) for p in itertools.combinations(truth, 2) if truth[p[0]] != truth[p[1]]}
    found = {rank.name: rank for rank in ranks(table, better=better, resamples=2000)}
    assert {name: (rank.low, rank.high) for name, rank in found.items()} == {
        **dict.fromkeys("ab", (1, 2)),
        "c": (3, 3),
        "d": (4, 4),
        **dict.fromkeys("ef", (5, 6)),
        "g": (7, 7),
        "h": (8, 8),
    }
    assert {name for name, rank in found.items() if rank.best} == {"a", "b"}
    assert {found[name].apart_from for name in "ab"} == {"c"}
    assert [rank.value for rank in ranks(table, better=better, resamples=400)] == pytest.approx(
        sorted((float(np.mean(v)) for v, _ in table.values()), reverse=better == "higher")
    )


@pytest.mark.parametrize("n", [24, 200])
def test_no_model_inherits_a_tie_from_its_neighbour(n: int) -> None:
    """Each neighbour of the chain is like the next, and the ends are 0.5 dB apart on every image."""
    rng = np.random.default_rng(5)
    best = rng.normal(26, 3, n)
    between = best - 0.25 + rng.normal(0, 4, n)
    between += best.mean() - 0.25 - between.mean()
    table: Table = {
        "best": (list(best), None),
        "between": (list(between), None),
        "last": (list(best - 0.5 + rng.normal(0, 0.05, n)), None),
    }
    assert told_apart(table) == {frozenset({"best", "last"})}
    found = {rank.name: rank for rank in ranks(table, better="higher", resamples=2000)}
    assert {name: (r.low, r.high, r.best) for name, r in found.items()} == {
        "best": (1, 2, True),
        "between": (1, 3, True),
        "last": (2, 3, False),
    }
    assert found["best"].apart_from == "last"
    assert found["between"].apart_from is None
    p = found["last"].p_best
    assert p is not None
    assert p < 0.05


def test_many_models_on_many_images_are_told_apart_for_all_the_adjustment() -> None:
    """No p of a resample is below 1 / 401, times 190 pairs; the width of the interval says how small it is."""
    rng = np.random.default_rng(7)
    images = rng.normal(30, 3, 60)
    table: Table = {f"m{i:02d}": (list(images - 0.5 * i + rng.normal(0, 0.2, 60)), None) for i in range(20)}
    found: list[Rank] = ranks(table, better="higher", resamples=400)
    assert [(rank.name, rank.low, rank.high) for rank in found] == [(f"m{i:02d}", i + 1, i + 1) for i in range(20)]
    assert [rank.name for rank in found if rank.best] == ["m00"]


def test_equal_models_share_every_rank() -> None:
    table: Table = {name: ([30.0, 31.0, 32.0, 33.0, 34.0, 35.0, 36.0], None) for name in "abc"}
    assert [(r.low, r.high, r.best) for r in ranks(table, better="higher")] == [(1, 3, True)] * 3


def test_a_lossless_system_is_held_against_others_by_the_sign_test() -> None:
    """Its pooled PSNR is infinite; p is 2 / 2^n, times three pairs."""
    rng = np.random.default_rng(9)
    for n, apart in ((8, True), (7, True), (6, False)):
        errors = rng.gamma(2, 40, n)
        table: Table = {
            "lossless": ([0.0] * n, None),
            "near": (list(errors), None),
            "far": (list(9 * errors * rng.lognormal(0, 0.1, n)), None),
        }
        found = {rank.name: rank for rank in ranks(table, better="lower", scale=DECIBELS)}
        assert list(found) == ["lossless", "near", "far"]
        assert (found["lossless"].high == 1) == apart
        assert found["near"].p_best == pytest.approx(3 * 2 / 2**n)
    assert ranks({}, better="higher") == []
    with pytest.raises(VtbenchError, match="same images"):
        ranks({"a": ([1.0, 2.0], None), "b": ([1.0], None)}, better="higher")
