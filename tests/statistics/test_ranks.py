"""Ranks of models whose differences are known."""

from __future__ import annotations

import numpy as np

from vtbench.statistics.ranks import ranks


def test_ranks_share_their_resamples_and_tie_what_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(10)
    base = rng.normal(30, 3, 120)
    table = {
        "worst": (list(base - 2 + rng.normal(0, 0.5, 120)), None),
        "best": (list(base), None),
        "twin": (list(base + rng.normal(0, 0.5, 120) - 0.0005), None),
    }
    first, second, third = ranks(table, better="higher", resamples=2000)
    assert {first.name, second.name} == {"best", "twin"}
    assert (first.low, first.high, second.low, second.high) == (1, 2, 1, 2)
    assert second.tied_with_above
    assert not first.tied_with_above
    assert (third.name, third.low, third.high, third.tied_with_above) == ("worst", 3, 3, False)
    assert [r.rank for r in ranks(table, better="lower", resamples=500)] == [1, 2, 3]
