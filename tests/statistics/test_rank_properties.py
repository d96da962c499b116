"""Ranks of systems under changes that must not matter, and what a range of places may say."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtbench.statistics.paired import holm, paired
from vtbench.statistics.ranks import Rank, ranks

QUICK = settings(derandomize=True, max_examples=25, deadline=None, database=None)
Table = dict[str, tuple[list[float], list[float] | None]]


@st.composite
def tables(draw: Any) -> Table:
    """Two to five systems on two to nine images: equal ones, close ones and far ones among them."""
    n, rng = draw(st.integers(2, 9)), np.random.default_rng(draw(st.integers(0, 2**31)))
    images = rng.integers(0, 40, n)
    levels = draw(st.lists(st.sampled_from([0, 0, 1, 2, 20]), min_size=2, max_size=5))
    spread = draw(st.sampled_from([0, 1, 6]))
    weights = draw(st.none() | st.just([float(w) for w in rng.integers(1, 9, n)]))
    rows = [images + level + (rng.integers(0, spread + 1, n) if spread else 0) for level in levels]
    return {f"system {i}": ([float(v) for v in row], weights) for i, row in enumerate(rows)}


def by_name(table: Table, better: str) -> dict[str, Rank]:
    return {rank.name: rank for rank in ranks(table, better=better, resamples=400)}


@given(tables(), st.sampled_from(["higher", "lower"]), st.randoms(use_true_random=False))
@QUICK
def test_the_order_of_systems_and_of_images_does_not_matter(table: Table, better: str, random: Any) -> None:
    names = list(table)
    random.shuffle(names)
    order = list(range(len(table[names[0]][0])))
    random.shuffle(order)
    shuffled: Table = {
        name: ([v[i] for i in order], w and [w[i] for i in order]) for name in names for v, w in [table[name]]
    }
    one, two = by_name(table, better), by_name(shuffled, better)
    for name in names:
        a, b = one[name], two[name]
        assert (a.low, a.high, a.best, a.apart_from) == (b.low, b.high, b.best, b.apart_from)
        assert a.value == pytest.approx(b.value, rel=1e-12)
        assert (a.p_best or -1.0) == pytest.approx(b.p_best or -1.0, rel=1e-9)


def test_two_that_are_equally_good_leave_the_others_their_places() -> None:
    """c is 0.1 below a on every image, and below b by what b scatters: whether it ties with the best must not depend
    on which of the two equals was named first."""
    a, b = [30.0] * 8, [26.0, 34.0] * 4
    table: Table = {"a": (a, None), "b": (b, None), "c": ([x - 0.1 for x in a], None)}
    wanted = by_name(table, "higher")
    assert not wanted["c"].best
    for names in itertools.permutations(table):
        assert by_name({name: table[name] for name in names}, "higher") == wanted


@given(tables(), st.sampled_from(["higher", "lower"]))
@QUICK
def test_ranges_are_what_the_tests_of_the_pairs_leave_open(table: Table, better: str) -> None:
    """Every pair tested here again, Holm over all; the range of a system holds its place by its mean."""
    by_value = [rank.name for rank in ranks(table, better=better, resamples=400)]
    pairs = [(a, b) for i, a in enumerate(by_value) for b in by_value[i + 1 :]]
    raw = [paired(*(table[n][0] for n in p), *(table[n][1] for n in p), better=better, resamples=400).p for p in pairs]
    apart = {pair for pair, p in zip(pairs, holm(raw), strict=True) if p is not None and p < 0.05}
    for place, (name, rank) in enumerate(by_name(table, better).items(), 1):
        assert by_value[place - 1] == name
        assert rank.low == 1 + sum(below == name for _, below in apart)
        assert rank.high == len(table) - sum(above == name for above, _ in apart)
        assert rank.low <= place <= rank.high
        assert rank.best == ((by_value[0], name) not in apart)
        behind = [other for other in by_value[place:] if (name, other) in apart]
        assert rank.apart_from == (behind[0] if behind else None)


@given(tables(), st.sampled_from(["higher", "lower"]))
@QUICK
def test_two_that_are_told_apart_cannot_change_places(table: Table, better: str) -> None:
    """The better of them is never left the last place, nor the worse the first; who has no rival ties with itself."""
    by_system = by_name(table, better)
    for rank in by_system.values():
        if rank.apart_from is None:
            assert rank.high == len(table)
            continue
        worse = by_system[rank.apart_from]
        assert rank.high < len(table)
        assert worse.low > 1
        assert rank.low < worse.high
        sign = 1 if better == "higher" else -1
        assert sign * rank.value > sign * worse.value
    first = next(iter(by_system.values()))
    assert first.best
    assert first.p_best is None


@given(tables(), st.integers(-30, 30), st.sampled_from([0.5, 4.0]))
@QUICK
def test_another_unit_ranks_the_same(table: Table, shift: int, factor: float) -> None:
    moved: Table = {name: ([factor * x + shift for x in v], w) for name, (v, w) in table.items()}
    turned: Table = {name: ([-x for x in v], w) for name, (v, w) in table.items()}
    wanted = {name: (r.low, r.high, r.best) for name, r in by_name(table, "higher").items()}
    assert {name: (r.low, r.high, r.best) for name, r in by_name(moved, "higher").items()} == wanted
    assert {name: (r.low, r.high, r.best) for name, r in by_name(turned, "lower").items()} == wanted
