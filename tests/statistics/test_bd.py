"""Bjøntegaard deltas: known answers, refusals, and the published Kodak curves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from vtbench.statistics.bd import bd_quality, bd_rate

CURVE = [(0.25, 28.0), (0.5, 31.0), (1.0, 34.0), (2.0, 37.5), (4.0, 41.0)]


def test_half_the_bits_is_minus_fifty_per_cent() -> None:
    delta = bd_rate(CURVE, [(r / 2, q) for r, q in CURVE])
    assert delta.value == pytest.approx(-50.0, abs=1e-9)
    assert delta.overlap == pytest.approx(1.0)
    assert bd_rate(CURVE, CURVE).value == pytest.approx(0.0, abs=1e-12)


def test_one_decibel_more_is_one_decibel() -> None:
    assert bd_quality(CURVE, [(r, q + 1) for r, q in CURVE]).value == pytest.approx(1.0, abs=1e-9)


def test_lower_is_better_turns_the_curve() -> None:
    lpips = [(r, 0.5 - 0.1 * math.log2(r)) for r, _ in CURVE]
    delta = bd_rate(lpips, [(r * 2, v) for r, v in lpips], better="lower")
    assert delta.value == pytest.approx(100.0, abs=1e-9)
    assert (delta.low, delta.high) == pytest.approx((0.3, 0.7))
    assert bd_quality(lpips, [(r, v - 0.05) for r, v in lpips], better="lower").value == pytest.approx(0.05)


def test_what_is_no_curve_is_null_with_its_reason() -> None:
    bent = [*CURVE[:3], (2.0, 33.0), CURVE[4]]
    assert "does not grow" in (bd_rate(CURVE, bent).why or "")
    assert "at least 4" in (bd_rate(CURVE[:3], CURVE).why or "")
    assert "the rate 0.25" in (bd_rate(CURVE, [(0.25, 27.0), *CURVE]).why or "")
    assert "no logarithm" in (bd_rate(CURVE, [(0.0, 20.0), *CURVE]).why or "")
    apart = bd_rate(CURVE, [(r, q + 9) for r, q in CURVE])
    assert apart.value is None
    assert "31 %" in (apart.why or "")
    assert bd_rate(CURVE, [(r, q + 50) for r, q in CURVE]).overlap == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("of_rate", [True, False])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_point_that_is_no_number_makes_no_curve(bad: float, of_rate: bool, place: int) -> None:
    """A lossless end has an infinite PSNR; a diverged one none. Sorting lets NaN stand anywhere."""
    points = [*CURVE[:place], (bad, 30.0) if of_rate else (0.3, bad), *CURVE[place:]]
    for delta in (bd_rate(CURVE, points), bd_rate(points, CURVE), bd_quality(CURVE, points), bd_rate(points, points)):
        assert delta.value is None
        assert "must be finite" in (delta.why or "")


def test_webp_against_jpeg_on_kodak_equals_an_integration_of_our_own(shared: Path) -> None:
    """SciPy's pchip of log rate over quality, integrated on a fine grid: the definition written out."""
    published = json.loads((shared / "data" / "kodak" / "published_rate_distortion.json").read_text())
    jpeg, webp = (list(zip(published[c]["bpp"], published[c]["psnr-rgb"], strict=True)) for c in ("jpeg", "webp"))
    low, high = max(jpeg[0][1], webp[0][1]), min(jpeg[-1][1], webp[-1][1])
    grid = np.linspace(low, high, 200_001)
    fits = [PchipInterpolator([q for _, q in c], np.log10([r for r, _ in c])) for c in (jpeg, webp)]
    mean = np.trapezoid(fits[1](grid) - fits[0](grid), grid) / (high - low)
    wanted = (10**mean - 1) * 100
    delta = bd_rate(jpeg, webp)
    assert delta.value == pytest.approx(wanted, abs=1e-3)
    assert -40 < (delta.value or 0) < -30
    backwards = bd_rate(webp, jpeg)
    assert (1 + (delta.value or 0) / 100) * (1 + (backwards.value or 0) / 100) == pytest.approx(1.0, abs=1e-9)


def test_a_curve_that_stands_still_is_none() -> None:
    flat = [(0.1, 30.0), (0.2, 33.0), (0.4, 33.0), (0.8, 36.0)]
    rising = [(0.1, 30.0), (0.2, 32.0), (0.4, 34.0), (0.8, 36.0)]
    assert "does not grow with rate between 0.2 and 0.4" in str(bd_rate(flat, rising).why)
    assert "does not grow with rate between 0.2 and 0.4" in str(bd_quality(rising, flat).why)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_deltas_are_those_of_the_package_bjontegaard(better: str) -> None:
    import bjontegaard

    rng = np.random.default_rng(3)
    sign = 1.0 if better == "higher" else -1.0
    for points in (4, 5, 9):
        rates, quality = (np.sort(rng.uniform(0.1, 4, (2, points))), np.sort(rng.uniform(20, 40, (2, points))))
        quality[1] = quality[0] + rng.uniform(-0.1, 0.1, points)
        quality.sort()
        one, two = (list(zip(rates[k].tolist(), (sign * quality[k]).tolist(), strict=True)) for k in (0, 1))
        asked = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
        wanted = bjontegaard.bd_rate(rates[0], quality[0], rates[1], quality[1], **asked)
        assert bd_rate(one, two, better).value == pytest.approx(wanted, rel=1e-12)
        if (delta := bd_quality(one, two, better)).value is not None:
            wanted = bjontegaard.bd_psnr(rates[0], quality[0], rates[1], quality[1], **asked)
            assert delta.value == pytest.approx(wanted, rel=1e-12)


def test_rates_beyond_all_measure_raise_nothing() -> None:
    tiny = [(r * 1e-300, q) for r, q in CURVE]
    huge = [(r * 1e300, q) for r, q in CURVE]
    assert bd_rate(tiny, huge).value == math.inf
    assert bd_rate(huge, tiny).value == pytest.approx(-100)
