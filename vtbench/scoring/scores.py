"""Rows -> scores: means with intervals, metrics of sets, of tokens, of rows. Reads what was written, holds no pixels.

Every score says under which protocol and view it was made; what has no value says why.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

from vtbench.images.protocols import ORIGINALS
from vtbench.images.stream import PROFILES_DIFFER
from vtbench.results.record import Score
from vtbench.results.stores import ScoredRows
from vtbench.scoring.fingerprint import fingerprint
from vtbench.scoring.loading import Metrics
from vtbench.scoring.measure import finish, not_finite
from vtbench.scoring.remarks import differing_profiles, marked
from vtbench.statistics.intervals import mean_interval
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import ImageMetric, MetricCard, ReadingMetric, RowMetric, SetMetric, SetValue, TokenMetric
from vtbench.types.tokens import Tokens

Rows = Callable[[], Iterator[Mapping[str, Any]]]
"""Gives the rows from the first on, as often as it is called."""


@dataclass(frozen=True)
class Asked:
    """What scores are of: the task's name, the metrics, the view (protocol, fingerprint), and against what."""

    task: str
    metrics: Metrics
    protocol: str
    view: str
    reference: str = ORIGINALS
    """In words; another reference is another number, so it is part of the fingerprint."""

    def score(self, card: MetricCard, value: float | None, n: int, missing: int, **more: Any) -> Score:
        """A score with all that the card and the question say of it."""
        return Score(
            task=self.task,
            metric=card.name,
            value=value,
            n=n,
            missing=missing,
            unit=card.unit,
            better=card.better,
            version=card.version,
            protocol=self.protocol,
            fingerprint=fingerprint(self.view, card.name, card.version, reference=self.reference),
            **more,
        )


class Totals:
    """Per-image values of one metric, gathered while rows go by: 16 bytes an image."""

    def __init__(self) -> None:
        self.values, self.weights = array("d"), array("d")
        self.why: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        """Those of `why` that are of images of which nothing could be measured."""
        self.missing = 0
        self.ceiling = array("d")

    def add(self, row: Mapping[str, Any], name: str) -> None:
        value = row["values"].get(name)
        if value is None:
            self.missing += 1
            own, failure = row["why"].get(name), row["why"].get("*")
            self.why[str(own or failure or "not measured")] += 1
            if failure and not own:
                self.failed[str(failure)] += 1
        else:
            self.values.append(value)
            self.weights.append(row.get("weights", {}).get(name, 1.0))
        if name in row.get("resize_only", {}):
            self.ceiling.append(row["resize_only"][name])

    def reason(self) -> str:
        """Why no image has a value: the commonest reason of those that were scored, as a file that cannot be read does
        not explain why the others have none; where none was, the commonest of those that failed."""
        scored = self.why - self.failed
        reasons = (scored or self.failed).most_common(1)
        if not reasons:
            return "no image was scored"
        reason, n = reasons[0]
        if not scored or not self.failed:
            return reason
        return f"{reason} ({n} of {self.missing} images; {self.failed.total()} could not be scored)"


@dataclass
class Tally:
    """One pass over the rows. `good`: the numbers of the rows that were scored, rising, `sizes` their (height, width);
    `times` and `counts`: seconds and costs an image by name, warm-up aside; `tiled`: images went through in parts."""

    totals: dict[str, Totals]
    n: int = 0
    good: MutableSequence[int] = field(default_factory=lambda: array("q"))
    sizes: list[tuple[int, int]] = field(default_factory=list)
    times: dict[str, MutableSequence[float]] = field(default_factory=dict)
    counts: dict[str, MutableSequence[float]] = field(default_factory=dict)
    tiled: bool = False
    profiles: Counter[str] = field(default_factory=Counter)
    """Colour profiles that originals state and that were not applied, and how many do."""
    differing: Counter[str] = field(default_factory=Counter)
    """Of pairs whose sides state different ones: both."""
    no_pixels: str | None = None
    """Why the images have no candidates to take features of."""

    @property
    def missing(self) -> int:
        return self.n - len(self.good)


def tally(
    rows: Iterable[Mapping[str, Any]], names: Iterable[str], times: Sequence[str] = ("encode", "decode")
) -> Tally:
    """Gathers the per-image metrics `names` and the seconds of `times`."""
    out = Tally({n: Totals() for n in names}, times={t: array("d") for t in times})
    known: dict[tuple[int, int], tuple[int, int]] = {}
    for index, row in enumerate(rows):
        out.n += 1
        for name, total in out.totals.items():
            total.add(row, name)
        if "*" in row["why"]:
            continue
        flags = row.get("flags", {})
        out.tiled = out.tiled or " tiles of " in flags.get("served", "")
        out.profiles.update([str(flags["profile"])] if "profile" in flags else ())
        out.differing.update([str(flags[PROFILES_DIFFER])] if PROFILES_DIFFER in flags else ())
        out.no_pixels = out.no_pixels or flags.get("no_pixels")
        out.good.append(index)
        size = int(row["size"][0]), int(row["size"][1])
        # One object for all images of one size.
        out.sizes.append(known.setdefault(size, size))
        seconds = row.get("seconds", {})
        for name, values in out.times.items():
            if not seconds.get("warm_up") and seconds.get(name) is not None:
                values.append(float(seconds[name]))
        for name, cost in row.get("cost", {}).items():
            out.counts.setdefault(name, array("d")).append(float(cost))
    return out


@dataclass(frozen=True)
class Sides:
    """What a metric of sets compares: features (n, dim) or saved statistics of the reference (None where it has none,
    `why` says so), features of the candidates; `note` is said beside the number."""

    reference: Any
    candidate: Any
    why: str | None = None
    note: str | None = None


SidesOf = Callable[[SetMetric, Tally], Sides]


@dataclass(frozen=True)
class Result:
    """The scores in the order asked for, and the per-image values of metrics over all tokens, by the rows scored."""

    scores: list[Score]
    per_image: dict[str, Sequence[float | None]]


def scores_of(
    asked: Asked,
    rows: Rows,
    seen: Tally,
    *,
    items: Sequence[Any] = (),
    tokens: Sequence[Tokens | None] | None = None,
    sides: SidesOf | None = None,
) -> Result:
    """Every score that was asked for. tokens: one entry a row, None where the system sends no codes; sides: how a
    metric of sets gets its features."""
    per_image: dict[str, Sequence[float | None]] = {}
    out: list[Score] = []
    for name, card in asked.metrics.cards().items():
        if name in asked.metrics.unavailable:
            # Weights would not help a metric of pixels where there are none.
            why = seen.no_pixels if card.kind in ("image", "set") else None
            out.append(asked.score(card, None, 0, seen.n, why=why or asked.metrics.unavailable[name]))
            continue
        metric = asked.metrics.ready[name]
        if isinstance(metric, ImageMetric):
            out.append(of_images(asked, metric.card, seen.totals[name]))
        elif isinstance(metric, TokenMetric):
            value = _of_tokens(name, metric, tokens, seen)
            if value.per_image is not None:
                per_image[name] = value.per_image
            out.append(of_set(asked, metric.card, value, len(seen.good), seen.missing))
        elif isinstance(metric, SetMetric):
            out.append(_of_sides(asked, metric, seen, sides, rows, per_image))
        elif isinstance(metric, RowMetric):
            value = _of_rows(name, metric, rows, items)
            if value.value is None and seen.no_pixels is not None and metric.reads_candidate:
                value = dataclasses.replace(value, why=seen.no_pixels)
            out.append(of_set(asked, metric.card, value, len(seen.good), seen.missing))
        else:
            raise VtbenchError(f"the metric {name} is of no known kind ({type(metric).__name__})", code=1)
    said = differing_profiles(seen.differing, len(seen.good))
    return Result([marked(score, said) if score.value is not None else score for score in out], per_image)


def of_images(asked: Asked, card: MetricCard, totals: Totals, seed: int = 0) -> Score:
    """The score of per-image values: sum(w v) / sum(w) with its 95 % interval."""
    details: dict[str, Any] = {"reduction": card.reduction}
    if totals.why:
        details["missing"] = dict(totals.why)
    lossless = sum(n for reason, n in totals.why.items() if reason.startswith("lossless"))
    if lossless:
        details["n_lossless"] = lossless
    if totals.ceiling:
        # What the same images score when they are resized to the model's size and back, without the model.
        details["resize_only"] = math.fsum(totals.ceiling) / len(totals.ceiling)
    if not totals.values or math.fsum(totals.weights) <= 0:
        return asked.score(card, None, 0, totals.missing, why=totals.reason(), details=details)
    mean = mean_interval(totals.values, totals.weights, bounds=card.bounds, seed=seed)
    if mean is None:
        raise VtbenchError(f"{card.name}: {len(totals.values)} values have no mean", code=1)
    details["interval"] = mean.why or mean.method
    # Through the rule of all numbers: a sum of finite values need not be finite.
    value = finish(card.name, lambda: SetValue(mean.value, mean.low, mean.high, len(totals.values), details=details))
    return of_set(asked, card, value, len(totals.values), totals.missing)


def of_set(asked: Asked, card: MetricCard, value: SetValue, n: int, missing: int) -> Score:
    """The score of a number over all images; n: how many there were, unless the number itself says of how many."""
    known = value.value is not None
    count = value.n if value.n is not None else (n if known else 0)
    return asked.score(
        card,
        value.value,
        count,
        missing,
        low=value.low,
        high=value.high,
        why=None if known else value.why or "not measured",
        warning=value.warning,
        details=dict(value.details),
    )


def _of_tokens(name: str, metric: TokenMetric, tokens: Sequence[Tokens | None] | None, seen: Tally) -> SetValue:
    if tokens is None or not seen.good:
        return SetValue(None, why="this system sends no discrete tokens")
    if seen.tiled:
        return SetValue(None, why="images went through the model in tiles: no list of tokens is one image's")
    return finish(name, lambda: metric.finish(ScoredRows(tokens, seen.good), seen.sizes), len(seen.good))


def _of_rows(name: str, metric: RowMetric, rows: Rows, items: Sequence[Any]) -> SetValue:
    return finish(name, lambda: metric.finish(_Rows(rows), items))


class _Rows(Sequence[Mapping[str, Any]]):
    """A run's rows as a list, read from its file as often as somebody goes through them; kept only for one who asks for
    them out of order."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept: list[Mapping[str, Any]] | None = None

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows() if self._kept is None else self._kept)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: Any) -> Any:
        if self._kept is None:
            self._kept = list(self._rows())
        return self._kept[index]


def _of_sides(
    asked: Asked,
    metric: SetMetric,
    seen: Tally,
    sides: SidesOf | None,
    rows: Rows,
    per_image: dict[str, Sequence[float | None]],
) -> Score:
    n, missing = len(seen.good), seen.missing
    card = metric.card
    if sides is None:
        return asked.score(card, None, 0, seen.n, why="a metric of sets needs the features of two sets")
    reads = isinstance(metric, ReadingMetric)
    if seen.no_pixels is not None and not reads:
        return asked.score(card, None, 0, seen.n, why=seen.no_pixels)
    if n < 2:
        return asked.score(card, None, 0, missing, why=f"{n} images were scored; a set needs two")
    both = sides(metric, seen)
    why = both.why or (too_few(both.reference) if metric.needs_reference else None)
    why = why or not_finite(card.name, originals=both.reference, candidates=both.candidate)
    if why is not None:
        return asked.score(card, None, 0, missing, why=why)
    if isinstance(metric, ReadingMetric):
        value = _of_reading(card.name, metric, both, rows)
        if value.per_image is not None:
            per_image[card.name] = value.per_image
    else:
        value = finish(card.name, lambda: metric.finish(both.reference, both.candidate))
    if both.note and value.value is not None:
        value = dataclasses.replace(value, warning="; ".join(filter(None, [value.warning, both.note])))
    return of_set(asked, card, value, n, missing)


def _of_reading(name: str, metric: ReadingMetric, both: Sides, rows: Rows) -> SetValue:
    """A number of what a model pools, with the class of every row that was scored."""
    read = [row.get("read") or {} for row in rows() if "*" not in row["why"]]
    why = next((why for one in read if (why := (one.get("why") or {}).get("features"))), None)
    if why is not None:
        return SetValue(None, why=why)
    classes = [one.get("class") for one in read]
    return finish(name, lambda: metric.finish_read(both.reference, both.candidate, classes), len(classes))


def too_few(reference: Any) -> str | None:
    """Why these features (n, dim) are no set to compare with; None for enough of them, and for saved statistics."""
    if isinstance(reference, Sized) and len(reference) < 2:
        return f"{len(reference)} reference images could be read; a set needs two"
    return None


def with_values(rows: Rows, per_image: Mapping[str, Sequence[float | None]], good: Sequence[int]) -> Iterator[Any]:
    """The rows with what a metric over all tokens says of each image, so that runs can be compared image by image."""
    place = 0
    for index, row in enumerate(rows()):
        values, scored = dict(row["values"]), place < len(good) and good[place] == index
        for name, column in per_image.items():
            value = column[place] if scored else None
            values.pop(name, None)
            if value is not None:
                values[name] = value
        place += scored
        yield {**row, "values": values}
