"""Places of systems of one question and kind within bands of rate, from paired tests on the same images."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vtbench.reporting.image_values import DECIBELS, Column, ImageValues, Places, RowValues, numbered, places_of
from vtbench.reporting.measured import all_lossless, lossless_images, metric_version, newest_version, score, value
from vtbench.reporting.runs import curve_key, identity, is_ranked, suite_images
from vtbench.results.record import Run
from vtbench.statistics.paired import PLAIN
from vtbench.statistics.ranks import Rank, ranks

APART = 0.05
"""Two systems are told apart when the p of their pair, adjusted over all pairs of a ranking, is below this."""
UNTESTED = "rank by value; ties not computed"
RATE_BANDS = (0.1, 0.25, 0.5, 1.0)
"""Upper ends, in bits per pixel, of the bands within which systems are ranked: else the most bits would win."""


def band_order(rate: float) -> int:
    """Which band a rate in bits per pixel is in, from 0. To three decimals, as rates are shown: the length of a file
    or a header of some bytes does not move a system that spends what its band allows."""
    return bisect.bisect_left(RATE_BANDS, round(rate, 3))


def rate_band(rate: float) -> str:
    """The band of a rate in bits per pixel, in words."""
    index = band_order(rate)
    if index == len(RATE_BANDS):
        return f"> {RATE_BANDS[-1]:g} bit/px"
    return f"{RATE_BANDS[index - 1]:g}–{RATE_BANDS[index]:g} bit/px" if index else f"≤ {RATE_BANDS[0]:g} bit/px"


@dataclass(frozen=True)
class Place:
    """Where a system stands by value, from 1, among the `of` systems of its band (all, where there are no bands).

    `best`: the best by value, or not told apart from it; `shared`: another has exactly its value, or might as well
    stand here.
    """

    rank: int
    of: int
    shared: bool = False
    best: bool = False
    band: str = ""
    low: int | None = None
    high: int | None = None
    """Ranks that the tests of all pairs leave open, 95 % for all systems at once; None where nothing was tested."""
    p: float | None = None
    """Adjusted paired p against the best by value; None for the best, and where nothing was tested."""
    apart_from: str | None = None
    """The id of the first run further down from which it is told apart."""
    as_scored: bool = True
    """Whether the order is that of the scores, and not that of the images that all share, or of pooled errors."""


@dataclass(frozen=True)
class Ranking:
    """Places by run id, the metric that decided, and in words how ties were found. `alone`: ids of ranked runs that
    have no other system to stand beside, or no rate among systems that have one, and why."""

    metric: str
    places: Mapping[str, Place] = field(default_factory=dict)
    how: str = ""
    better: str | None = None
    alone: Mapping[str, str] = field(default_factory=dict)


def deciding(runs: Sequence[Run], metric: str) -> str:
    """The metric that ranks in place of `metric`: pooled PSNR as soon as one compared system has a lossless image."""
    if metric == "psnr" and any(lossless_images(r) for r in runs) and any(score(r, "psnr-pooled") for r in runs):
        return "psnr-pooled"
    return metric


def ranking(
    runs: Sequence[Run],
    metric: str,
    rows: RowValues | None = None,
    rates: Mapping[str, float | None] | None = None,
) -> Ranking:
    """Places of the ranked runs of one question and kind under `metric`, each within its band of `rates`.

    rates: bits per pixel by run id; without any, all stand in one band. Runs that are not ranked, runs without a value,
    and runs that are alone have no place. Systems whose images all come back identical stand first in PSNR. Where the
    runs hold per-image values, every pair is tested on the images that all have a value for, and places are those of
    these images; where some come back identical, of pooled errors (vtbench.statistics.ranks). Otherwise only equal
    values tie, and `how` says so.
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
    places: dict[str, Place] = {}
    alone: dict[str, str] = {}
    said: dict[str, None] = {}
    bands = _bands(scored, rates or {})
    for band, members in bands.items():
        keys = [identity(run) for _, run in members]
        if band is None:
            alone |= dict.fromkeys(keys, "no rate, and places are within bands of rate")
        elif len({curve_key(run) for _, run in members}) < 2:
            where = f"at {band}" if band else "here"
            alone |= dict.fromkeys(keys, f"no other ranked system of this kind {where}")
        else:
            tested = _paired([run for _, run in members], decider, better, rows or RowValues())
            if tested.others:
                alone |= dict.fromkeys(keys, tested.how)
                continue
            places |= _places(_in_order(members, tested), tested, band)
            said[tested.how] = None
    how = "; ".join([*(["within bands of rate"] if "" not in bands else []), *said]) if said else ""
    return Ranking(decider, places, how, better, alone)


def _bands(
    scored: Sequence[tuple[float, Run]], rates: Mapping[str, float | None]
) -> dict[str | None, list[tuple[float, Run]]]:
    """Systems by band, in their order: "" where none has a rate, None for one without a rate among others."""
    of = {identity(run): rates.get(identity(run)) for _, run in scored}
    if all(rate is None for rate in of.values()):
        return {"": list(scored)}
    out: dict[str | None, list[tuple[float, Run]]] = {}
    for number, run in scored:
        rate = of[identity(run)]
        out.setdefault(None if rate is None else rate_band(rate), []).append((number, run))
    return out


def _goodness(run: Run, metric: str, better: str) -> float | None:
    """A number that is larger for the better system; infinite PSNR for one that gives back every image as it was."""
    if metric in ("psnr", "psnr-pooled") and all_lossless(run):
        return math.inf
    number = value(run, metric)
    if number is None and better == "higher" and 0 < (suite_images(run) or 0) <= lossless_images(run, metric):
        return math.inf
    return None if number is None else -number if better == "lower" else number


@dataclass(frozen=True)
class _Tests:
    """Ranks by run id (empty where nothing was tested), and in words how. `goodness`: by run id what places go by in
    place of the scores; `others`: whether the systems have values of so different images that none can be placed."""

    how: str
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    goodness: Mapping[str, float] = field(default_factory=dict)
    others: bool = False


def _in_order(members: Sequence[tuple[float, Run]], tests: _Tests) -> list[tuple[float, Run]]:
    """The members of a band by what was tested, the best first, equals by id."""
    if not tests.goodness:
        return list(members)
    anew = [(tests.goodness[identity(run)], run) for _, run in members]
    return sorted(anew, key=lambda pair: (-pair[0], identity(pair[1])))


def _places(scored: Sequence[tuple[float, Run]], tests: _Tests, band: str) -> dict[str, Place]:
    """Places by run id of the systems of one band, in their order."""
    numbers = [number for number, _ in scored]
    places = {}
    for number, run in scored:
        test = tests.ranks.get(identity(run))
        places[identity(run)] = Place(
            rank=1 + numbers.index(number),
            of=len(scored),
            shared=test.low < test.high if test else numbers.count(number) > 1,
            best=test.best if test else number == numbers[0],
            band=band,
            low=test.low if test else None,
            high=test.high if test else None,
            p=test.p_best if test else None,
            apart_from=test.apart_from if test else None,
            as_scored=not tests.goodness,
        )
    return places


def _paired(ordered: Sequence[Run], metric: str, better: str, rows: RowValues) -> _Tests:
    """Tests on the images that every run has a value for."""
    read = [rows.read(run) for run in ordered]
    pooled = metric == "psnr-pooled"
    # A PSNR of parts, or after cycles, has none where nothing differs: there, as for pictures, errors are pooled.
    lossless = not pooled and any(values.lossless(metric) for values in read)
    per_image = [
        values.errors() if pooled else values.errors_of(metric) if lossless else values.column(metric)
        for values in read
    ]
    counts = [int(column.valued.sum()) for column in per_image]
    if not all(counts) or max(counts) < 2:
        return _Tests(f"{UNTESTED}: the runs hold no per-image values of this metric to pair")
    shared = _shared(read, per_image)
    n = len(shared[0])
    if n < 2:
        return _Tests("its values are of other images than those of the other systems", others=True)
    table = {identity(run): column.at(places) for run, column, places in zip(ordered, per_image, shared, strict=True)}
    errors = pooled or lossless
    in_order = ranks(table, better="lower" if errors else better, scale=DECIBELS if errors else PLAIN)
    alike = all(count == n for count in counts)
    which = f"same {n} images" if alike else f"{n} images that all have a value for"
    which += ", by pooled errors, as some images come back identical" if lossless else ""
    how = (
        f"every pair tested on the {which}, p adjusted by Holm over the pairs; a place is the range of ranks that the "
        "tests leave open"
    )
    by_id = {rank.name: rank for rank in in_order}
    if lossless or not alike:
        if not all(_says_its_score(run, metric, values) for run, values in zip(ordered, read, strict=True)):
            return _Tests(f"{UNTESTED}: the per-image values are not those of the scores")
        sign = -1 if errors or better == "lower" else 1
        return _Tests(how, by_id, {rank.name: sign * rank.value for rank in in_order})
    values = {identity(run): value(run, metric) for run in ordered}
    if [values[rank.name] for rank in in_order] != list(values.values()):
        # The rows do not say what the scores say (another reduction, or rows of another time): no pair to trust.
        return _Tests(f"{UNTESTED}: the per-image values put the systems in another order")
    return _Tests(how, by_id)


def _says_its_score(run: Run, metric: str, values: ImageValues) -> bool:
    """Whether the mean of a run's rows is its score."""
    column, stated = values.column(metric), value(run, metric)
    own, weights = column.at(np.flatnonzero(column.valued))
    total = math.fsum(weights)
    if stated is None or total <= 0:
        return stated is None
    return math.isclose(math.fsum(own * weights) / total, stated, rel_tol=1e-6, abs_tol=1e-9)


def _shared(read: Sequence[ImageValues], per_image: Sequence[Column]) -> list[Places]:
    """For every run where its rows have the images that all have a value for, in the order of the first's."""
    numbers, count = numbered(read)
    places = [places_of(of, count) for of in numbers]
    valued = (of[column.valued] for of, column in zip(numbers, per_image, strict=True))
    all_have = functools.reduce(np.intersect1d, valued)
    order = np.argsort(places_of(numbers[0], count, last=False)[all_have], kind="stable")
    return [of[all_have][order] for of in places]
