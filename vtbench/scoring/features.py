"""Features of both sides of a run, one record an image, while it lasts; and what is left of them when it is finished.

Both sides lie in the run's folder, row by row, so that a run goes on after a kill, shards are joined, and no number is
ever of two sets that do not belong together. A finished run keeps what is smaller: the features of few images, which
give every metric of sets again, or the moments of many (mean and covariance in float64, 34 MB a side at 2,048 values an
image), which give the Fréchet distances again. KID compares every image with every other, and precision and recall,
density and coverage the nearest of all: no part of the features gives these numbers, so they are computed before the
features go; `--save features` keeps all.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.metrics.moments import BLOCK, Moments
from vtbench.results.folder import FEATURES
from vtbench.results.stores import FeatureFile, records_at
from vtbench.scoring.scores import Sides, Tally
from vtbench.types.metric import Extractor, SetMetric
from vtbench.types.readable import bytes_in_words


def feature_name(extractor_id: str) -> str:
    """The extractor's id as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in extractor_id)


@dataclass(frozen=True)
class FeaturePlace:
    """Where a run's features lie: in its folder."""

    folder: Path

    def candidate(self, extractor: Extractor) -> FeatureFile:
        return FeatureFile(self.folder / FEATURES / f"{feature_name(extractor.id)}.f32", extractor.dim)

    def reference(self, extractor: Extractor) -> FeatureFile:
        """Those of the originals at the run's view."""
        return FeatureFile(self.folder / FEATURES / f"{feature_name(extractor.id)}.reference.f32", extractor.dim)

    def files(self, extractors: Mapping[str, Extractor]) -> Iterator[FeatureFile]:
        """Both sides' files of all networks."""
        for extractor in extractors.values():
            yield self.candidate(extractor)
            yield self.reference(extractor)

    def trouble(self, extractors: Mapping[str, Extractor], rows: int) -> str | None:
        """Why a run of `rows` finished images cannot go on from its features; None if it can."""
        return next((why for file in self.files(extractors) if (why := file.trouble(rows))), None)

    def sides(self, metric: SetMetric, seen: Tally) -> Sides:
        """Both sides of the images that were scored, row by row."""
        extractor = metric.extractor()
        return paired_sides(self.reference(extractor).read(), self.candidate(extractor).read(), seen)

    def reduce(self, extractors: Mapping[str, Extractor], good: Sequence[int] | None = None) -> None:
        """Puts the moments of a finished run in the place of features that take more. good: the rows that were scored;
        None: all. A reference's moments (`.npz` with mu, sigma, n) can be a REFERENCE of `score --set`."""
        for extractor in extractors.values():
            for file in (self.candidate(extractor), self.reference(extractor)):
                rows = len(file) if good is None else len(good)
                if rows < 2 or _bytes_of(extractor, len(file)) <= bytes_of_moments(extractor):
                    continue
                target = file.path.with_suffix(".npz")
                part = target.with_name(f".{target.stem}.part.npz")
                dataclasses.replace(_moments(file, good).statistics(), extractor=extractor.id).save(part)
                part.replace(target)
                file.remove()


def _moments(file: FeatureFile, good: Sequence[int] | None) -> Moments:
    features, sums = file.read(), Moments(file.dim)
    if good is None or len(good) == len(features):
        return sums.add(features)
    for start in range(0, len(good), BLOCK):
        sums.add(features[list(good[start : start + BLOCK])])
    return sums


def paired_sides(reference: Any, candidate: Any, seen: Tally) -> Sides:
    """Features of both sides, one record a row, without the rows that could not be scored; or why there is no number,
    where a side has not a record for every row."""
    if not len(reference) == len(candidate) == seen.n:
        why = f"{len(reference)} originals and {len(candidate)} candidates have features, of {seen.n} images"
        return Sides(reference[:0], candidate[:0], why=f"{why}: run evaluate again")
    if len(seen.good) == seen.n:
        return Sides(reference, candidate)
    return Sides(records_at(reference, seen.good), records_at(candidate, seen.good))


# -- what it takes of a disk -------------------------------------------------------------------------------------------


def _bytes_of(extractor: Extractor, images: int) -> int:
    """Bytes of one side's features, with their sums."""
    return images * (extractor.dim + 1) * 4


def bytes_of_moments(extractor: Extractor) -> int:
    """Bytes of one side's moments: mean and covariance in float64."""
    return (extractor.dim + extractor.dim**2) * 8


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a run's features take while it runs and when it is finished, and in the cache for the next model."""

    running: int
    finished: int
    cache: int

    @classmethod
    def of(
        cls, extractors: Mapping[str, Extractor], images: int, *, sides: int = 2, kept: bool = False, fresh: int = 0
    ) -> DiskUse:
        """sides: 1 where the originals are no part of the run. kept: the features stay (`--save features`, or a shard).
        fresh: networks whose features of the originals the cache does not have, and gets."""
        whole = [_bytes_of(e, images) for e in extractors.values()]
        left = [min(_bytes_of(e, images), bytes_of_moments(e)) for e in extractors.values()]
        cache = sum(whole) * fresh // max(len(whole), 1)
        return cls(sides * sum(whole), sides * sum(whole if kept else left), cache)

    @classmethod
    def passing(cls, extractors: Mapping[str, Extractor], images: int) -> DiskUse:
        """Of features that are gone when their numbers are there; `images` of all sides together."""
        return cls(sum(_bytes_of(e, images) for e in extractors.values()), 0, 0)

    def sentence(self, folder: Path) -> str:
        """What is said before a run begins; where the disk has less, that too."""
        free = shutil.disk_usage(folder).free
        running, cache, left = map(bytes_in_words, (self.running, self.cache, free))
        finished = bytes_in_words(self.finished) if self.finished else "nothing"
        text = f"features take {running} in {folder} while it runs and {finished} afterwards"
        text += f", and {cache} in the cache for the next model" if self.cache else ""
        return f"{text}; only {left} are free there" if free < self.running else text
