"""One system's values under several choices, on the same images: each view is read and reconstructed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.explaining.choices import Choice
from vtbench.explaining.systems import Explained
from vtbench.images.reading import rgb_sha256
from vtbench.images.rounding import Rounding, rounded, to_float
from vtbench.images.seeds import image_seed
from vtbench.images.views import View
from vtbench.results.stores import FeatureFile
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, Metric, Reference, RowMetric, SetMetric, Value, measured

FID_IMAGES = 10_000
"""Below so many images a difference between two values of a metric of sets means nothing."""

Wanted = Mapping[Rounding, set[str]]
"""Names of metrics by the rounding under which they are measured."""


def too_few(metric: str, images: int) -> str | None:
    """Why `images` images have no value of a metric of sets; None where they are enough."""
    if images >= FID_IMAGES:
        return None
    return f"{images} images: a difference of {metric} means nothing below {FID_IMAGES:,}"


@dataclass(frozen=True)
class Metrics:
    """The metrics that are ready, by name, and why others are not."""

    ready: Mapping[str, Metric]
    unavailable: Mapping[str, str]

    @classmethod
    def load(cls, names: Iterable[str], device: str, images: int) -> Metrics:
        """Those of `names`, and what they read. The networks of metrics of sets are left alone where `images` images
        are too few for them: they are not needed to say so."""
        ready: dict[str, Metric] = {}
        unavailable: dict[str, str] = {}
        waiting = sorted(names)
        while waiting:
            name = waiting.pop()
            if name in ready or name in unavailable:
                continue
            metric = registry.metric(name)
            if not isinstance(metric, SetMetric) or too_few(name, images) is None:
                try:
                    metric.load(device)
                except VtbenchError as bad:
                    unavailable[name] = str(bad)
                    continue
            ready[name] = metric
            if isinstance(metric, RowMetric):
                waiting += metric.inputs
        return cls(ready, unavailable)

    def measurable(self, name: str, images: int) -> set[str]:
        """What must be measured on images for the metric `name`: itself, or the metrics that it reads."""
        metric = self.ready.get(name)
        inputs = metric.inputs if isinstance(metric, RowMetric) else (name,)
        kinds = (ImageMetric,) if too_few(name, images) else (ImageMetric, SetMetric)
        return {i for i in inputs if isinstance(self.ready.get(i), kinds)}


@dataclass(frozen=True)
class Score:
    """A choice's score: its value, and per-image (value, weight) where the score is their mean."""

    value: float | None
    why: str | None = None
    pairs: Mapping[str, tuple[float, float]] | None = None
    bounds: tuple[float | None, float | None] = (None, None)


Features = tuple[FeatureFile, FeatureFile]
"""Of originals and of candidates, float32 (n, dim) each."""


@dataclass
class Measurement:
    """Values by choice and item, (height, width) scored by view and item, and for metrics of sets the features of both
    sides by view, rounding and extractor, in files under `scratch`."""

    explained: Explained
    items: Sequence[Item]
    metrics: Metrics
    scratch: Path
    batch_size: int
    seed: int
    values: dict[Choice, dict[str, Value]] = field(default_factory=lambda: defaultdict(dict))
    features: dict[tuple[str, Rounding, str], Features] = field(default_factory=dict)
    sizes: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def measure(self, choices: Iterable[Choice]) -> None:
        """Measures what the choices need, each view once."""
        wanted: dict[str, dict[Rounding, set[str]]] = defaultdict(lambda: defaultdict(set))
        for choice in choices:
            wanted[choice.view][choice.rounding] |= self.metrics.measurable(choice.metric, len(self.items))
        size = self.explained.size
        for fit, roundings in wanted.items():
            if any(roundings.values()):
                view = View.parse("native" if fit == "native" or size is None else str(size), fit)
                self.measure_view(view, fit, roundings)

    def measure_view(self, view: View, name: str, wanted: Wanted) -> None:
        """name: the view's in the choices that will be asked for."""
        for start in range(0, len(self.items), self.batch_size):
            groups: dict[tuple[int, ...], list[tuple[Item, Any]]] = defaultdict(list)
            for item in self.items[start : start + self.batch_size]:
                rgb = view.apply(self.explained.suite.load(item))[0]
                groups[rgb.shape].append((item, rgb))
            for members in groups.values():
                self._measure_group(name, members, wanted)

    def _measure_group(self, view: str, members: Sequence[tuple[Item, Any]], wanted: Wanted) -> None:
        """members: items with their uint8 RGB (H, W, 3), all of one size."""
        import numpy as np
        import torch

        originals = torch.from_numpy(np.stack([rgb for _, rgb in members])).permute(0, 3, 1, 2).contiguous()
        hashes = [rgb_sha256(rgb) for _, rgb in members]
        items = [item for item, _ in members]
        seeds = [image_seed(self.seed, sha256) for sha256 in hashes]
        output = self.explained.system.produce(to_float(originals), seeds, items)
        alive = [i for i in range(len(members)) if i not in output.failed]
        if not alive:
            return
        kept = [items[i] for i in alive]
        for rounding, names in wanted.items():
            reference, candidate = rounded(originals[alive], output.images[alive], rounding)
            # Metrics keep what they computed on an original by its hash: a rounding of its own is another picture.
            batch = Batch(Reference(reference, kept, [f"{hashes[i]}/{rounding}" for i in alive]), candidate)
            self._keep_features(view, rounding, names, batch)
            self._keep_values(view, rounding, names, batch)
        height, width = int(originals.shape[2]), int(originals.shape[3])
        self.sizes.update({(view, item.id): (height, width) for item in kept})

    def _keep_features(self, view: str, rounding: Rounding, names: set[str], batch: Batch) -> None:
        metrics = [self.metrics.ready[name] for name in names]
        extractors = {e.id: e for metric in metrics if isinstance(metric, SetMetric) for e in [metric.extractor()]}
        for ident, extractor in extractors.items():
            key = (view, rounding, ident)
            if key not in self.features:
                where = self.scratch / str(len(self.features))
                files = (where.with_suffix(".ref"), where.with_suffix(".f32"))
                self.features[key] = (FeatureFile(files[0], extractor.dim), FeatureFile(files[1], extractor.dim))
            for file, images in zip(self.features[key], (batch.reference.images, batch.candidate), strict=True):
                file.append(extractor.extract(images))

    def _keep_values(self, view: str, rounding: Rounding, names: set[str], batch: Batch) -> None:
        for name in sorted(names):
            metric = self.metrics.ready[name]
            if isinstance(metric, ImageMetric):
                for item, value in zip(batch.reference.items, measured(name, metric, batch), strict=True):
                    self.values[Choice(view, rounding, name)][item.id] = value

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
        if files is None:
            return Score(None, "no image could be scored")
        reference, candidate = (file.read() for file in files)
        if too_few(choice.metric, len(candidate)):
            return Score(None, f"only {len(candidate)} images could be scored: {FID_IMAGES:,} are needed")
        whole = metric.finish(reference, candidate)
        return Score(whole.value, whole.why)

    def _of_rows(self, choice: Choice, metric: RowMetric) -> Score:
        columns = {name: self.values.get(replace(choice, metric=name), {}) for name in metric.inputs}
        items = [item for item in self.items if all(item.id in column for column in columns.values())]
        rows = []
        for item in items:
            values = {name: column[item.id] for name, column in columns.items()}
            rows.append(
                {
                    "item": item.id,
                    "size": self.sizes[choice.view, item.id],
                    "values": {name: v.value for name, v in values.items()},
                    "weights": {name: v.weight for name, v in values.items() if v.weight != 1.0},
                    "why": {name: v.why for name, v in values.items() if v.value is None},
                }
            )
        whole = metric.finish(rows, items)
        return Score(whole.value, whole.why)

    def _of_images(self, choice: Choice, metric: Metric) -> Score:
        column = self.values.get(choice, {})
        pairs = {item: (v.value, v.weight) for item, v in column.items() if v.value is not None}
        if not pairs:
            reasons = [v.why for v in column.values() if v.why]
            return Score(None, reasons[0] if reasons else "no image could be scored")
        total = sum(weight for _, weight in pairs.values())
        if total <= 0:
            return Score(None, "all weights are zero")
        mean = sum(value * weight for value, weight in pairs.values()) / total
        return Score(mean, None, pairs, metric.card.bounds)
