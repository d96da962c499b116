"""Another reference set for distances of sets: images at the same view, or saved statistics of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from vtbench.explaining.kept import Folders, own_code
from vtbench.images.opening import open_suite
from vtbench.images.sets import ImageSet, set_of_suite
from vtbench.images.views import View
from vtbench.running import kept_work
from vtbench.running.kept_sets import measured, of_good
from vtbench.scoring.loading import Metrics
from vtbench.scoring.references import SetReference
from vtbench.types.metric import SetMetric


@dataclass
class OtherReference:
    """`origin` as `open_reference` gives it. Features are made once by view and network; those of whole batches stay
    where the command is stopped, for the very same pictures."""

    origin: SetReference
    folders: Folders
    batch_size: int
    device: str = "cpu"
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
        images, metrics = self._pictures(view), Metrics((), {metric.card.name: metric})
        facts = {
            "reference": os.path.abspath(self.origin.path),
            "items": kept_work.of_items(images.items),
            "images": images.n,
            "view": view.fingerprint(),
            "batch": self.batch_size,
        }
        folder = self.folders.of(kept_work.place_of(facts, metrics, self.device, own_code()))
        seen, place = measured(images, metrics, folder, self.device, lambda _: None, batch=self.batch_size)
        return of_good(place, metric.extractor(), seen)

    def _pictures(self, view: View) -> ImageSet:
        images = self.origin.images
        if images is not None and not images.items and images.batches is not None:
            # An array of pictures, which are squares already.
            return images
        suite = open_suite(str(self.origin.path))
        return set_of_suite(suite, suite.items, view)
