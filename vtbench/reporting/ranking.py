"""Places of systems of one question and kind, with ties from paired tests on the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vtbench.reporting.image_values import RowValues
from vtbench.reporting.measured import all_lossless, lossless_images, metric_version, newest_version, score, value
from vtbench.reporting.runs import identity, is_ranked
from vtbench.results.record import Run
from vtbench.statistics.intervals import RESAMPLES
from vtbench.statistics.ranks import Rank, ranks

TIED = 0.05
"""A system is tied with the one above it when the adjusted paired p is at least this."""
UNTESTED = "rank by value; ties not computed"


@dataclass(frozen=True)
class Place:
    """A rank from 1. `shared`: another system has the same one; `best`: the first, or not told apart from it."""

    rank: int
    shared: bool = False
    best: bool = False
    low: int | None = None
    high: int | None = None
    """95 % interval of the rank, from resamples of the images that all systems share; None where nothing was drawn."""
    p: float | None = None
    """Adjusted paired p against the system above; None where nothing was tested."""


@dataclass(frozen=True)
class Ranking:
    """Places by run id, the metric that decided, and in words how ties were found."""

    metric: str
    places: Mapping[str, Place] = field(default_factory=dict)
    how: str = ""
    better: str | None = None


def deciding(runs: Sequence[Run], metric: str) -> str:
    """The metric that ranks in place of `metric`: pooled PSNR as soon as one compared system has a lossless image."""
    if metric == "psnr" and any(lossless_images(r) for r in runs) and any(score(r, "psnr-pooled") for r in runs):
        return "psnr-pooled"
    return metric


def ranking(runs: Sequence[Run], metric: str, rows: RowValues | None = None) -> Ranking:
    """Places of the ranked runs of one question and kind under `metric`.

    Runs that are not ranked, and runs without a value, have no place. Systems whose images all come back identical
    stand first in PSNR. Ties come from paired tests on the same images where the runs hold per-image values
    (vtbench.statistics.ranks); otherwise only equal values tie, and `how` says so.
    """
    able = [r for r in runs if is_ranked(r)]
    decider = deciding(able, metric)
    newest = newest_version(able, decider)
    able = [r for r in able if metric_version(r, decider) == newest]
    better = next((s.better for r in able if (s := score(r, decider)) and s.better), None)
    if better not in ("higher", "lower"):
        return Ranking(decider, {}, "this metric has no better end, so it ranks nothing")
    scored = [(number, run) for run in able if (number := _goodness(run, decider, better)) is not None]
    scored.sort(key=lambda pair: (-pair[0], identity(pair[1])))
    if not scored:
        return Ranking(decider, {}, "no ranked system has a value")
    finite_ones = [run for number, run in scored if math.isfinite(number)]
    tests, how = _paired(finite_ones, decider, better, rows or RowValues())
    return Ranking(decider, _places(scored, tests), how, better)


def _goodness(run: Run, metric: str, better: str) -> float | None:
    """A number that is larger for the better system; infinite PSNR for one that gives back every image as it was."""
    if metric in ("psnr", "psnr-pooled") and all_lossless(run):
        return math.inf
    number = value(run, metric)
    return None if number is None else -number if better == "lower" else number


def _places(scored: Sequence[tuple[float, Run]], tests: Mapping[str, Rank]) -> dict[str, Place]:
    """Places by run id of systems in their order, those with an infinite value before the tested ones."""
    ranks_in_order: list[int] = []
    for index, (number, run) in enumerate(scored):
        test = tests.get(identity(run))
        tied = test is not None and test.tied_with_above and index > 0 and math.isfinite(scored[index - 1][0])
        equal = index > 0 and (tied or number == scored[index - 1][0])
        ranks_in_order.append(ranks_in_order[-1] if equal else index + 1)
    ahead = sum(not math.isfinite(number) for number, _ in scored)
    places = {}
    for rank, (_, run) in zip(ranks_in_order, scored, strict=True):
        test = tests.get(identity(run))
        places[identity(run)] = Place(
            rank=rank,
            shared=ranks_in_order.count(rank) > 1,
            best=rank == 1,
            low=test.low + ahead if test else None,
            high=test.high + ahead if test else None,
            p=test.p_above if test else None,
        )
    return places


def _paired(ordered: Sequence[Run], metric: str, better: str, rows: RowValues) -> tuple[Mapping[str, Rank], str]:
    """Rank intervals and ties by run id, on the images that every run has a value for; empty where there are none."""
    if len(ordered) < 2:
        return {}, ""
    pooled = metric == "psnr-pooled"
    per_image = [rows.errors(run) if pooled else rows.of(run, metric) for run in ordered]
    shared = [item for item in per_image[0] if all(item in other for other in per_image[1:])]
    if len(shared) < 2:
        return {}, f"{UNTESTED}: the runs hold no per-image values of this metric to pair"
    if any(len(other) != len(shared) for other in per_image):
        # The scores are over different images, so the order by value need not be the order on the shared ones.
        return {}, f"{UNTESTED}: the systems have values for different images"
    # Enough draws to tell p = 0.05 apart from chance, few enough that a page of 50,000 images is built in minutes.
    resamples = max(400, min(RESAMPLES, 8_000_000 // len(shared)))
    table = {
        identity(run): ([of_item[i][0] for i in shared], [of_item[i][1] for i in shared])
        for run, of_item in zip(ordered, per_image, strict=True)
    }
    tests = {r.name: r for r in ranks(table, better="lower" if pooled else better, resamples=resamples)}
    values = [value(run, metric) for run in ordered]
    by_rows = sorted(zip(ordered, values, strict=True), key=lambda pair: tests[identity(pair[0])].rank)
    if [v for _, v in by_rows] != values:
        # The rows do not say what the scores say (another reduction, or rows of another time): no pair to trust.
        return {}, f"{UNTESTED}: the per-image values put the systems in another order"
    how = (
        f"paired on the same {len(shared)} images; a system shares the place of the one above it when the "
        f"Holm-adjusted p is at least {TIED}; rank intervals from {resamples} resamples shared by all systems"
    )
    return tests, how
