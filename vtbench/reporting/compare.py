"""Paired comparison of runs on the same images: differences with intervals, tests with Holm's correction, win rates.

Runs of different protocols are refused with the field that differs. Logic only: reads run folders, prints nothing,
imports no torch.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtbench import registry
from vtbench.reporting.comparable import check_protocols, labels
from vtbench.reporting.image_values import (
    DECIBELS,
    Places,
    RowValues,
    pool_weights,
    pooled_psnr,
    squared_errors,
)
from vtbench.reporting.measured import metric_card, score
from vtbench.reporting.same_images import System, first_name, other_pictures, placed
from vtbench.reporting.values import finite
from vtbench.results.record import Run, find_runs, read_run
from vtbench.results.spill import Texts
from vtbench.statistics.intervals import RESAMPLES
from vtbench.statistics.paired import Paired, holm, paired
from vtbench.statistics.permutation import FEWEST
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.statistics.intervals import Floats

EXAMPLES = 10


@dataclass(frozen=True)
class Example:
    """An image on which two systems differ much; a value None is a lossless image (it has no PSNR)."""

    item: str
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Difference:
    """System A against system B under one metric, on the n images that both have.

    difference = score A - score B with its 95 % interval; p and sign_p are those of the paired permutation test and of
    the sign test, `_holm` the same adjusted over every test of the comparison; neither can tell systems apart on fewer
    than 6 images. wins: images where A is better (larger, if no end is better). Where an image of either is lossless, a
    PSNR (of images, of their worst tiles, after cycles) is compared as NAME-pooled and lossless wins.
    """

    metric: str
    a: str
    b: str
    better: str | None
    value_a: float | None = None
    value_b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p: float | None = None
    p_holm: float | None = None
    sign_p: float | None = None
    sign_p_holm: float | None = None
    wins: int = 0
    losses: int = 0
    ties: int = 0
    win_rate: float | None = None
    method: str = "none"
    why: str | None = None
    examples: tuple[Example, ...] = ()

    @property
    def verdict(self) -> str:
        """Which is better, or that the images cannot tell. Where a score is infinite, the sign test decides."""
        if self.n < FEWEST:
            return f"no verdict below {FEWEST} images"
        p = self.sign_p_holm if self.difference is None else self.p_holm
        if p is None or p >= 0.05:
            return "not told apart"
        if self.better is None:
            return "told apart, and neither end is better"
        if self.difference is None:
            return f"{self.a if self.wins > self.losses else self.b} is better"
        up = self.difference > 0 if self.better == "higher" else self.difference < 0
        return f"{self.a if up else self.b} is better"


@dataclass(frozen=True)
class Comparison:
    """Every pair of runs under every metric that both hold per image."""

    runs: tuple[str, ...]
    protocol: Mapping[str, Any]
    images: int
    differences: tuple[Difference, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Metrics that were not compared, and why."""
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        out = dataclasses.asdict(self)
        for written, difference in zip(out["differences"], self.differences, strict=True):
            written["verdict"] = difference.verdict
        return out

    def text(self) -> str:
        """The page that the command prints."""
        lines = [f"{' / '.join(self.runs)} on {self.images} common images"]
        for d in self.differences:
            name = f"{d.metric}: {d.a} - {d.b}"
            if d.difference is None:
                lines.append(f"{name}: no difference ({d.why or 'not measured'}); {_signs(d)}: {d.verdict}")
                continue
            span = "" if d.low is None or d.high is None else f" [{d.low:+.3g}, {d.high:+.3g}]"
            p = "" if d.p_holm is None else f", p = {d.p_holm:.2g}"
            lines.append(f"{name} = {d.difference:+.4g}{span}{p}, {_signs(d)}: {d.verdict}")
            most = ", ".join(e.item for e in d.examples[:3])
            lines.append(f"  differ most on {most}")
        lines += [f"{metric}: not compared ({why})" for metric, why in self.left_out.items()]
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])


def _signs(d: Difference) -> str:
    sign = "" if d.sign_p_holm is None else f", sign test p = {d.sign_p_holm:.2g}"
    # A shift of colour has no better end: `wins` then counts the larger values.
    more, less = ("better", "worse") if d.better else ("higher", "lower")
    return f"{d.a} {more} on {d.wins}, {less} on {d.losses}, equal on {d.ties} of {d.n}{sign}"


def compare(
    runs: Sequence[Path | Run],
    metrics: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int | None = None,
    rows: RowValues | None = None,
) -> Comparison:
    """Compares runs (folders, or as read) pair by pair under every metric of which both hold per-image values.

    `metrics` narrows the choice: names, or `path/to/file.py@name`. rows: where the runs' rows have been read before.
    Raises VtbenchError for fewer than two runs, different protocols, or no image in common.
    """
    read = [read_run(run) if isinstance(run, Path) else run for run in _expanded(runs)]
    if len(read) < 2:
        raise VtbenchError(f"a comparison needs at least two runs, {len(read)} was given")
    metrics = None if metrics is None else registry.metric_names(metrics)
    protocol = check_protocols(read)
    names = labels(read)
    kept = rows or RowValues()
    systems = placed([System(name, kept.read(run), run) for name, run in zip(names, read, strict=True)])
    others = other_pictures(systems)
    images = np.logical_and.reduce([system.places >= 0 for system in systems]) & ~others
    common, other = int(images.sum()), first_name(systems, others)
    if not common and other is not None:
        raise VtbenchError(
            f"{', '.join(str(r.path) for r in read)} scored other pictures under the same names (sha256 of "
            f"{other}): the files changed, or were read otherwise by another release; evaluate them again"
        )
    if not common:
        raise VtbenchError(f"{', '.join(str(r.path) for r in read)} have no image in common: nothing can be paired")
    notes = [
        f"{system.name} holds {len(system.values)} images, {common} are common to all"
        for system in systems
        if len(system.values) > common
    ]
    if other is not None:
        notes.append(f"{others.sum()} images are other pictures in one run than in another, and left out: {other}")
    left_out = _left_out(systems, metrics)
    compared = [m for m in _wanted(systems, metrics) if m not in left_out]
    draws = resamples or max(400, min(RESAMPLES, 500_000_000 // max(1, common)))
    systems = [replace(system, places=system.places[images], order=system.in_order(images)) for system in systems]
    differences = [
        _difference(metric, _better(read, metric), a, b, seed, draws)
        for metric in compared
        for a, b in itertools.combinations(systems, 2)
    ]
    adjusted, signs = holm([d.p for d in differences]), holm([d.sign_p for d in differences])
    differences = [replace(d, p_holm=p, sign_p_holm=s) for d, p, s in zip(differences, adjusted, signs, strict=True)]
    if len(differences) > 1:
        notes.append(f"p values are adjusted by Holm over all {len(differences)} comparisons")
    return Comparison(names, protocol, common, tuple(differences), left_out, tuple(notes))


def _expanded(runs: Sequence[Path | Run]) -> list[Path | Run]:
    """Every run at or below the folders."""
    out: list[Path | Run] = []
    for run in runs:
        out += [run] if isinstance(run, Run) else find_runs([Path(run)])
    return out


def _wanted(systems: Sequence[System], metrics: Sequence[str] | None) -> Sequence[str]:
    return metrics if metrics is not None else list(dict.fromkeys(m for s in systems for m in s.values.metrics))


def _left_out(systems: Sequence[System], metrics: Sequence[str] | None) -> dict[str, str]:
    """Metrics of which some system holds nothing per image -> the sentence that says so."""
    out = {}
    for metric in _wanted(systems, metrics):
        lacking = [system.name for system in systems if not system.values.column(metric).known.any()]
        if lacking:
            out[metric] = f"{', '.join(lacking)} holds no per-image value of it"
    return out


def _better(runs: Sequence[Run], metric: str) -> str | None:
    for run in runs:
        for stated in (score(run, metric), metric_card(run, metric)):
            if stated is not None and stated.better:
                return str(stated.better)
    return None


def _difference(metric: str, better: str | None, a: System, b: System, seed: int, resamples: int) -> Difference:
    columns = a.values.column(metric), b.values.column(metric)
    # In the order of the first's rows.
    places_a, places_b = a.places[a.order], b.places[a.order]
    both = columns[0].known[places_a] & columns[1].known[places_b]
    places_a, places_b = places_a[both], places_b[both]
    empty = Difference(metric, a.name, b.name, better)
    if not len(places_a):
        return replace(empty, why="no image has a value of both")
    (values_a, weights_a), (values_b, weights_b) = columns[0].at(places_a), columns[1].at(places_b)
    del columns, both
    examples = _examples(a.values.items, places_a, values_a, values_b)
    if np.isnan(values_a).any() or np.isnan(values_b).any():
        weights = pool_weights(metric, a.values.pixels[places_a])
        pooled = replace(empty, metric=f"{metric}-pooled", better="higher", examples=examples)
        return _pooled(pooled, values_a, values_b, weights, seed, resamples)
    result = paired(
        values_a, values_b, weights_a, weights_b, better=better, bounds=a.bounds(metric), seed=seed, resamples=resamples
    )
    mean_a, mean_b = _mean(values_a, weights_a), _mean(values_b, weights_b)
    return _filled(replace(empty, examples=examples), mean_a, mean_b, result)


def _mean(values: Floats, weights: Floats) -> float:
    # In the order of the images, one after the other: numpy sums in another order, which changes the last digit.
    one_by_one = zip(memoryview(weights), memoryview(values), strict=True)
    return sum(w * v for w, v in one_by_one) / sum(memoryview(weights))


def _pooled(
    empty: Difference, values_a: Floats, values_b: Floats, weights: Floats, seed: int, resamples: int
) -> Difference:
    """A lossless image has no PSNR: squared errors are pooled (0 for it), so that it counts for what it is."""
    errors_a, errors_b = squared_errors(values_a), squared_errors(values_b)
    result = paired(
        errors_a, errors_b, weights, weights, better="lower", scale=DECIBELS, seed=seed, resamples=resamples
    )
    pooled_a, pooled_b = (pooled_psnr(errors, weights) for errors in (errors_a, errors_b))
    return _filled(empty, pooled_a, pooled_b, result)


def _filled(empty: Difference, value_a: float, value_b: float, result: Paired) -> Difference:
    """The difference with its numbers; where a score is infinite, only with what the sign test says."""
    out = replace(
        empty,
        value_a=finite(value_a),
        value_b=finite(value_b),
        n=result.n,
        sign_p=result.sign_p,
        wins=result.wins,
        losses=result.losses,
        ties=result.ties,
        win_rate=result.win_rate,
        method=result.method,
    )
    lossless = [name for name, value in ((out.a, value_a), (out.b, value_b)) if not math.isfinite(value)]
    if lossless:
        why = f"{' and '.join(lossless)} returns every image identical and has no PSNR; the sign test decides"
        return replace(out, why=why)
    low, high = finite(result.low), finite(result.high)
    return replace(out, difference=finite(result.difference), low=low, high=high, p=result.p)


def _examples(names: Texts, places: Places, values_a: Floats, values_b: Floats) -> tuple[Example, ...]:
    """The images on which the two differ most, most first; lossless (NaN) against not is the largest difference. The
    images are at these places of the names."""
    gaps = np.abs(values_a - values_b)
    gaps[np.isnan(values_a) != np.isnan(values_b)] = np.inf
    gaps[np.isnan(values_a) & np.isnan(values_b)] = 0.0
    least = np.partition(gaps, -EXAMPLES)[-EXAMPLES] if len(gaps) > EXAMPLES else -np.inf
    # Of equals the first by name: of those that may be shown no more than the shown are in memory.
    able = np.flatnonzero(gaps >= least)
    named = zip(names.of(places[able]), able, strict=True)
    most = heapq.nsmallest(EXAMPLES, named, key=lambda one: (-gaps[one[1]], one[0]))
    return tuple(Example(name, finite(values_a[k]), finite(values_b[k])) for name, k in most)
