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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtbench import registry
from vtbench.folders import Candidate, Scored
from vtbench.metrics.statistics import Statistics
from vtbench.results import Score, read_lines
from vtbench.run import load_metrics
from vtbench.scoring import ImageTotals, from_set, summarise
from vtbench.store import FeatureFile
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Batch, Extractor, ImageMetric, Reference, SetMetric, SetValue, measured

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vtbench.suite import Suite
    from vtbench.types.item import Item

DEFAULT = ("fid", "sfid", "kid", "is", "precision", "recall", "density", "coverage")
SHORT = {"precision": "precision-k3", "recall": "recall-k3", "density": "density-k5", "coverage": "coverage-k5"}
"""The field's bare names and what they mean here: ADM's k for precision and recall, prdc's for the others."""
PROTOCOL_N = 50_000
BATCH = 32
TASK = "generation"


@dataclass
class ImageSet:
    """A set of images that streams: `batches` yields uint8 (B, 3, H, W); `bad` names files that could not be read."""

    name: str
    n: int
    read: Callable[[], Iterator[torch.Tensor]]
    labels: Sequence[int] | None = None
    bad: dict[str, str] = field(default_factory=dict)
    black: list[str] = field(default_factory=list)
    items: Sequence[Item] = ()
    """With each image's prompt in its meta, where samples.jsonl stands beside; empty for an .npz."""
    load: Callable[[Item], Any] | None = None
    """uint8 RGB (H, W, 3) of an item, or why it cannot be read."""
    remarks: list[str] = field(default_factory=list)


def open_set(path: Path) -> ImageSet:
    """A folder, tar shards, or an .npz with uint8 `arr_0`; refuses everything else in a sentence."""
    if path.suffix == ".npz":
        return _npz(path)
    if not path.exists() and "*" not in str(path) and "{" not in str(path):
        raise VtbenchError(f"{path} does not exist: give a folder, a tar, or an .npz with arr_0")
    from vtbench.suite import open_suite

    suite = open_suite(str(path))
    items, labels, remarks = _with_prompts(path, suite)
    made = ImageSet(suite.name, len(items), lambda: iter(()), labels, items=items, remarks=remarks)

    def load(item: Any) -> Any:
        try:
            return suite.load(item)
        except VtbenchError as problem:
            return str(problem)

    def read() -> Iterator[torch.Tensor]:
        with ThreadPoolExecutor(2) as pool:
            ahead: list[Any] = []
            asked = 0
            for start in range(0, len(items), BATCH):
                while asked < min(len(items), start + 3 * BATCH):
                    ahead.append(pool.submit(load, items[asked]))
                    asked += 1
                now, ahead = [f.result() for f in ahead[:BATCH]], ahead[BATCH:]
                yield from _stack(made, now, [items[start + k].id for k in range(len(now))])

    made.read, made.load = read, load
    return made


def _with_prompts(path: Path, suite: Suite) -> tuple[Sequence[Item], list[int] | None, list[str]]:
    """(items, labels, remarks): what `vtbench generate` noted in samples.jsonl, in the folder or in the one above."""
    notes = next((p / "samples.jsonl" for p in (path, path.parent) if (p / "samples.jsonl").is_file()), None)
    if notes is None or not path.is_dir():
        return suite.items, None, []
    lines = {(notes.parent / str(r.get("file"))).resolve(): r for r in read_lines(notes)}
    items, labels = [], list[int]()
    for item in suite.items:
        row = lines.pop(suite.path(item).resolve(), None)
        if row is not None:
            meta = {**row.get("metadata", {}), "prompt": row.get("text"), "label": row.get("label")}
            item = replace(item, meta=meta)
            if row.get("label") is not None:
                labels.append(int(row["label"]))
        items.append(item)
    unknown = [i.id for i in items if "prompt" not in i.meta]
    remarks = [f"{len(unknown)} images stand in no line of samples.jsonl: {unknown[0]}"] if unknown else []
    if lines:
        remarks.append(f"{len(lines)} images of samples.jsonl are missing: {next(iter(lines)).name}")
    return items, labels or None, remarks


def _stack(made: ImageSet, images: Sequence[Any], names: Sequence[str]) -> Iterator[torch.Tensor]:
    """Runs of one size as tensors, in order; unreadable ones are named, black ones are counted."""
    import numpy as np
    import torch

    run: list[Any] = []
    for image, name in zip(images, names, strict=True):
        if isinstance(image, str):
            made.bad[name] = image
            continue
        if not image.any():
            made.black.append(name)
        if run and run[0].shape != image.shape:
            yield torch.from_numpy(np.stack(run)).permute(0, 3, 1, 2).contiguous()
            run = []
        run.append(image)
    if run:
        yield torch.from_numpy(np.stack(run)).permute(0, 3, 1, 2).contiguous()


def _npz(path: Path) -> ImageSet:
    """Images of an ADM batch, read from the archive without unpacking it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "arr_0.npy" not in names:
                raise VtbenchError(
                    f"{path} has no arr_0 (it has {', '.join(names)[:80]}): give uint8 images NHWC as arr_0"
                )
            with archive.open("arr_0.npy") as source:
                shape, order, dtype = _header(source)
            labels = None
            if "arr_1.npy" in names:
                import io

                import numpy as np

                found = np.load(io.BytesIO(archive.read("arr_1.npy")), allow_pickle=False)
                if found.dtype.kind in "iu" and found.size != shape[0]:
                    raise VtbenchError(f"{path} has {found.size} labels (arr_1) for {shape[0]} images: wanted one each")
                labels = [int(v) for v in found.reshape(-1)] if found.dtype.kind in "iu" else None
    except FileNotFoundError:
        raise VtbenchError(f"{path} does not exist: give an .npz with uint8 images as arr_0") from None
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as bad:
        raise VtbenchError(f"{path} cannot be read as .npz ({bad}): the file is truncated or damaged") from bad
    if dtype.hasobject:
        raise VtbenchError(f"{path}: arr_0 holds Python objects, which are never unpickled: wanted uint8 (N, H, W, 3)")
    if len(shape) != 4 or shape[3] != 3:
        what = "grey" if len(shape) == 3 or shape[-1] == 1 else "RGBA" if shape[-1] == 4 else "of another shape"
        raise VtbenchError(f"{path}: arr_0 is {what} {tuple(shape)}: wanted uint8 (N, H, W, 3)")
    if str(dtype) != "uint8":
        raise VtbenchError(f"{path}: arr_0 is {dtype}: wanted uint8 in 0..255, rounded once where the images were made")
    if order:
        raise VtbenchError(f"{path}: arr_0 is in Fortran order: save it with numpy.savez from a plain array")
    made = ImageSet(path.name, int(shape[0]), lambda: iter(()), labels)

    def read() -> Iterator[torch.Tensor]:
        import numpy as np

        size = int(np.prod(shape[1:]))
        try:
            with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as source:
                _header(source)
                for start in range(0, shape[0], BATCH):
                    count = min(BATCH, shape[0] - start)
                    data = source.read(count * size)
                    if len(data) != count * size:
                        raise VtbenchError(f"{path} ends after {start} of {shape[0]} images: the file is truncated")
                    images = np.frombuffer(data, np.uint8).reshape(count, *shape[1:])
                    yield from _stack(made, list(images), [f"{start + k:06d}" for k in range(count)])
        except (zipfile.BadZipFile, OSError, EOFError) as bad:
            raise VtbenchError(f"{path} cannot be read to its end ({bad}): the file is truncated or damaged") from bad

    made.read = read
    return made


def _header(source: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    import numpy as np

    version = np.lib.format.read_magic(source)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(source)


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
