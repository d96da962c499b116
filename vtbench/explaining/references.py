"""Another reference set for distances of sets: images at the same view, or saved statistics of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench.images.opening import open_suite
from vtbench.images.stream import batches, source_of
from vtbench.images.views import View
from vtbench.running import pipeline
from vtbench.running.extracting import FeatureSink
from vtbench.scoring.references import SetReference
from vtbench.types.metric import SetMetric


@dataclass
class OtherReference:
    """`origin` as `open_reference` gives it. Features are kept below `scratch` by view and network, and made once."""

    origin: SetReference
    scratch: Path
    batch_size: int
    features: dict[tuple[View, str], Any] = field(default_factory=dict)

    def side(self, metric: SetMetric, view: View, least: int) -> tuple[Any, str | None]:
        """(what `metric` is compared with, None), or (None, why there is nothing). least: so many images it needs."""
        saved, why = self.origin.statistics_of(metric)
        if saved is not None:
            few = saved.n is not None and saved.n < least
            return (
                (None, f"{self.origin.path.name} is of {saved.n} images: {least:,} are needed")
                if few
                else (saved, None)
            )
        if self.origin.images is None:
            return (
                None,
                why or f"{self.origin.path.name} holds statistics only, and {metric.card.name} needs its images",
            )
        if self.origin.images.n < least:
            return None, f"{self.origin.path.name} holds {self.origin.images.n} images: {least:,} are needed"
        key = (view, metric.extractor().id)
        if key not in self.features:
            self.features[key] = self._extracted(metric, view)
        return self.features[key], None

    def _extracted(self, metric: SetMetric, view: View) -> Any:
        """float32 (n, dim) of the set's images, cut by the view as the originals are."""
        extractor = metric.extractor()
        scratch = self.scratch / f"reference-{len(self.features)}"
        sink = FeatureSink({extractor.id: extractor}, scratch, "reference")
        scratch.mkdir()
        lane = pipeline.Lane(self.origin.path.name, None, sink, side=0)
        pipeline.run([lane], self._pictures(view), pipeline.Pace(self.batch_size, 0))
        return sink.read(extractor.id)

    def _pictures(self, view: View) -> Iterator[pipeline.Batch]:
        images = self.origin.images
        if images is not None and not images.items and images.batches is not None:
            # An array of pictures, which are squares already.
            return ([(original,) for original in batch] for batch in images.batches(self.batch_size))
        suite = open_suite(str(self.origin.path))
        return batches([source_of(suite, view)], suite.items, self.batch_size)
