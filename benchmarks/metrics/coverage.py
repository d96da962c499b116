"""Intervals and tests by simulation: how often an interval holds the truth, how often a test cries wolf.

`python -m benchmarks.metrics.coverage docs/metrics.md` writes the page's section on statistics anew, in a minute or
two, and leaves the rest of the page as it is. Seeded: the same releases of numpy and scipy give the same section.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics import simulated
from benchmarks.metrics.comparison import table
from vtbench.metrics import frechet, kid, legibility, moments
from vtbench.reporting.image_values import DECIBELS
from vtbench.statistics import intervals
from vtbench.statistics.paired import holm, paired
from vtbench.statistics.permutation import EXACT, FEWEST
from vtbench.statistics.ranks import ranks

COUNTS = (2, 3, 5, 10, 30, 100)
"""Images."""
RESAMPLES = 1000
TRIALS = 500
"""Simulations of a number on the page."""
HEADING = "## Statistics"


def simulate_coverage(source: simulated.Values, n: int, *, trials: int = 400, seed: int = 0) -> float:
    """Share of `trials` in which the interval of n values holds the truth."""
    rng = np.random.default_rng(seed)
    inside = 0
    for trial in range(trials):
        values, weights = source.draw(rng, n)
        interval = intervals.mean_interval(
            list(values), weights, seed=seed + trial, resamples=RESAMPLES, **source.settings
        )
        if interval is None or interval.low is None or interval.high is None:
            raise ValueError(f"{n} values have no interval")
        inside += bool(interval.low <= source.truth <= interval.high)
    return inside / trials


def simulate_level(source: simulated.Pair, n: int, *, trials: int = 400, seed: int = 0) -> dict[str, float]:
    """Share of `trials` of n images in which each paired test says p < 0.05 though A and B are equally good, and in
    which the interval of the difference holds 0. Without a number (an infinite score) nothing is claimed."""
    rng = np.random.default_rng(seed)
    hits = {"paired": 0, "sign": 0, "interval": 0}
    scale = {"scale": DECIBELS, "better": "lower"} if source.pooled else {}
    for trial in range(trials):
        a, b, weights = source.draw(rng, n)
        result = paired(
            list(a), list(b), weights, weights, seed=seed + trial, resamples=RESAMPLES, **scale, **source.settings
        )
        hits["paired"] += result.p is not None and result.p < 0.05
        hits["sign"] += result.sign_p is not None and result.sign_p < 0.05
        hits["interval"] += result.low is None or result.high is None or result.low <= 0 <= result.high
    return {name: count / trials for name, count in hits.items()}


def simulate_ranks(source: simulated.Ladder, n: int, *, trials: int = 200, seed: int = 0) -> tuple[float, float]:
    """(share of `trials` in which every system's range holds all ranks that it really has, share in which any two are
    told apart)."""
    rng = np.random.default_rng(seed)
    scale = {"scale": DECIBELS, "better": "lower"} if source.pooled else {"better": "higher"}
    held = apart = 0
    for trial in range(trials):
        table = {f"{i}": (list(values), None) for i, values in enumerate(source.draw(rng, n))}
        by_name = {r.name: r for r in ranks(table, seed=seed + trial, resamples=400, **scale)}  # type: ignore[arg-type]
        ranges = [(by_name[f"{i}"].low, by_name[f"{i}"].high) for i in range(len(source.truth))]
        held += all(low <= a and b <= high for (low, high), (a, b) in zip(ranges, source.truth, strict=True))
        apart += set(ranges) != {(1, len(ranges))}
    return held / trials, apart / trials


def statistics(trials: int = TRIALS) -> list[str]:
    """Coverage of the intervals and level of the tests: lines of the page."""
    return [
        *USES,
        *interval_coverage(trials),
        *level_of_tests(trials),
        *holm_level(trials),
        *rank_coverage(trials // 2),
        *jackknife_coverage(trials // 2),
        *legibility_coverage(trials // 10),
    ]


USES = table(
    ["statistic", "says"],
    [
        ["interval of a mean: Wilson, Student's t, BCa bootstrap", "scores of images, tokens and rows; `explain`"],
        ["interval of a paired difference: Bonett and Price, Student's t, BCa", "`compare`; the steps of `explain`"],
        ["paired permutation test, sign test, Holm's adjustment", "`compare`, places on the page"],
        ["range of ranks from the tests of all pairs", "places on the page"],
        ["delete-a-group jackknife", "FID, sFID, FD-DINOv2, KID, of 100 images and more"],
        ["percentile bootstrap over lines", "legibility"],
        ["none", "Inception Score, CMMD, KID by subsets, BD-rate: no interval, no verdict"],
    ],
)
"""Which numbers the simulations stand for."""


def interval_coverage(trials: int, counts: Sequence[int] = COUNTS) -> list[str]:
    """Lines on the intervals of scores."""
    rows: list[list[Any]] = [
        [name, *(f"{100 * simulate_coverage(source, n, trials=trials):.1f} %" for n in counts)]
        for name, source in simulated.values().items()
    ]
    error = 100 * 1.96 * math.sqrt(0.95 * 0.05 / trials)
    return [
        f"Share of {trials} simulated sets whose 95 % interval holds the true score (± {error:.1f} points by chance). "
        f"Proportions have Wilson's interval; other means Student's t below {intervals.SMALL} images (of the logarithm "
        "where errors are pooled and shown as decibels), the BCa bootstrap from there. What is far below 95 % is so "
        "because few images of a skewed or mostly constant kind do not show what the others are like: no interval from "
        "these values alone can know it.",
        "",
        *table(["values", *(f"n = {n}" for n in counts)], rows),
    ]


def level_of_tests(trials: int, counts: Sequence[int] = COUNTS) -> list[str]:
    """Lines on the tests of two equal systems, and the intervals of their difference."""
    rows: list[list[Any]] = []
    for name, source in simulated.pairs().items():
        levels = [simulate_level(source, n, trials=trials) for n in counts]
        cells = [f"{100 * x['paired']:.1f} / {100 * x['sign']:.1f} / {100 * x['interval']:.1f}" for x in levels]
        rows.append([name, *cells])
    return [
        f"Two equal systems on the same n images, {trials} times: per cent of the comparisons with p below 0.05 in the "
        f"paired test (exact permutations up to {EXACT} images, {RESAMPLES} random ones beyond) / in the sign test / "
        "whose 95 % interval of the difference holds 0. Right are at most 5 / at most 5 / about 95. Below "
        f"{FEWEST} images neither test can say p < 0.05, and `compare` gives no verdict. The sign test asks another "
        "question where differences are skewed: which system wins on more images.",
        "",
        *table(["compared", *(f"n = {n}" for n in counts)], rows),
    ]


def holm_level(trials: int) -> list[str]:
    """Family-wise error of ten comparisons of equal systems, with and without Holm."""
    rng = np.random.default_rng(1)
    plain = adjusted = 0
    for trial in range(trials):
        p = []
        for _ in range(10):
            d = rng.normal(0, 1, 20)
            p.append(paired(list(d), [0.0] * 20, seed=trial).p)
        plain += min(x for x in p if x is not None) < 0.05
        adjusted += min(x for x in holm(p) if x is not None) < 0.05
    return [
        f"Ten comparisons at once of equal systems: at least one p below 0.05 in {100 * plain / trials:.1f} % of "
        f"{trials} simulations without correction, in {100 * adjusted / trials:.1f} % with Holm's.",
        "",
    ]


def rank_coverage(trials: int, counts: Sequence[int] = COUNTS) -> list[str]:
    """Lines on the ranges of places."""
    rows: list[list[Any]] = []
    for name, source in simulated.ladders().items():
        shares = [simulate_ranks(source, n, trials=trials) for n in counts]
        rows.append([name, *(f"{100 * held:.1f} / {100 * apart:.1f}" for held, apart in shares)])
    return [
        f"Places of four systems on the same n images, {trials} times: per cent in which every system's range holds "
        "all ranks that it really has (equal systems share theirs), which should be 95 or more / in which any two are "
        "told apart, which of four equal ones should be 5 or less.",
        "",
        *table(["systems", *(f"n = {n}" for n in counts)], rows),
    ]


def jackknife_coverage(trials: int, counts: Sequence[int] = (100, 300)) -> list[str]:
    """Coverage of the intervals of FID and KID for the expected value at their n, and of the bootstrap that is not
    used."""
    shape, rows = (5000, 12), []
    reference = np.random.default_rng(2).normal(0, 1, shape)
    known = moments.of(reference)
    for name in ("FID against a fixed set", "FID of pairs (rFID)", "KID against a fixed set"):
        cells = []
        for n in counts:
            rng, spans = np.random.default_rng(n), []
            for _ in range(trials):
                x = rng.normal(0.15, 1.1, (n, shape[1]))
                original = x + rng.normal(0, 0.6, x.shape)
                spans.append(
                    frechet.interval(known, x, paired=False)
                    if name.startswith("FID against")
                    else frechet.interval(original, x, paired=True)
                    if name.startswith("FID of")
                    else kid.kid_interval(reference[:n], x)[1]
                )
            cells.append(f"{100 * _held(spans):.1f} %")
        rows.append([name, *cells])
    return [
        f"Fréchet distance and KID of 12 features, {frechet.GROUPS} groups: share of {trials} simulations in which the "
        "jackknife's 95 % interval holds the expected value at this n; fewer than 100 images have no interval. A "
        f"bootstrap of the distance would centre {_bootstrap_shift(known):+.0f} % away at 300: its duplicates look "
        "like a smaller set, which is why none is used.",
        "",
        *table(["value", *(f"n = {n}" for n in counts)], rows),
    ]


def legibility_coverage(trials: int, counts: Sequence[int] = (10, 30, 100)) -> list[str]:
    """Coverage of the interval of legibility's fit. Lines of one height differ by more than chance would make them."""
    middle, slope = math.log(9.2), 6.0
    cells = []
    for n in counts:
        rng, held, fits = np.random.default_rng(n), 0, 0
        for _ in range(trials):
            heights = np.exp(rng.uniform(math.log(5), math.log(20), n))
            share = 1 / (1 + np.exp(-slope * (np.log(heights) - middle)))
            right = rng.binomial(40, rng.beta(10 * share, 10 * (1 - share)))
            lines = [{"x_height": h, "chars": 40, "read_right": int(r)} for h, r in zip(heights, right, strict=True)]
            limit = legibility.Legibility().finish([{"lines": lines}], [])
            fits += limit.value is not None
            held += limit.low is not None and limit.high is not None and limit.low <= math.exp(middle) <= limit.high
        cells.append(f"{100 * held / max(1, fits):.0f} % of {fits}")
    return [
        f"Legibility, lines of 40 characters whose limit is {math.exp(middle):.1f} px: share of the fits in {trials} "
        "simulations whose 95 % interval holds the limit (where the points show no curve, the value is null).",
        "",
        *table(["value", *(f"{n} lines" for n in counts)], [["legibility", *cells]]),
    ]


def _held(spans: Sequence[intervals.Interval | None]) -> float:
    """Share of the intervals that hold the mean of all values."""
    expected = float(np.mean([i.value for i in spans if i is not None]))
    return float(np.mean([i is not None and (i.low or 0) <= expected <= (i.high or 0) for i in spans]))


def _bootstrap_shift(known: moments.Statistics) -> float:
    """How far, in per cent, the mean distance of resamples lies from the distance."""
    rng = np.random.default_rng(2)
    drawn = [rng.normal(0.15, 1.1, (300, 12)) for _ in range(50)]
    plain = [frechet.distance(known, moments.of(x)) for x in drawn]
    again = [frechet.distance(known, moments.of(x[rng.integers(0, 300, 300)])) for x in drawn for _ in range(20)]
    return 100 * (float(np.mean(again)) / float(np.mean(plain)) - 1)


def write_section(page: Path, lines: Sequence[str]) -> None:
    """Puts the lines into the page's section on statistics."""
    before, _, rest = page.read_text().partition(f"{HEADING}\n")
    _, mark, after = rest.partition("\n## ")
    if not mark:
        raise ValueError(f"{page} has no section {HEADING!r} with another behind it")
    body = "\n".join(lines).strip()
    page.write_text(f"{before}{HEADING}\n\n{body}\n{mark}{after}")


if __name__ == "__main__":
    write_section(Path(sys.argv[1]), statistics())
