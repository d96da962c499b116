"""Paired comparison of runs on the same images: differences with intervals, tests with Holm's correction, win rates.

Runs of different protocols are refused with the field that differs. Logic only: reads run folders, prints nothing,
imports no torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vtbench import intervals
from vtbench.results import Run, find_runs, read_run
from vtbench.types.errors import VtbenchError

EXAMPLES = 10
LOSSLESS = "lossless"
"""How the reason of a missing PSNR begins where the image came back identical."""
PEAK = 255.0


@dataclass(frozen=True)
class Example:
    """An image on which two systems differ much; a value None is a lossless image (it has no PSNR)."""

    item: str
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Difference:
    """System A against system B under one metric, on the n images that both have.

    difference = score A - score B with its 95 % interval; p and sign_p are those of the paired bootstrap (Student's t
    below 30 images) and of the sign test, `_holm` the same adjusted over every test of the comparison. wins: images
    where A is better (larger, if no end is better). Where an image of either is lossless, psnr is compared as
    `psnr-pooled` and lossless wins.
    """

    metric: str
    a: str
    b: str
    better: str | None
    value_a: float | None
    value_b: float | None
    difference: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    p_holm: float | None
    sign_p: float | None
    sign_p_holm: float | None
    wins: int
    losses: int
    ties: int
    win_rate: float | None
    method: str
    why: str | None = None
    examples: tuple[Example, ...] = ()

    @property
    def verdict(self) -> str:
        """Which is better, or that the images cannot tell."""
        if self.p_holm is None or self.difference is None or self.p_holm >= 0.05 or self.better is None:
            return "not told apart"
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
        for made, given in zip(out["differences"], self.differences, strict=True):
            made["verdict"] = given.verdict
        return out

    def text(self) -> str:
        """The page that the command prints."""
        lines = [f"{' / '.join(self.runs)} on {self.images} common images"]
        for d in self.differences:
            name = f"{d.metric}: {d.a} - {d.b}"
            if d.difference is None:
                lines.append(f"{name}: no difference ({d.why or 'not measured'}); {_signs(d)}")
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


def fields(run: Run) -> dict[str, Any]:
    """Everything that must be equal before numbers may stand side by side, by the name that a refusal uses."""
    info = run.info

    def look(*path: str) -> Any:
        found: Any = info
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    out = {
        "protocol": look("protocol"),
        "task": look("task", "name"),
        "task version": look("task", "version"),
        "task fit": look("task", "fit"),
        "suite": look("suite", "name"),
        "suite hash": look("suite", "hash"),
        "view": look("view", "name"),
        "view fingerprint": look("view", "fingerprint"),
    }
    metrics = info.get("metrics")
    for name, card in metrics.items() if isinstance(metrics, Mapping) else ():
        out[f"version of {name}"] = card.get("version") if isinstance(card, Mapping) else None
    return out


def check_protocols(runs: Sequence[Run]) -> dict[str, Any]:
    """The protocol that all runs share; raises VtbenchError naming the first field that differs."""
    first = fields(runs[0])
    for run in runs[1:]:
        other = fields(run)
        for name, value in first.items():
            # A metric that one run lacks is left out of the comparison, not a difference of protocol.
            if name.startswith("version of ") and name not in other:
                continue
            if other.get(name) != value:
                raise VtbenchError(
                    f"the runs answer different questions: {name} is {value!r} in {runs[0].path} and "
                    f"{other.get(name)!r} in {run.path}; compare runs of one protocol"
                )
    return first


@dataclass
class _Column:
    """One run's values of one metric by image: (value, weight), value None = lossless."""

    values: dict[str, tuple[float | None, float]] = field(default_factory=dict)


def _columns(run: Run) -> tuple[dict[str, _Column], dict[str, float], int]:
    """Values by metric, scored pixels of every image (1 where the rows do not say), number of rows."""
    out: dict[str, _Column] = {}
    pixels: dict[str, float] = {}
    count = 0
    for row in run.rows():
        count += 1
        item = str(row["item"])
        size = row.get("size")
        pixels[item] = float(size[0] * size[1]) if isinstance(size, (list, tuple)) and len(size) == 2 else 1.0
        weights = row.get("weights") or {}
        why = row.get("why") or {}
        for name, value in row["values"].items():
            if value is not None:
                out.setdefault(name, _Column()).values[item] = (float(value), float(weights.get(name, 1.0)))
        # A row holds no null: what has no value stands in `why` alone.
        for name, reason in why.items():
            if str(reason).startswith(LOSSLESS) and row["values"].get(name) is None:
                out.setdefault(name, _Column()).values[item] = (None, 1.0)
    return out, pixels, count


def labels(runs: Sequence[Run]) -> tuple[str, ...]:
    """A name for every run: the model's, with its options or its folder where names repeat."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return tuple(names)
    longer = []
    for run in runs:
        options = run.info.get("model", {}).get("options") or {}
        longer.append(f"{run.name} ({', '.join(f'{k}={v}' for k, v in sorted(options.items()))})")
    if len(set(longer)) == len(longer):
        return tuple(longer)
    return tuple(run.path.name for run in runs)


def compare(
    runs: Sequence[Path | Run], metrics: Sequence[str] | None = None, *, seed: int = 0, resamples: int | None = None
) -> Comparison:
    """Compares runs (folders, or as read) pair by pair under every metric of which both hold per-image values.

    `metrics` narrows the choice. Raises VtbenchError for fewer than two runs, different protocols, or no image in
    common.
    """
    read = [read_run(run) if isinstance(run, Path) else run for run in _expanded(runs)]
    if len(read) < 2:
        raise VtbenchError(f"a comparison needs at least two runs, {len(read)} was given")
    protocol = check_protocols(read)
    names = labels(read)
    found = [_columns(run) for run in read]
    images = set.intersection(*(set(pixels) for _, pixels, _ in found))
    if not images:
        raise VtbenchError(f"{', '.join(str(r.path) for r in read)} have no image in common: nothing can be paired")
    notes = [
        f"{name} holds {count} images, {len(images)} are common to all"
        for name, (_, _, count) in zip(names, found, strict=True)
        if count > len(images)
    ]
    everything = list(dict.fromkeys(m for columns, _, _ in found for m in columns))
    left_out = {}
    chosen = []
    for metric in metrics if metrics is not None else everything:
        lacking = [
            n for n, (columns, _, _) in zip(names, found, strict=True) if not columns.get(metric, _Column()).values
        ]
        if lacking:
            left_out[metric] = f"{', '.join(lacking)} holds no per-image value of it"
        else:
            chosen.append(metric)
    draws = resamples or max(400, min(intervals.RESAMPLES, 500_000_000 // max(1, len(images))))
    made = []
    for metric in chosen:
        better = _better(read, metric)
        for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
            columns = found[i][0][metric], found[j][0][metric]
            made.append(_difference(metric, better, a, b, columns, found[i][1], images, seed, draws))
    adjusted = intervals.holm([d.p for d in made])
    signs = intervals.holm([d.sign_p for d in made])
    made = [dataclasses.replace(d, p_holm=p, sign_p_holm=s) for d, p, s in zip(made, adjusted, signs, strict=True)]
    if len(made) > 1:
        notes.append(f"p values are adjusted by Holm over all {len(made)} comparisons")
    return Comparison(names, protocol, len(images), tuple(made), left_out, tuple(notes))


def _expanded(runs: Sequence[Path | Run]) -> list[Path | Run]:
    """Every run at or below the folders that were given."""
    out: list[Path | Run] = []
    for run in runs:
        out += [run] if isinstance(run, Run) else find_runs([Path(run)])
    return out


def _better(runs: Sequence[Run], metric: str) -> str | None:
    for run in runs:
        score = run.score(metric)
        if score is not None and score.get("better"):
            return str(score["better"])
        card = run.info.get("metrics", {}).get(metric)
        if isinstance(card, Mapping) and card.get("better"):
            return str(card["better"])
    return None


def _difference(
    metric: str,
    better: str | None,
    a: str,
    b: str,
    columns: tuple[_Column, _Column],
    pixels: Mapping[str, float],
    images: set[str],
    seed: int,
    resamples: int,
) -> Difference:
    one, two = (c.values for c in columns)
    items = [i for i in one if i in two and i in images]
    pairs = [(one[i], two[i]) for i in items]
    lossless = any(x[0] is None or y[0] is None for x, y in pairs)
    if not items:
        return Difference(
            metric, a, b, better, value_a=None, value_b=None, difference=None, low=None, high=None, n=0, p=None,
            p_holm=None, sign_p=None, sign_p_holm=None, wins=0, losses=0, ties=0, win_rate=None, method="none",
            why="no image has a value of both",
        )  # fmt: skip
    values_a, values_b = ([x[k][0] for x in pairs] for k in (0, 1))
    examples = _examples(items, values_a, values_b)
    if not lossless:
        result = intervals.paired(
            [v for v in values_a if v is not None],
            [v for v in values_b if v is not None],
            [x[0][1] for x in pairs],
            [x[1][1] for x in pairs],
            better=better,
            seed=seed,
            resamples=resamples,
        )
        mean_a, mean_b = (sum(x[k][1] * (x[k][0] or 0.0) for x in pairs) / sum(x[k][1] for x in pairs) for k in (0, 1))
        return _made(metric, a, b, better, mean_a, mean_b, result, examples)
    # A lossless image has no PSNR: squared errors are pooled (0 for it), so that it counts for what it is.
    errors_a, errors_b = ([0.0 if v is None else PEAK**2 / 10 ** (v / 10) for v in vs] for vs in (values_a, values_b))
    # An image's PSNR pools by its pixels; that of one tile (worst-tile-psnr) by the tile, all of one size.
    weights = [pixels.get(i, 1.0) if metric == "psnr" else 1.0 for i in items]
    result = intervals.paired(
        errors_a, errors_b, weights, weights, better="lower", transform=_psnr, seed=seed, resamples=resamples
    )
    pooled_a, pooled_b = (float(_psnr(np.array([np.average(e, weights=weights)]))[0]) for e in (errors_a, errors_b))
    return _made(f"{metric}-pooled", a, b, "higher", pooled_a, pooled_b, result, examples)


def _psnr(error: intervals.Floats) -> intervals.Floats:
    with np.errstate(divide="ignore"):
        found: intervals.Floats = 10 * np.log10(PEAK**2 / error)
    return found


def _made(
    metric: str,
    a: str,
    b: str,
    better: str | None,
    value_a: float,
    value_b: float,
    result: intervals.Paired,
    examples: tuple[Example, ...],
) -> Difference:
    def finite(x: float | None) -> float | None:
        return x if x is not None and math.isfinite(x) else None

    why = None
    if not (math.isfinite(value_a) and math.isfinite(value_b)):
        lossless = [n for n, v in ((a, value_a), (b, value_b)) if not math.isfinite(v)]
        why = f"{' and '.join(lossless)} returns every image identical and has no PSNR; the sign test decides"
    return Difference(
        metric, a, b, better, finite(value_a), finite(value_b), None if why else finite(result.difference),
        None if why else finite(result.low), None if why else finite(result.high), result.n,
        None if why else result.p, None, result.sign_p, None, result.wins, result.losses, result.ties,
        result.win_rate, result.method, why, examples,
    )  # fmt: skip


def _examples(
    items: Sequence[str], values_a: Sequence[float | None], values_b: Sequence[float | None]
) -> tuple[Example, ...]:
    """The images on which the two differ most, most first; lossless against not is the largest difference."""

    def gap(x: float | None, y: float | None) -> float:
        if x is None or y is None:
            return 0.0 if x is y else math.inf
        return abs(x - y)

    order = sorted(range(len(items)), key=lambda i: (-gap(values_a[i], values_b[i]), items[i]))
    return tuple(Example(items[i], values_a[i], values_b[i]) for i in order[:EXAMPLES])
