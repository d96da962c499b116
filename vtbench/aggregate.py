"""Runs -> tables, curves, Pareto front, ranks. pandas lives here; torch never does.

Only runs of one question are ever compared: the same task and version, the same images (suite hash) in the same view
(fingerprint), and the same kind of system. Rate–distortion curves join the kinds; ranks never do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.results import Run, find_runs, read_run
from vtbench.types.errors import MissingExtra, VtbenchError

if TYPE_CHECKING:
    import pandas as pd

    from vtbench.intervals import Rank

KINDS = ("codec", "continuous", "discrete", "closed", "generator")
RATE = "bpp"
"""The rate that all kinds share: bits under a flat prior (a codec's own bitstream) per scored pixel."""

PEAK = 255.0
TIED = 0.05
"""A system is tied with the one above it when the adjusted paired p is at least this."""

COLUMNS = (
    "run", "model", "title", "family", "kind", "options", "curve", "knob", "knob_value", "task", "task_version",
    "suite", "suite_hash", "images", "view", "protocol", "fingerprint", "metric", "metric_version", "unit", "better",
    "value", "low", "high", "n", "missing", "why", "warning", "status", "ranked", "why_not_ranked", "limit", "weights",
    "dtype", "device", "seed", "vtbench",
)  # fmt: skip


def finite(value: Any) -> float | None:
    """A number that can be shown: None for null, text, NaN and infinities (a file from elsewhere may hold them)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def part(run: Run, name: str) -> Mapping[str, Any]:
    """A section of run.json; empty where the file has none (older or partial runs)."""
    found = run.info.get(name)
    return found if isinstance(found, Mapping) else {}


def identity(run: Run) -> str:
    return str(run.info.get("id", ""))


def kind(run: Run) -> str:
    return str(part(run, "model").get("kind", ""))


def options(run: Run) -> Mapping[str, Any]:
    found = part(run, "model").get("options")
    return found if isinstance(found, Mapping) else {}


def knob(run: Run) -> tuple[str | None, Any]:
    """The option that trades rate for quality and its value in this run."""
    name = part(run, "model").get("knob")
    return (str(name), options(run).get(name)) if name else (None, None)


def curve_key(run: Run) -> str:
    return str(part(run, "model").get("curve") or part(run, "model").get("name", ""))


def system(run: Run) -> str:
    """What is measured, whatever it is measured on: equal for runs of the same model, options, weights and dtype."""
    model = part(run, "model")
    told = [model.get("name"), options(run), model.get("weights"), model.get("adapter_sha256"), run.info.get("dtype")]
    return json.dumps(told, sort_keys=True, default=str)


Question = tuple[str, int, str, str, str, str]


def question(run: Run) -> Question:
    """What makes runs comparable: task, its version, the suite's hash, the view's name and fingerprint, the fit."""
    task, suite, view = part(run, "task"), part(run, "suite"), part(run, "view")
    version = finite(task.get("version"))
    return (
        str(task.get("name", "")),
        int(version or 0),
        str(suite.get("hash") or suite.get("name", "")),
        str(view.get("name", "")),
        str(view.get("fingerprint", "")),
        str(task.get("fit", "")),
    )


def made_by(run: Run) -> str | None:
    """The version of vtbench that made the run."""
    found = run.info.get("vtbench") or part(run, "provenance").get("vtbench")
    return str(found) if found else None


def is_ranked(run: Run) -> bool:
    return run.info.get("ranked") is True and run.info.get("status") == "complete"


def why_not_ranked(run: Run) -> str | None:
    """The reason, in words, of a run that is shown but not ranked."""
    if is_ranked(run):
        return None
    told = run.info.get("why_not_ranked")
    if told:
        return str(told)
    status = run.info.get("status")
    if status != "complete":
        return f"the run is {status or 'without a status'}"
    return "the run states no reason"


def value(run: Run, metric: str) -> float | None:
    score = run.score(metric)
    return finite(score.get("value")) if score else None


def _order(run: Run) -> tuple[Any, ...]:
    """Sorts by kind, family, curve, knob, question, id: never by where the files lie."""
    found = kind(run)
    setting = knob(run)[1]
    number = finite(setting)
    return (
        KINDS.index(found) if found in KINDS else len(KINDS),
        str(part(run, "model").get("family", "")),
        curve_key(run),
        (0, number, "") if number is not None else (1, 0.0, str(setting)),
        system(run),
        question(run),
        identity(run),
    )


def read(paths: Sequence[Path]) -> list[Run]:
    """Every run at or below `paths`, each id once (the complete one of two copies), in an order of their content."""
    best: dict[str, tuple[tuple[Any, ...], Run]] = {}
    for path in find_runs([Path(p) for p in paths]):
        run = read_run(path)
        sections = ("model", "task", "suite", "view")
        lacking = [f"{name}.name" for name in sections if not isinstance(part(run, name).get("name"), str)]
        lacking += [] if identity(run) else ["id"]
        if lacking:
            raise VtbenchError(f"{path / 'run.json'} states no {lacking[0]}, so it is no whole record: run it again")
        # Of two copies of one answer, the one that got further; a tie is broken by content, not by the path.
        content = json.dumps([run.info, run.scores], sort_keys=True, default=str)
        rank = (run.info.get("status") == "complete", len(run.scores), content)
        kept = best.get(identity(run))
        if kept is None or rank > kept[0]:
            best[identity(run)] = (rank, run)
    return sorted((run for _, run in best.values()), key=_order)


def records(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One flat record per run and metric, keys as in COLUMNS; missing is None and `why`."""
    out: list[dict[str, Any]] = []
    for run in runs:
        model, task, suite, view = part(run, "model"), part(run, "task"), part(run, "suite"), part(run, "view")
        weights = model.get("weights")
        knob_name, knob_value = knob(run)
        common = {
            "run": identity(run),
            "model": str(model.get("name", "")),
            "title": str(model.get("title") or model.get("name", "")),
            "family": model.get("family"),
            "kind": kind(run),
            "options": json.dumps(options(run), sort_keys=True, default=str),
            "curve": curve_key(run),
            "knob": knob_name,
            "knob_value": knob_value,
            "task": task.get("name"),
            "task_version": task.get("version"),
            "suite": suite.get("name"),
            "suite_hash": suite.get("hash"),
            "images": suite.get("n"),
            "view": view.get("name"),
            "protocol": view.get("protocol") or run.info.get("protocol"),
            "fingerprint": view.get("fingerprint"),
            "status": run.info.get("status"),
            "ranked": is_ranked(run),
            "why_not_ranked": why_not_ranked(run),
            "limit": run.info.get("limit"),
            "weights": weights.get("status") if isinstance(weights, Mapping) else None,
            "dtype": run.info.get("dtype"),
            "device": part(run, "device").get("kind"),
            "seed": run.info.get("seed"),
            "vtbench": made_by(run),
        }
        for score in run.scores:
            measured = finite(score.get("value"))
            why = score.get("why")
            if measured is None and not why:
                why = "the run states no reason"
            record = {
                **common,
                "metric": str(score.get("metric", "")),
                "metric_version": score.get("version"),
                "unit": score.get("unit", ""),
                "better": score.get("better"),
                "value": measured,
                "low": finite(score.get("low")),
                "high": finite(score.get("high")),
                "n": score.get("n"),
                "missing": score.get("missing", 0),
                "why": why,
                "warning": score.get("warning"),
            }
            out.append({name: record[name] for name in COLUMNS})
    return out


def scores_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One line per run and metric, columns as in COLUMNS; `value`, `low` and `high` are float64 (missing: NaN there
    only, since that is how pandas says missing; files get null)."""
    import pandas as pd

    table = pd.DataFrame(records(runs), columns=list(COLUMNS))
    for name in ("value", "low", "high"):
        table[name] = table[name].astype("float64")
    return table


@dataclass(frozen=True)
class Point:
    """One run on a rate–distortion plot: x bits per pixel, y quality with its 95 % interval where it has one."""

    run: Run
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """Runs that differ in their knob only, by increasing rate."""

    key: str
    title: str
    kind: str
    points: tuple[Point, ...] = ()
    knob: str | None = None


def rate(run: Run, others: Iterable[Run] = ()) -> float | None:
    """Bits per pixel of a run: its own, or that of the same system on the same images and view in another task."""
    own = value(run, RATE)
    if own is not None:
        return own
    mine, images = system(run), question(run)[2:]
    for other in others:
        if system(other) == mine and question(other)[2:] == images and other.info.get("limit") == run.info.get("limit"):
            found = value(other, RATE)
            if found is not None:
                return found
    return None


def curves(runs: Sequence[Run], y: str = "psnr", *, others: Sequence[Run] = (), cost: str | None = None) -> list[Curve]:
    """The curves of runs of one question; a run without a rate or without `y` has no point (it stays in the table).

    cost: a metric that stands on the axis in place of the rate, as what a generator's image takes.
    """
    found: dict[str, list[Point]] = {}
    for run in runs:
        at, score = rate(run, others) if cost is None else value(run, cost), run.score(y)
        quality = value(run, y)
        if at is None or at <= 0 or quality is None or score is None:
            continue
        point = Point(run, at, quality, finite(score.get("low")), finite(score.get("high")))
        found.setdefault(curve_key(run), []).append(point)
    out = []
    for key, points in found.items():
        first = points[0].run
        title = str(part(first, "model").get("title") or first.name)
        ordered = tuple(sorted(points, key=lambda p: (p.x, p.y, identity(p.run))))
        out.append(Curve(key, title, kind(first), ordered, knob(first)[0]))
    return out


def pareto(points: Sequence[tuple[float, float]], better: str = "higher") -> list[int]:
    """Indices, by increasing rate, of the (rate, quality) points that no other point beats.

    A point is beaten by one with no more rate and no worse quality that is strictly better in one of the two; of equal
    points all stay.
    """
    sign = -1.0 if better == "lower" else 1.0
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1], i))
    front: list[int] = []
    best: float | None = None
    at: tuple[float, float] | None = None
    for i in order:
        quality = sign * points[i][1]
        if best is None or quality > best:
            best, at = quality, points[i]
            front.append(i)
        elif points[i] == at:
            front.append(i)
    return front


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


@dataclass
class _Rows:
    """A run's rows as columns: `table[metric]` = values and weights in the order of `items`."""

    items: list[str] = field(default_factory=list)
    table: dict[str, tuple[list[float | None], list[float]]] = field(default_factory=dict)
    pixels: list[float] = field(default_factory=list)
    lossless: list[bool] = field(default_factory=list)


class RowValues:
    """Per-image values of runs, each run's rows read once."""

    def __init__(self) -> None:
        self._kept: dict[Path, _Rows] = {}

    def of(self, run: Run, metric: str) -> dict[str, tuple[float, float]]:
        """item -> (value, weight) of one metric; images without a value are left out."""
        rows = self._read(run)
        if metric not in rows.table:
            return {}
        values, weights = rows.table[metric]
        return {i: (v, w) for i, v, w in zip(rows.items, values, weights, strict=True) if v is not None}

    def errors(self, run: Run) -> dict[str, tuple[float, float]]:
        """item -> (mean squared error in grey levels squared, pixels): `mse` of the rows, else from PSNR."""
        rows = self._read(run)
        if "mse" in rows.table:
            values, sizes = rows.table["mse"][0], rows.pixels
            return {i: (v, size) for i, v, size in zip(rows.items, values, sizes, strict=True) if v is not None}
        if "psnr" not in rows.table:
            return {}
        out = {}
        for i, v, size, same in zip(rows.items, rows.table["psnr"][0], rows.pixels, rows.lossless, strict=True):
            if v is not None or same:
                out[i] = (0.0 if v is None else PEAK**2 / 10 ** (v / 10), size)
        return out

    def _read(self, run: Run) -> _Rows:
        if run.path in self._kept:
            return self._kept[run.path]
        out = _Rows()
        for count, row in enumerate(run.rows()):
            out.items.append(str(row.get("item", "")))
            size, why = row.get("size"), row.get("why")
            whole = isinstance(size, (list, tuple)) and len(size) == 2
            out.pixels.append(float(size[0] * size[1]) if whole and size is not None else 1.0)
            out.lossless.append(isinstance(why, Mapping) and str(why.get("psnr") or "").startswith("lossless"))
            found, weights = row.get("values"), row.get("weights")
            for name, given in (found if isinstance(found, Mapping) else {}).items():
                # A metric may begin in the middle of a file only if somebody wrote it so: earlier images have none.
                column, heavy = out.table.setdefault(str(name), ([None] * count, [1.0] * count))
                column.append(finite(given))
                weight = finite(weights.get(name)) if isinstance(weights, Mapping) else None
                heavy.append(1.0 if weight is None else weight)
            for column, heavy in out.table.values():
                if len(column) <= count:
                    column.append(None)
                    heavy.append(1.0)
        self._kept[run.path] = out
        return out


def lossless(run: Run, metric: str = "psnr") -> int:
    """How many images of the run are identical to their originals (they have no PSNR), as the score states it."""
    score = run.score(metric)
    details = score.get("details") if score else None
    found = finite(details.get("n_lossless")) if isinstance(details, Mapping) else None
    return int(found or 0)


def all_lossless(run: Run) -> bool:
    """Whether every image of the run came back identical."""
    images = finite(part(run, "suite").get("n"))
    return bool(images and value(run, "psnr") is None and lossless(run) >= images)


def deciding(runs: Sequence[Run], metric: str) -> str:
    """The metric that ranks in place of `metric`: pooled PSNR as soon as one compared system has a lossless image."""
    if metric == "psnr" and any(lossless(r) for r in runs) and any(r.score("psnr-pooled") for r in runs):
        return "psnr-pooled"
    return metric


def version(run: Run, metric: str) -> int:
    """The version of a metric in a run (0 where the run does not have it)."""
    return int(finite((run.score(metric) or {}).get("version")) or 0)


def newest_version(runs: Iterable[Run], metric: str) -> int:
    """Values of other versions of a metric are shown, never ranked against it."""
    return max((version(r, metric) for r in runs), default=0)


def ranking(runs: Sequence[Run], metric: str, rows: RowValues | None = None) -> Ranking:
    """Places of the ranked runs of one question and kind under `metric`.

    Runs that are not ranked, and runs without a value, have no place. Systems whose images all come back identical
    stand first in PSNR. Ties come from paired tests on the same images where the runs hold per-image values
    (vtbench.intervals.ranks); otherwise only equal values tie, and `how` says so.
    """
    able = [r for r in runs if is_ranked(r)]
    by = deciding(able, metric)
    newest = newest_version(able, by)
    able = [r for r in able if version(r, by) == newest]
    better = next((s["better"] for r in able if (s := r.score(by)) and s.get("better")), None)
    if better not in ("higher", "lower"):
        return Ranking(by, {}, "this metric has no better end, so it ranks nothing")
    sign = -1.0 if better == "lower" else 1.0

    def key(run: Run) -> float | None:
        if by in ("psnr", "psnr-pooled") and all_lossless(run):
            return math.inf
        found = value(run, by)
        return None if found is None else sign * found

    scored = [(k, r) for r in able if (k := key(r)) is not None]
    scored.sort(key=lambda pair: (-pair[0], identity(pair[1])))
    if not scored:
        return Ranking(by, {}, "no ranked system has a value")
    drawn, how = _paired([r for k, r in scored if math.isfinite(k)], by, str(better), rows or RowValues())
    ranks: list[int] = []
    for i, (found, run) in enumerate(scored):
        tested = drawn.get(identity(run))
        tied = tested is not None and tested.tied_with_above and i > 0 and math.isfinite(scored[i - 1][0])
        ranks.append(ranks[-1] if i and (tied or found == scored[i - 1][0]) else i + 1)
    ahead = sum(not math.isfinite(k) for k, _ in scored)
    places = {}
    for i, (_, run) in enumerate(scored):
        tested = drawn.get(identity(run))
        places[identity(run)] = Place(
            rank=ranks[i],
            shared=ranks.count(ranks[i]) > 1,
            best=ranks[i] == 1,
            low=tested.low + ahead if tested else None,
            high=tested.high + ahead if tested else None,
            p=tested.p_above if tested else None,
        )
    return Ranking(by, places, how, str(better))


def _paired(ordered: Sequence[Run], metric: str, better: str, rows: RowValues) -> tuple[Mapping[str, Rank], str]:
    """Rank intervals and ties by run id, on the images that every run has a value for; empty where there are none."""
    from vtbench.intervals import RESAMPLES, ranks

    if len(ordered) < 2:
        return {}, ""
    pooled = metric == "psnr-pooled"
    found = [rows.errors(run) if pooled else rows.of(run, metric) for run in ordered]
    shared = [item for item in found[0] if all(item in other for other in found[1:])]
    if len(shared) < 2:
        return {}, "rank by value; ties not computed: the runs hold no per-image values of this metric to pair"
    if any(len(other) != len(shared) for other in found):
        # The scores are over different images, so the order by value need not be the order on the shared ones.
        return {}, "rank by value; ties not computed: the systems have values for different images"
    # Enough draws to tell p = 0.05 apart from chance, few enough that a page of 50,000 images is built in minutes.
    resamples = max(400, min(RESAMPLES, 8_000_000 // len(shared)))
    table = {
        identity(run): ([values[i][0] for i in shared], [values[i][1] for i in shared])
        for run, values in zip(ordered, found, strict=True)
    }
    drawn = {r.name: r for r in ranks(table, better="lower" if pooled else better, resamples=resamples)}
    values = [value(run, metric) for run in ordered]
    by_rows = sorted(zip(ordered, values, strict=True), key=lambda pair: drawn[identity(pair[0])].rank)
    if [v for _, v in by_rows] != values:
        # The rows do not say what the scores say (another reduction, or rows of another time): no pair to trust.
        return {}, "rank by value; ties not computed: the per-image values put the systems in another order"
    how = (
        f"paired on the same {len(shared)} images; a system shares the place of the one above it when the "
        f"Holm-adjusted p is at least {TIED}; rank intervals from {resamples} resamples shared by all systems"
    )
    return drawn, how


@dataclass(frozen=True)
class Saving:
    """A curve against an anchor: BD-rate in percent (negative: fewer bits for the same quality), or None and why."""

    curve: Curve
    percent: float | None
    why: str | None = None


@dataclass(frozen=True)
class Savings:
    anchor: Curve
    metric: str
    lines: tuple[Saving, ...]
    several: bool
    """Whether any other system has points enough for a curve."""


def bd_table(found: Sequence[Curve], metric: str, better: str = "higher") -> Savings | None:
    """BD-rate of every curve against the codec curve with most points (the first of equals); None without an anchor."""
    from vtbench.metrics.bd import MIN_POINTS, bd_rate

    anchors = [c for c in found if c.kind == "codec" and len(c.points) >= MIN_POINTS]
    if not anchors:
        return None
    anchor = max(anchors, key=lambda c: len(c.points))
    lines = []
    for curve in found:
        if curve.key == anchor.key:
            continue
        try:
            delta = bd_rate([(p.x, p.y) for p in anchor.points], [(p.x, p.y) for p in curve.points], better)
            lines.append(Saving(curve, delta.value, delta.why))
        except MissingExtra as bad:
            lines.append(Saving(curve, None, str(bad)))
    several = any(len(line.curve.points) >= MIN_POINTS for line in lines)
    return Savings(anchor, metric, tuple(lines), several)
