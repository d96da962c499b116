"""A set of images through the networks, whose command goes on where it was stopped.

The folder of its work (`kept_work`) is named by what decides its rows and features, the images' contents aside: those
are compared image by image with the rows that are there, whose features then need not be made again. Reading is all
that it costs.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vtbench.images.sets import BATCH, ImageSet
from vtbench.images.stream import Original
from vtbench.images.views import View
from vtbench.models.system import System
from vtbench.results.folder import RunFolder
from vtbench.results.stores import records_at
from vtbench.running import kept_work, pipeline
from vtbench.running.writer import Keeping, Writer
from vtbench.scoring.features import FeaturePlace
from vtbench.scoring.loading import Metrics
from vtbench.scoring.scores import Tally, tally
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Extractor


def place_of(path: Path, images: ImageSet, metrics: Metrics, view: View, device: str) -> Path | None:
    """Where the set's rows and features lie while these metrics are measured of it."""
    facts = {
        "set": os.path.abspath(path),
        "images": images.n,
        # With their prompts, which metrics of one image read.
        "items": kept_work.of_items(images.items),
        "view": view.fingerprint(),
        "batch": BATCH,
    }
    return kept_work.place_of(facts, metrics, device)


def measured(
    images: ImageSet,
    metrics: Metrics,
    folder: RunFolder,
    device: str,
    tick: Callable[[int], None],
    *,
    system: System | None = None,
    batch: int = BATCH,
    seed: int = 0,
) -> tuple[Tally, FeaturePlace]:
    """Rows and features of the set's images in the folder, those that are there kept; what the rows hold, and where the
    features lie. Notes in `images` what could not be read. system: what makes something of the images first, `batch` at
    a time, its noise by `seed`; features are then of that."""
    place, begun = FeaturePlace(folder.path), kept_work.rows_begun(folder, batch)
    if any(place.candidate(extractor).trouble(begun) for extractor in metrics.extractors().values()):
        folder.clear()
        begun = 0
    same, rest = _unchanged(pictures(images, batch), folder.read_rows(), begun, tick)
    folder.keep_rows(batch, same)
    writer = Writer(folder, metrics, place, Keeping(reference=False), device=device, begun=same, system=system)
    lane = pipeline.Lane(images.name, system, writer, side=0 if system is None else None)
    pipeline.run([lane], rest, pipeline.Pace(batch, 0), seed=seed, device=device, tick=tick)
    images.bad.update({str(r["item"]): str(r["why"]["*"]) for r in folder.read_rows() if "*" in r["why"]})
    return tally(folder.read_rows(), metrics.per_image()), place


def of_good(place: FeaturePlace, extractor: Extractor, seen: Tally) -> Any:
    """Features of the images that could be read, (n, dim)."""
    features = place.candidate(extractor).read()
    return features if len(seen.good) == seen.n else records_at(features, seen.good)


def pictures(images: ImageSet, size: int = BATCH) -> Iterator[pipeline.Batch]:
    """The set's images in batches of `size`, each its own candidate."""
    if images.batches is None:
        raise VtbenchError(f"{images.name} cannot be read image by image", code=1)
    for batch in images.batches(size):
        images.black.extend(o.item.id for o in batch if o.rgb is not None and not o.rgb.any())
        images.profiles.update(o.profile.name for o in batch if o.profile is not None)
        yield [(original,) for original in batch]


def _unchanged(
    batches: Iterator[pipeline.Batch], rows: Iterable[Mapping[str, Any]], begun: int, tick: Callable[[int], None]
) -> tuple[int, Iterator[pipeline.Batch]]:
    """(how many of the first `begun` images are those of the rows, up to the first batch that holds another; the
    batches from there on)."""
    known, same = iter(rows), 0
    while same < begun:
        batch = next(batches, None)
        if batch is None:
            break
        if not all(_is_of(next(known, {}), original) for (original,) in batch):
            return same, itertools.chain([batch], batches)
        same += len(batch)
        tick(len(batch))
    return same, batches


def _is_of(row: Mapping[str, Any], original: Original) -> bool:
    """Whether the row says of this image what it said of that one."""
    if row.get("item") != original.item.id:
        return False
    if original.rgb is None:
        return bool(row["why"].get("*") == original.why)
    return "*" not in row["why"] and row.get("sha256") == original.sha256
