"""`vtbench score --set`: sets of images rather than pairs: FID, sFID, KID, IS, precision, recall, density, coverage.

A set is a folder, tar shards, or an .npz with `arr_0` (uint8, NHWC) as the ADM suite writes it; the reference may also
be a file of statistics. Everything streams: 50,000 images take the memory of a batch, and features go to a
memory-mapped file.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtbench import registry
from vtbench.folders import Candidate, Scored
from vtbench.images.arrays import open_npz as _npz
from vtbench.images.opening import open_set as open_set
from vtbench.images.sets import BATCH as BATCH
from vtbench.images.sets import ImageSet as ImageSet
from vtbench.images.sets import runs_of_one_size
from vtbench.images.stream import Original
from vtbench.metrics.statistics import Statistics
from vtbench.results import Score
from vtbench.run import load_metrics
from vtbench.scoring import ImageTotals, from_set, summarise
from vtbench.store import FeatureFile
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Extractor, ImageMetric, Reference, SetMetric, SetValue, measured

if TYPE_CHECKING:
    import torch


DEFAULT = ("fid", "sfid", "kid", "is", "precision", "recall", "density", "coverage")
SHORT = {"precision": "precision-k3", "recall": "recall-k3", "density": "density-k5", "coverage": "coverage-k5"}
"""The field's bare names and what they mean here: ADM's k for precision and recall, prdc's for the others."""
PROTOCOL_N = 50_000
TASK = "generation"


def _stack(images: ImageSet, pixels: Sequence[Any], names: Sequence[str]) -> Iterator[torch.Tensor]:
    originals = [Original(Item(n, n), rgb) for rgb, n in zip(pixels, names, strict=True)]
    return runs_of_one_size(originals, images.bad, images.black)


@dataclass
class _Reference:
    """What a reference can give: images, statistics, or both (an ADM reference batch)."""

    path: Path
    images: ImageSet | None
    statistics: bool
    spatial: bool = False
    """Has ADM's mu_s and sigma_s."""

    def statistics_of(self, metric: SetMetric) -> tuple[Statistics | None, str | None]:
        """The statistics that can stand for the images, or why those that are there cannot."""
        from vtbench.metrics import statistics
        from vtbench.metrics.dinov2 import DinoFrechet
        from vtbench.metrics.frechet import Frechet

        if not self.statistics or not isinstance(metric, (Frechet, DinoFrechet)):
            return None, None
        extractor, name = metric.extractor(), metric.card.name
        adm = self.spatial and getattr(extractor, "output", "") == "spatial"
        part: Literal["pool3", "spatial"] = "spatial" if adm else "pool3"
        found = statistics.load(self.path, part)
        if found.dim != extractor.dim:
            return None, f"{self.path.name} holds statistics of {found.dim} features, {name} has {extractor.dim}"
        if found.extractor not in (None, extractor.id):
            return None, f"{self.path.name} holds statistics of {found.extractor}, {name} is of {extractor.id}"
        return found, None


def _reference(path: Path) -> _Reference:
    if path.suffix in (".pt", ".pth"):
        return _Reference(path, None, True)
    if path.suffix == ".npz" and path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist())
        except (zipfile.BadZipFile, OSError) as bad:
            raise VtbenchError(f"{path} cannot be read as .npz ({bad}): the file is truncated or damaged") from bad
        images = _npz(path) if "arr_0.npy" in names else None
        if images is None and "mu.npy" not in names:
            raise VtbenchError(f"{path} holds neither statistics (mu, sigma) nor images (arr_0): give one of them")
        return _Reference(path, images, "mu.npy" in names, "mu_s.npy" in names)
    return _Reference(path, open_set(path), False)


def extract(images: ImageSet, extractors: Mapping[str, Extractor], folder: Path, side: str,
            tick: Callable[[int], None] | None = None) -> dict[str, FeatureFile]:  # fmt: skip
    """One pass over the set: every extractor's features in a memory-mapped file."""
    files = {key: FeatureFile(folder / f"{k}.{side}.f32", e.dim) for k, (key, e) in enumerate(extractors.items())}
    for batch in images.read():
        for key, extractor in extractors.items():
            files[key].append(extractor.extract(batch))
        if tick is not None:
            tick(len(batch))
    return files


def score(
    reference: Path,
    candidates: Sequence[Path],
    metrics: Sequence[str] | None = None,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Every set metric of every candidate against the reference, whose side is computed once."""
    if not candidates:
        raise VtbenchError("no set of images was given: vtbench score REFERENCE IMAGES... --set")
    names = [SHORT.get(n, n) for n in registry.metric_names(metrics or DEFAULT)]
    for name in names:
        card = registry.card_of(registry.metrics().get(name))
        if card.kind != "set" and (card.kind != "image" or card.paired):
            raise VtbenchError(f"{name} compares pairs of images, not sets: leave out --set, or leave out {name}")
    origin = _reference(reference)
    sets = [open_set(c) for c in candidates]
    ready, unavailable = load_metrics(names, device)
    chosen = {n: m for n, m in ready.items() if isinstance(m, SetMetric)}
    # Statistics stand for the reference's images where a metric can use them; the others need its pixels.
    stands = {n: origin.statistics_of(m) for n, m in chosen.items()}
    given = {n: found for n, (found, _) in stands.items()}
    alone = {n: m for n, m in ready.items() if isinstance(m, ImageMetric)}
    extractors = {m.extractor().id: m.extractor() for m in chosen.values()}
    for extractor in extractors.values():
        extractor.load(device)
    needs_pixels = {m.extractor().id for n, m in chosen.items() if given[n] is None}
    total = sum(s.n for s in sets) + (origin.images.n if origin.images and needs_pixels else 0)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    out = []
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        ours = {}
        if origin.images is not None and needs_pixels:
            wanted = {k: e for k, e in extractors.items() if k in needs_pixels}
            ours = extract(origin.images, wanted, Path(scratch), "reference", tick)
        for number, (path, images) in enumerate(zip(candidates, sets, strict=True)):
            files = extract(images, extractors, Path(scratch), str(number), tick)
            remarks = _remarks(images)
            scores = []
            totals = _of_each(images, alone)
            for name in names:
                card = registry.card_of(registry.metrics().get(name))
                if name in unavailable:
                    scores.append(Score(TASK, name, None, 0, images.n, why=unavailable[name], unit=card.unit,
                                        better=card.better, version=card.version))  # fmt: skip
                    continue
                if name in alone:
                    found = totals[name]
                    scores.append(summarise(card, TASK, found.values, found.weights, found.why, found.missing))
                    continue
                metric = chosen[name]
                key = metric.extractor().id
                left = given[name] if given[name] is not None else ours[key].read() if key in ours else None
                right = files[key].read()
                if left is None and card.name not in ("is", "is-adm"):
                    why = stands[name][1] or f"{reference.name} holds statistics only, and {name} needs its images"
                    made = SetValue(None, why=why)
                elif len(right) < 2:
                    made = SetValue(None, why=f"{len(right)} images could be read; a set needs two")
                else:
                    made = metric.finish(right[:0] if left is None else left, right)
                one = from_set(card, TASK, made, len(right), len(images.bad))
                untold = isinstance(left, Statistics) and left.extractor is None
                note = [f"{reference.name} does not say whose features its statistics are: taken for those of {key}"]
                scores.append(_marked(one, [*remarks, *(note if untold and made.value is not None else [])]))
            candidate = Candidate(str(path), scores, [])
            out.append(candidate)
    bad = {name: why for images in sets for name, why in images.bad.items()}
    if origin.images is not None:
        bad.update(origin.images.bad)
    return Scored(str(reference), out, bad)


def _of_each(images: ImageSet, metrics: Mapping[str, ImageMetric]) -> dict[str, ImageTotals]:
    """Metrics of one image and its prompt, image by image."""
    import torch

    out = {n: ImageTotals() for n in metrics}
    if not metrics:
        return out
    if images.load is None:
        for found in out.values():
            found.missing = images.n
            found.why[f"{images.name} keeps no prompts: give a folder that `vtbench generate` wrote"] = images.n
        return out
    for item in images.items:
        rgb = images.load(item)
        if isinstance(rgb, str):
            images.bad[item.id] = rgb
            for found in out.values():
                found.missing += 1
                found.why["the image cannot be read"] += 1
            continue
        one = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].contiguous()
        batch = Batch(Reference(one, [item], [item.id]), one)
        for name, metric in metrics.items():
            value = measured(name, metric, batch)[0]
            if value.value is None:
                out[name].missing += 1
                out[name].why[value.why or "not measured"] += 1
            else:
                out[name].values.append(float(value.value))
                out[name].weights.append(float(value.weight))
    return out


def _remarks(images: ImageSet) -> list[str]:
    """What keeps the set from being compared with published numbers."""
    out = []
    if images.n != PROTOCOL_N:
        out.append(f"not comparable: {images.n} images, the protocol wants {PROTOCOL_N}")
    if images.labels is not None:
        counts = Counter(images.labels)
        if len(set(counts.values())) > 1:
            low, high = min(counts.values()), max(counts.values())
            out.append(f"not comparable: classes are not balanced ({low} to {high} images a class)")
    out += images.remarks
    if images.black:
        out.append(f"{len(images.black)} images are all black (a safety checker?): {', '.join(images.black[:3])}")
    return out


def _marked(score: Score, remarks: Sequence[str]) -> Score:
    import dataclasses

    known = score.warning or ""
    fresh = [
        r for r in remarks if r not in known and not (r.startswith("not comparable") and "not comparable" in known)
    ]
    return dataclasses.replace(score, warning="; ".join([*filter(None, [known]), *fresh]) or None)


def statistics(images: Path, out: Path, *, metric: str = "fid", device: str = "cpu",
               progress: Callable[[int, int], None] | None = None) -> None:  # fmt: skip
    """Saves the set's mean and covariance of `metric`'s features as .npz (mu, sigma, n), to be a REFERENCE later."""
    from vtbench.metrics import statistics as moments

    ready, unavailable = load_metrics([metric], device)
    if metric in unavailable:
        raise VtbenchError(f"{metric} cannot be computed here: {unavailable[metric]}")
    made = ready[metric]
    if not isinstance(made, SetMetric):
        raise VtbenchError(f"{metric} is no metric of sets: give fid, sfid or fd-dinov2")
    extractor = made.extractor()
    extractor.load(device)
    source = open_set(images)
    kept = moments.Moments(extractor.dim)
    done = 0
    for batch in source.read():
        kept.add(extractor.extract(batch))
        done += len(batch)
        if progress is not None:
            progress(done, source.n)
    if out.suffix != ".npz":
        raise VtbenchError(f"--out {out}: statistics are saved as .npz")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.stem}.part.npz")
    replace(kept.statistics(str(images)), extractor=extractor.id).save(part)
    part.replace(out)
