"""One system's values under several choices, on the same images: each view goes once through the pipeline."""

from __future__ import annotations

import functools
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vtbench.explaining.choices import Choice
from vtbench.explaining.columns import Column
from vtbench.explaining.conventions import CONVENTIONS
from vtbench.explaining.kept import Asked, Features, Folders, Row, Sink, Wanted, facts_of
from vtbench.explaining.references import OtherReference
from vtbench.explaining.systems import Explained
from vtbench.images.stream import batches
from vtbench.images.views import View
from vtbench.running import pipeline
from vtbench.running.engine import lane_of, sources_of
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.scoring.measure import finish, not_finite
from vtbench.types.anew import Anew
from vtbench.types.conditions import Rounding
from vtbench.types.item import Item
from vtbench.types.metric import ImageMetric, Metric, RowMetric, SetMetric, SetValue

FID_IMAGES = 10_000
"""Below so many images a difference between two values of a metric of sets means nothing."""


def too_few(metric: str, images: int) -> str | None:
    """Why `images` images have no value of a metric of sets; None where they are enough."""
    if images >= FID_IMAGES:
        return None
    return f"{images} images: a difference of {metric} means nothing below {FID_IMAGES:,}"


def load(names: Iterable[str], device: str, images: int) -> Metrics:
    """The metrics `names` and what they read. The networks of metrics of sets are left alone where `images` images are
    too few for them: they are not needed to say so."""
    names = set(names)
    loaded = load_metrics(sorted(names - set(CONVENTIONS)), device, sets=images >= FID_IMAGES)
    return replace(loaded, ready={**loaded.ready, **{name: CONVENTIONS[name]() for name in names & set(CONVENTIONS)}})


def read_by(metrics: Metrics, name: str, images: int) -> set[str]:
    """What must be measured on images for the metric `name`: itself, or the metrics that it reads."""
    metric = metrics.ready.get(name)
    inputs = metric.inputs if isinstance(metric, RowMetric) else (name,)
    kinds = (ImageMetric,) if too_few(name, images) else (ImageMetric, SetMetric)
    return {i for i in inputs if isinstance(metrics.ready.get(i), kinds)}


@dataclass(frozen=True)
class Score:
    """A choice's score: its value, and those of the images where the score is their mean."""

    value: float | None
    why: str | None = None
    images: Column | None = None
    bounds: tuple[float | None, float | None] = (None, None)


@dataclass
class Measurement:
    """Values by choice and place in `items`, height and width scored by view (of the item at place k they stand at 2 k
    and 2 k + 1), and for metrics of sets the features of both sides by view, rounding and extractor, in files of
    `folders`, where every batch is kept as long as the command lasts."""

    explained: Explained
    items: Sequence[Item]
    metrics: Metrics
    folders: Folders
    batch_size: int
    seed: int
    reference: OtherReference | None = None
    device: str = "cpu"
    values: dict[Choice, Column] = field(default_factory=dict)
    features: dict[tuple[View, Rounding, str], Features] = field(default_factory=dict)
    sizes: dict[View, array[int]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Images that could not be read or reconstructed -> why."""
    profiles: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Images of which either side states a colour profile that was not applied -> (the original's, its picture's)."""

    @functools.cached_property
    def _facts(self) -> dict[str, Any] | None:
        """As they were before the first view was measured."""
        return facts_of(self.explained, self.items)

    def measure(self, choices: Iterable[Choice]) -> None:
        """Measures what the choices need, each view once."""
        wanted: dict[View, dict[Rounding, set[str]]] = defaultdict(lambda: defaultdict(set))
        for choice in choices:
            wanted[choice.view][choice.rounding] |= read_by(self.metrics, choice.metric, len(self.items))
        for view, roundings in wanted.items():
            if any(roundings.values()):
                self.measure_view(view, roundings)

    def measure_view(self, view: View, wanted: Wanted) -> None:
        """Raises VtbenchError if the system fails, and MetricFailed, with the image, if a metric does."""
        asked = Asked(self.explained, self.items, self.metrics, view, wanted, self.batch_size, self.seed, self.device)
        self.sizes.setdefault(view, array("q", [0]) * (2 * len(self.items)))
        sink = Sink(self.folders.of(asked.place(self._facts)), asked, functools.partial(self._take, view))
        begun = sink.begin()
        system = self.explained.system
        lane = lane_of(self.explained.name, system, sink)
        originals = batches(sources_of(self.explained.suite, view, system), self.items[begun:], self.batch_size)
        pace = pipeline.Pace(self.batch_size, 0)
        pipeline.run([lane], originals, pace, seed=self.seed, device=self.device)
        self.features.update({(view, *key): files for key, files in sink.features.items()})

    def _take(self, view: View, place: int, row: Row) -> None:
        """What a row says of the item at a place. Texts that many rows share are kept once."""
        item = self.items[place].id
        if "profiles" in row:
            original, picture = map(sys.intern, row["profiles"])
            self.profiles[item] = (original, picture)
        if "*" in row["why"]:
            self.left_out[item] = sys.intern(row["why"]["*"])
            return
        sizes = self.sizes[view]
        sizes[2 * place], sizes[2 * place + 1] = row["size"]
        for rounding, of in row["of"].items():
            weights = of.get("weights", {})
            for name in (*of["values"], *of["why"]):
                choice = Choice(view, rounding, name)
                if choice not in self.values:
                    self.values[choice] = Column(len(self.items))
                why = of["why"].get(name)
                why = None if why is None else sys.intern(why)
                self.values[choice].add(place, of["values"].get(name), weights.get(name, 1.0), why)

    @property
    def scored(self) -> int:
        """Images that were left in."""
        return len(self.items) - len(self.left_out)

    def score(self, choice: Choice) -> Score:
        """The score of a choice that was measured; value None needs why."""
        if choice.metric in self.metrics.unavailable:
            return Score(None, self.metrics.unavailable[choice.metric])
        metric = self.metrics.ready[choice.metric]
        if isinstance(metric, SetMetric):
            return self._of_sets(choice, metric)
        if isinstance(metric, RowMetric):
            return self._of_rows(choice, metric)
        return self._of_images(choice, metric)

    def _of_sets(self, choice: Choice, metric: SetMetric) -> Score:
        if why := too_few(choice.metric, len(self.items)):
            return Score(None, why)
        files = self.features.get((choice.view, choice.rounding, metric.extractor().id))
        reference, candidate = (file.read() for file in files) if files is not None else ((), ())
        if not len(candidate):
            return Score(None, "no image could be scored")
        if too_few(choice.metric, len(candidate)):
            return Score(None, f"only {len(candidate)} images could be scored: {FID_IMAGES:,} are needed")
        if choice.reference is not None and self.reference is not None:
            reference, why = self.reference.side(metric, choice.view, FID_IMAGES)
            if why is not None:
                return Score(None, why)
        why = not_finite(choice.metric, originals=reference, candidates=candidate)
        whole = SetValue(None, why=why) if why else finish(choice.metric, lambda: metric.finish(reference, candidate))
        return Score(whole.value, whole.why)

    def column(self, choice: Choice) -> Column:
        """The values of the images under a choice; none where it was not measured."""
        return self.values[choice] if choice in self.values else Column(len(self.items))

    def _of_rows(self, choice: Choice, metric: RowMetric) -> Score:
        columns = {name: self.column(replace(choice, metric=name)) for name in metric.inputs}
        places = [k for k in range(len(self.items)) if all(column.measured(k) for column in columns.values())]
        rows = _Rows(self.items, places, columns, self.sizes.get(choice.view, array("q")))
        whole = finish(choice.metric, lambda: metric.finish(rows, [self.items[k] for k in places]))
        return Score(whole.value, whole.why)

    def _of_images(self, choice: Choice, metric: Metric) -> Score:
        column = self.column(choice)
        if not column:
            return Score(None, next(iter(column.why.values()), "no image could be scored"))
        mean = column.mean()
        if mean is None:
            return Score(None, "all weights are zero")
        return Score(mean, None, column, metric.card.bounds)


@dataclass(frozen=True)
class _Rows(Anew[Mapping[str, Any]]):
    """The items at these places as rows of a run, each made when it is asked for."""

    items: Sequence[Item]
    places: Sequence[int]
    columns: Mapping[str, Column]
    sizes: array[int]

    def __len__(self) -> int:
        return len(self.places)

    def at(self, index: int) -> Mapping[str, Any]:
        place, columns = self.places[index], self.columns
        return {
            "item": self.items[place].id,
            "size": (self.sizes[2 * place], self.sizes[2 * place + 1]),
            "values": {name: column.values[place] if place in column else None for name, column in columns.items()},
            "weights": {name: column.weights[place] for name, column in columns.items() if column.weights[place] != 1},
            "why": {name: column.why[place] for name, column in columns.items() if place not in column},
        }
