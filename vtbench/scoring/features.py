"""Features of both sides of a run, one record an image, and the originals' own, kept for the next model."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.results.stores import FeatureFile
from vtbench.scoring.scores import Sides, Tally
from vtbench.types.environment import cache_dir
from vtbench.types.metric import Extractor, SetMetric


def feature_name(extractor_id: str) -> str:
    """The extractor's id as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in extractor_id)


def reference_features(extractor_id: str, suite_hash: str, view: str) -> Path:
    """Where the originals' features of a whole suite at a view are kept for the next model."""
    key = hashlib.sha256(f"{extractor_id}\0{suite_hash}\0{view}".encode()).hexdigest()[:24]
    return cache_dir() / "features" / f"{key}.f32"


@dataclass(frozen=True)
class FeaturePlace:
    """Where a run's features lie: in its folder; `suite` and `view` (None: never kept) name the originals' in the
    cache."""

    folder: Path
    suite: str | None = None
    view: str | None = None

    def candidate(self, extractor: Extractor) -> FeatureFile:
        return FeatureFile(self.folder / "features" / f"{feature_name(extractor.id)}.f32", extractor.dim)

    def own_reference(self, extractor: Extractor) -> FeatureFile:
        return FeatureFile(self.folder / "features" / f"{feature_name(extractor.id)}.reference.f32", extractor.dim)

    def kept(self, extractor: Extractor) -> Path | None:
        """The originals' features in the cache; None where this run does not use it."""
        if self.suite is None or self.view is None:
            return None
        return reference_features(extractor.id, self.suite, self.view)

    def reference(self, extractor: Extractor) -> FeatureFile:
        """The cache's features of the originals, which are of all of them, else the run's own."""
        kept = self.kept(extractor)
        return FeatureFile(kept, extractor.dim) if kept is not None and kept.exists() else self.own_reference(extractor)

    def sides(self, metric: SetMetric, seen: Tally) -> Sides:
        """Both sides of the images that were scored, row by row."""
        extractor = metric.extractor()
        return paired_sides(self.reference(extractor).read(), self.candidate(extractor).read(), seen)

    def keep_references(self, extractors: Mapping[str, Extractor]) -> None:
        """Copies the originals' features to the cache, so that the next model need not make them again."""
        for extractor in extractors.values():
            own, kept = self.own_reference(extractor).path, self.kept(extractor)
            if kept is None or not own.exists() or kept.exists():
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f".{kept.name}.{time.time_ns()}")
            shutil.copyfile(own, part)
            part.replace(kept)


def paired_sides(reference: Any, candidate: Any, seen: Tally) -> Sides:
    """Features of both sides, one record a row, without the rows that could not be scored."""
    reference = reference[: len(candidate)]
    if len(seen.good) == seen.n:
        return Sides(reference, candidate)
    return Sides(reference[seen.good], candidate[seen.good])
