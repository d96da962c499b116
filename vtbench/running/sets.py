"""`vtbench score --set`: sets of images rather than pairs: FID, sFID, KID, IS, precision, recall, density, coverage.

A set is a folder, tar shards, or an .npz with `arr_0` (uint8, NHWC) as the ADM suite writes it; the reference may also
be a file of statistics. Everything streams through the one pipeline, the images being their own candidates: 50,000 take
the memory of a batch, and features go to a memory-mapped file. A command that is stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.images.opening import open_set
from vtbench.images.sets import BATCH, ImageSet
from vtbench.images.views import View
from vtbench.metrics.frechet import OF_ANY_SETS
from vtbench.metrics.moments import Moments
from vtbench.models.isolation import isolated
from vtbench.results.folder import RunFolder
from vtbench.running import pipeline
from vtbench.running.folders import Candidate, Scored, Tick, counting, noted, say_disk_use
from vtbench.running.kept_sets import measured, of_good, pictures, place_of
from vtbench.running.kept_work import held
from vtbench.scoring.feature_cache import Say
from vtbench.scoring.features import FeaturePlace
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.scoring.measure import extract
from vtbench.scoring.references import SetReference, open_reference
from vtbench.scoring.remarks import marked, remarks, stated_profiles
from vtbench.scoring.scores import Asked, Sides, Tally, scores_of
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Extractor, SetMetric

DEFAULT = ("fid", "sfid", "kid", "is", "precision", "recall", "density", "coverage")
SHORT = {"precision": "precision-k3", "recall": "recall-k3", "density": "density-k5", "coverage": "coverage-k5"}
"""The field's bare names and what they mean here: ADM's k for precision and recall, prdc's for the others."""
TASK = "generation"


@isolated()
def score(
    reference: Path,
    candidates: Sequence[Path],
    metrics: Sequence[str] | None = None,
    *,
    device: str = "cpu",
    icc: str | None = None,
    progress: Tick | None = None,
    say: Say | None = None,
) -> Scored:
    """Every set metric of every candidate against the reference, whose side is computed once. icc: "srgb" converts
    pictures by the colour profiles that they state. say: takes a sentence on the disk that it takes, before it begins.
    """
    if not candidates:
        raise VtbenchError("no set of images was given: vtbench score REFERENCE IMAGES... --set")
    names = [SHORT.get(n, n) for n in registry.metric_names(metrics or DEFAULT)]
    for name in names:
        card = registry.card_of(registry.metrics().get(name))
        if card.kind != "set" and (card.kind != "image" or card.paired):
            raise VtbenchError(f"{name} compares pairs of images, not sets: leave out --set, or leave out {name}")
    view = View.parse("native", "native", icc)
    origin, sets = open_reference(reference, view), [open_set(c, view) for c in candidates]
    ready = load_metrics(names, device)
    side = _ReferenceSide(origin, ready, device)
    asked = Asked(TASK, ready, view.protocol, view.fingerprint(), reference=f"the set {origin.content}")
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch, contextlib.ExitStack() as stack:

        def folder(path: Path, images: ImageSet, metrics: Metrics, name: str) -> RunFolder:
            place = place_of(path, images, metrics, view, device)
            (one,) = stack.enter_context(held(place, ["set"], Path(scratch) / name))
            return one

        each = [_asked_of(images, asked) for images in sets]
        folders = [
            folder(p, s, a.metrics, str(k)) for k, (p, s, a) in enumerate(zip(candidates, sets, each, strict=True))
        ]
        images = sum(s.n for s in sets) + side.n
        say_disk_use(say, ready, images, folders[0].path)
        tick = counting(progress, images)
        if origin.images is not None and side.reads:
            side.read(folder(reference, origin.images, side.metrics, "reference"), tick)
        out = [
            _candidate(path, images, of_one, side, place, tick)
            for path, images, of_one, place in zip(candidates, sets, each, folders, strict=True)
        ]
    bad = {name: why for images in sets for name, why in images.bad.items()}
    opened = [*([(reference, origin.images)] if origin.images is not None else []), *zip(candidates, sets, strict=True)]
    return Scored(str(reference), out, {**bad, **side.bad}, noted(opened))


class _ReferenceSide:
    """Statistics where a metric can use them, else features of the reference's images."""

    def __init__(self, origin: SetReference, metrics: Metrics, device: str) -> None:
        self.origin, self.device = origin, device
        self.bad: dict[str, str] = {}
        stand = {n: origin.statistics_of(m) for n, m in metrics.of_sets().items()}
        self.statistics = {n: saved for n, (saved, _) in stand.items()}
        self.why_not = {n: why for n, (_, why) in stand.items()}
        self.metrics = metrics.only([n for n in metrics.of_sets() if self.statistics[n] is None])
        for extractor in metrics.extractors().values():
            extractor.load(device)
        self._features: Callable[[Extractor], Any] | None = None

    @property
    def reads(self) -> bool:
        return self.origin.images is not None and bool(self.metrics.ready)

    @property
    def n(self) -> int:
        """Images that `read` will go through."""
        return self.origin.images.n if self.origin.images is not None and self.reads else 0

    def read(self, folder: RunFolder, tick: Callable[[int], None]) -> None:
        """The reference's images through the feature networks, where some metric needs them."""
        if self.origin.images is not None:
            seen, place = measured(self.origin.images, self.metrics, folder, self.device, tick)
            self.bad = dict(self.origin.images.bad)
            self._features = lambda extractor: of_good(place, extractor, seen)

    def sides(self, metric: SetMetric, candidate: FeaturePlace, seen: Tally) -> Sides:
        """Both sides for one metric, or why the reference has none for it."""
        name, extractor = metric.card.name, metric.extractor()
        features = of_good(candidate, extractor, seen)
        saved = self.statistics.get(name)
        if saved is not None:
            note = f"{self.origin.path.name} does not say whose features its statistics are: taken for those of "
            why = no_pairs(metric, saved.n, len(features))
            return Sides(saved, features, why, note + extractor.id if saved.extractor is None else None)
        if self._features is not None:
            theirs = self._features(extractor)
            return Sides(theirs, features, no_pairs(metric, len(theirs), len(features)))
        if not metric.needs_reference:
            return Sides(features[:0], features)
        why = self.why_not.get(name)
        return Sides(
            None, features, why=why or f"{self.origin.path.name} holds statistics only, and {name} needs its images"
        )


def no_pairs(metric: SetMetric, reference: int | None, candidate: int) -> str | None:
    """Why a distance of reconstructions and their originals has no value between sets of these sizes; None: of one
    size, or statistics that do not say it."""
    if not metric.card.paired or reference in (None, candidate):
        return None
    name = metric.card.name
    instead = f"{OF_ANY_SETS[name]} compares any two sets" if name in OF_ANY_SETS else f"leave out {name}"
    return (
        f"{name} is of reconstructions and their originals, and {reference} originals and {candidate} candidates could "
        f"be read: {instead}"
    )


def _asked_of(images: ImageSet, asked: Asked) -> Asked:
    """What can be asked of the set."""
    if images.items:
        return asked
    no_prompts = f"{images.name} keeps no prompts: give a folder that `vtbench generate` wrote"
    return dataclasses.replace(
        asked, metrics=asked.metrics.without(dict.fromkeys(asked.metrics.per_image(), no_prompts))
    )


def _candidate(
    path: Path,
    images: ImageSet,
    asked: Asked,
    side: _ReferenceSide,
    folder: RunFolder,
    tick: Callable[[int], None],
) -> Candidate:
    """One set through the pipeline, and its scores with what keeps them from being compared."""
    seen, place = measured(images, asked.metrics, folder, side.device, tick)
    result = scores_of(
        asked,
        folder.read_rows,
        seen,
        items=images.items,
        sides=lambda metric, tallied: side.sides(metric, place, tallied),
    )
    said = [*remarks(images.n, images.labels, images.black), *images.remarks, *_colours(side, images)]
    sets = asked.metrics.of_sets()
    return Candidate(str(path), [marked(s, said) if s.metric in sets else s for s in result.scores], [])


def _colours(side: _ReferenceSide, images: ImageSet) -> list[str]:
    """Sentences on colour profiles that either set states and that were not applied."""
    said = stated_profiles(images.profiles, images.n)
    origin = side.origin.images
    return said if origin is None else [*said, *stated_profiles(origin.profiles, origin.n, "reference images")]


class _MomentSink:
    """Sums of features, in place of the features themselves."""

    def __init__(self, sums: Moments, extractor: Extractor, bad: dict[str, str]) -> None:
        """bad: where images that could not be read are noted, with their reason."""
        self.sums, self.extractor, self.bad = sums, extractor, bad

    def write(self, work: pipeline.Work) -> None:
        self.bad.update({o.item.id: o.why for o in work.originals if o.why is not None})
        for part in work.parts:
            names = [o.item.id for o in part.originals]
            self.sums.add(extract(self.extractor, part.output.images.contiguous(), names))


@isolated()
def statistics(
    images: Path, out: Path, *, metric: str = "fid", device: str = "cpu", progress: Tick | None = None
) -> ImageSet:
    """Saves the set's mean and covariance of `metric`'s features as .npz (mu, sigma, n), to be a REFERENCE later.

    Returns the set, with what was left out in `notes` and what could not be read in `bad`.
    """
    if out.suffix != ".npz":
        raise VtbenchError(f"--out {out}: statistics are saved as .npz")
    metric = registry.metrics().name_of(metric)
    loaded = load_metrics([metric], device)
    if metric in loaded.unavailable:
        raise VtbenchError(f"{metric} cannot be computed here: {loaded.unavailable[metric]}")
    if metric not in loaded.of_sets():
        raise VtbenchError(f"{metric} is no metric of sets: give fid, sfid or fd-dinov2")
    extractor = loaded.of_sets()[metric].extractor()
    extractor.load(device)
    source = open_set(images)
    sums = Moments(extractor.dim)
    lane = pipeline.Lane(source.name, None, _MomentSink(sums, extractor, source.bad), side=0)
    tick = counting(progress, source.n)
    pipeline.run([lane], pictures(source), pipeline.Pace(BATCH, 0), device=device, tick=tick)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.stem}.part.npz")
    dataclasses.replace(sums.statistics(str(images)), extractor=extractor.id).save(part)
    part.replace(out)
    return source
