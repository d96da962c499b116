"""Intervals and paired differences under changes that must not matter, or must matter in one known way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtbench.statistics.intervals import Interval, mean_interval
from vtbench.statistics.paired import holm, paired

QUICK = settings(derandomize=True, max_examples=25, deadline=None, database=None)
RESAMPLES = 400
NUMBERS = st.integers(-1000, 1000).map(float)
"""Whole numbers: sums of them, and of their doubles, are exact."""


@st.composite
def samples(draw: Any, most: int = 40) -> tuple[list[float], list[float] | None]:
    """(values, weights or None): ties, constants, shares and one far value among them."""
    n = draw(st.integers(2, most))
    kind = draw(st.sampled_from(["any", "ties", "constant", "shares", "one far"]))
    choices = {"any": NUMBERS, "ties": st.sampled_from([0.0, 0.0, 3.0]), "shares": st.sampled_from([0.0, 1.0])}
    values = draw(st.lists(choices.get(kind, st.just(7.0)), min_size=n, max_size=n))
    if kind == "one far":
        values[0] = 5000.0
    weights = draw(st.none() | st.lists(st.integers(1, 60).map(float), min_size=n, max_size=n))
    return values, weights


def interval(values: list[float], weights: list[float] | None, **more: Any) -> Interval:
    out = mean_interval(values, weights, resamples=RESAMPLES, **more)
    assert out is not None
    assert out.low is not None
    assert out.high is not None
    return out


def near(number: float | None, scale: float = 1000.0) -> Any:
    return pytest.approx(number, rel=1e-9, abs=1e-9 * scale)


@given(samples(), st.booleans())
@QUICK
def test_an_interval_holds_its_estimate(sample: tuple[list[float], list[float] | None], logarithm: bool) -> None:
    values, weights = sample
    result = interval(values, weights, logarithm=logarithm)
    assert result.value == near(float(np.average(values, weights=weights)))
    assert (result.low or 0) - 1e-9 <= result.value <= (result.high or 0) + 1e-9
    assert result.n == len(values)


@given(samples(most=29), st.randoms(use_true_random=False))
@QUICK
def test_the_order_of_images_does_not_matter(sample: tuple[list[float], list[float] | None], random: Any) -> None:
    """Below thirty images; from there on resamples are drawn by place, and the ends differ by chance alone."""
    values, weights = sample
    order = list(range(len(values)))
    random.shuffle(order)
    one = interval(values, weights)
    two = interval([values[i] for i in order], weights and [weights[i] for i in order])
    assert (two.value, two.low, two.high) == (near(one.value), near(one.low), near(one.high))
    assert one.method == two.method


@given(samples(), st.sampled_from([0.5, 1.0, 8.0]), st.integers(-50, 50))
@QUICK
def test_another_unit_moves_an_interval_with_its_values(
    sample: tuple[list[float], list[float] | None], factor: float, shift: int
) -> None:
    """Bounds that are no share's keep 0 and 1 from being read as such in one unit and not in the other."""
    values, weights = sample
    anywhere = {"bounds": (-1e9, 1e9)}
    one, two = (interval(v, weights, **anywhere) for v in (values, [factor * v + shift for v in values]))
    assert two.value == near(factor * one.value + shift, 1e4)
    assert two.low == near(factor * (one.low or 0) + shift, 1e4)
    assert two.high == near(factor * (one.high or 0) + shift, 1e4)


@given(samples(), st.integers(2, 9))
@QUICK
def test_weights_speak_only_of_each_other(sample: tuple[list[float], list[float] | None], factor: int) -> None:
    values, weights = sample
    one = interval(values, weights)
    two = interval(values, [factor * w for w in weights or [1.0] * len(values)])
    assert (two.value, two.low, two.high) == (near(one.value), near(one.low), near(one.high))


@given(samples(most=33), st.integers(0, 2**31), st.sampled_from(["higher", "lower", None]))
@QUICK
def test_a_comparison_turned_round_says_the_opposite(
    sample: tuple[list[float], list[float] | None], seed: int, better: str | None
) -> None:
    a, weights = sample
    b = list(np.random.default_rng(seed).permutation(a) + np.random.default_rng(seed).integers(-2, 3, len(a)))
    one, two = (paired(*pair, weights, weights, better=better, resamples=RESAMPLES) for pair in ((a, b), (b, a)))
    assert two.difference == near(-one.difference)
    assert (two.wins, two.losses, two.ties) == (one.losses, one.wins, one.ties)
    assert two.p == near(one.p)
    assert two.sign_p == one.sign_p
    if len(a) < 30:
        assert (two.low, two.high) == (near(-(one.high or 0)), near(-(one.low or 0)))
        assert (one.low or 0) - 1e-9 <= one.difference <= (one.high or 0) + 1e-9


@given(samples(most=33), st.integers(0, 2**31), st.integers(-40, 40))
@QUICK
def test_what_both_systems_gain_is_no_difference(
    sample: tuple[list[float], list[float] | None], seed: int, shift: int
) -> None:
    a, weights = sample
    b = list(np.random.default_rng(seed).permutation(a))
    settings_of = {"resamples": RESAMPLES, "bounds": (-1e9, 1e9)}
    one = paired(a, b, weights, weights, **settings_of)  # type: ignore[arg-type]
    moved = ([x + shift for x in side] for side in (a, b))
    two = paired(*moved, weights, weights, **settings_of)  # type: ignore[arg-type]
    assert (two.difference, two.low, two.high) == (near(one.difference), near(one.low), near(one.high))
    assert (two.p, two.sign_p, two.wins) == (near(one.p), one.sign_p, one.wins)


@given(st.lists(st.none() | st.floats(0, 1), max_size=8), st.randoms(use_true_random=False))
@QUICK
def test_holms_p_belongs_to_its_test_whatever_the_order(p_values: list[float | None], random: Any) -> None:
    order = list(range(len(p_values)))
    random.shuffle(order)
    adjusted = holm(p_values)
    shuffled = holm([p_values[i] for i in order])
    assert [adjusted[i] for i in order] == shuffled
    known = [(p, q) for p, q in zip(p_values, adjusted, strict=True) if p is not None]
    assert all(q is not None and p <= q <= min(1.0, len(known) * p + 1e-15) for p, q in known)
    assert [q for _, q in sorted(known, key=lambda pair: pair[0])] == sorted(q for _, q in known if q is not None)
