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
from vtbench.metrics import frechet, moments
from vtbench.reporting.image_values import DECIBELS
from vtbench.statistics import intervals
from vtbench.statistics.paired import holm, paired
from vtbench.statistics.permutation import EXACT, FEWEST

COUNTS = (2, 3, 5, 10, 30, 100)
"""Images."""
RESAMPLES = 1000
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


def statistics(trials: int = 500) -> list[str]:
    """Coverage of the intervals and level of the tests: lines of the page."""
    return [*interval_coverage(trials), *level_of_tests(trials), *holm_level(trials), *jackknife_coverage()]


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


def jackknife_coverage(trials: int = 300) -> list[str]:
    """Coverage of FID's interval for the expected value at its n, and of the bootstrap that is not used."""
    rng = np.random.default_rng(2)
    reference = moments.of(rng.normal(0, 1, (5000, 12)))
    drawn = [rng.normal(0.15, 1.1, (300, 12)) for _ in range(trials)]
    values = [frechet.distance(reference, moments.of(x)) for x in drawn]
    expected = float(np.mean(values))
    inside = 0
    for x in drawn:
        interval = frechet.interval(reference, x, paired=False)
        inside += interval is not None and interval.low is not None and interval.low <= expected <= (interval.high or 0)
    boot = []
    for x in drawn[:50]:
        again = [frechet.distance(reference, moments.of(x[rng.integers(0, 300, 300)])) for _ in range(20)]
        boot.append(float(np.mean(again)))
    shift = 100 * (float(np.mean(boot)) / float(np.mean(values[:50])) - 1)
    return [
        f"Fréchet distance, 300 images of 12 features, {frechet.GROUPS} groups: the jackknife's 95 % interval holds "
        f"the expected distance at this n in {100 * inside / trials:.1f} % of {trials} simulations. A bootstrap would "
        f"centre {shift:+.0f} % away: its duplicates look like a smaller set, which is why none is used.",
        "",
    ]


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
