"""`vtbench score`: metrics for folders of images, without any model. One reference, many candidates, read once each."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.images.pairing import check_pairs as check_pairs
from vtbench.images.pairing import size_of as size_of
from vtbench.results import Score
from vtbench.run import load_metrics
from vtbench.scoring import ImageTotals, from_set, summarise
from vtbench.store import FeatureFile
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Batch, ImageMetric, Metric, Reference, RowMetric, SetMetric, measured

if TYPE_CHECKING:
    import numpy as np

    from vtbench.suite import Suite
    from vtbench.types.item import Item

DEFAULT = ("psnr", "ssim", "ms-ssim", "lpips-alex", "rfid", "kid")
BATCH = 8
TASK = "score"


@dataclasses.dataclass
class Candidate:
    """One candidate folder with its scores and per-image rows."""

    path: str
    scores: list[Score]
    rows: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        scores = {}
        for s in self.scores:
            one = s.as_dict()
            scores[one.pop("metric")] = one
        return {"path": self.path, "scores": scores, "rows": self.rows}


@dataclasses.dataclass
class Scored:
    """What `score` returns; `as_dict()` is what --json writes."""

    reference: str
    candidates: list[Candidate]
    bad: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        import vtbench

        return {
            "schema": 1,
            "vtbench": vtbench.__version__,
            "reference": self.reference,
            "bad": self.bad,
            "candidates": [c.as_dict() for c in self.candidates],
        }

    def to_pandas(self) -> Any:
        """One line a candidate and metric."""
        import pandas as pd

        return pd.DataFrame([{"candidate": c.path, **s.as_dict()} for c in self.candidates for s in c.scores])


def score(
    reference: Path,
    candidates: Sequence[Path],
    metrics: Sequence[str] | None = None,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Every metric of every candidate folder against the reference folder.

    The reference side (features, statistics, stages of networks) is computed once. Raises VtbenchError if the folders
    do not pair; unreadable files are named in `bad` and left out of every candidate.
    """
    from vtbench.suite import open_suite

    if not candidates:
        raise VtbenchError("no candidate folder was given: vtbench score REFERENCE CANDIDATE...")
    for folder in (reference, *candidates):
        if not folder.is_dir():
            raise VtbenchError(f"{folder} is not a folder: give folders of images")
    names = registry.metric_names(metrics or DEFAULT)
    ready, unavailable = load_metrics(names, device)
    for name in names:
        if name in ready and not isinstance(ready[name], ImageMetric | SetMetric | RowMetric):
            unavailable[name] = "this metric reads tokens, and folders of images have none"
    original = open_suite(str(reference))
    sides = [open_suite(str(c)) for c in candidates]
    paired = [check_pairs(original, side, str(path)) for side, path in zip(sides, candidates, strict=True)]
    if not paired[0]:
        raise VtbenchError(f"{reference} holds no images")
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        rows, bad, features = _measure(original, sides, paired, ready, Path(scratch), device, progress)
        out = []
        for index, path in enumerate(candidates):
            scores = [
                _score(n, ready, unavailable, rows[index], features, index, original.items) for n in names
            ]  # fmt: skip
            for row in rows[index]:
                row.pop("lines", None)
                row["values"] = {n: v for n, v in row["values"].items() if n in names}
                row["why"] = {n: v for n, v in row["why"].items() if n in names or n == "*"}
            out.append(Candidate(str(path), scores, rows[index]))
    return Scored(str(reference), out, bad)


def _measure(
    original: Suite,
    sides: Sequence[Suite],
    paired: Sequence[Sequence[tuple[Item, Item]]],
    metrics: Mapping[str, Metric],
    scratch: Path,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[list[dict[str, Any]]], dict[str, str], Any]:
    """Rows of every candidate, unreadable files, and the features of both sides in memory-mapped files."""
    import torch

    from vtbench.images import rgb_sha256

    measures = {n: m for n, m in metrics.items() if isinstance(m, ImageMetric)}
    extractors = {m.extractor().id: m.extractor() for m in metrics.values() if isinstance(m, SetMetric)}
    files: dict[str, list[FeatureFile]] = {}
    for index, (key, extractor) in enumerate(extractors.items()):
        extractor.load(device)
        files[key] = [FeatureFile(scratch / f"{index}.{side}.f32", extractor.dim) for side in range(len(sides) + 1)]
    rows: list[list[dict[str, Any]]] = [[] for _ in sides]
    bad: dict[str, str] = {}
    n = len(paired[0])

    def read(index: int) -> list[np.ndarray[Any, Any]] | str:
        try:
            return [original.load(paired[0][index][0])] + [
                s.load(p[index][1]) for s, p in zip(sides, paired, strict=True)
            ]
        except VtbenchError as problem:
            return str(problem)

    with ThreadPoolExecutor(2) as pool:
        ahead: list[Any] = []
        asked = 0
        for start in range(0, n, BATCH):
            while asked < min(n, start + 3 * BATCH):
                ahead.append(pool.submit(read, asked))
                asked += 1
            now, ahead = [f.result() for f in ahead[:BATCH]], ahead[BATCH:]
            by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
            for offset, images in enumerate(now):
                item = paired[0][start + offset][0]
                if isinstance(images, str):
                    bad[item.id] = images
                    for row in rows:
                        row.append({"item": item.id, "values": {}, "why": {"*": images}, "order": start + offset})
                else:
                    by_size[(images[0].shape[0], images[0].shape[1])].append(offset)
            for offsets in by_size.values():
                stacks = [
                    torch.stack([torch.from_numpy(now[o][side]) for o in offsets]).permute(0, 3, 1, 2).contiguous()
                    for side in range(len(sides) + 1)
                ]
                items = [paired[0][start + o][0] for o in offsets]
                shared = Reference(stacks[0], items, [rgb_sha256(now[o][0]) for o in offsets])
                for key, extractor in extractors.items():
                    files[key][0].append(extractor.extract(stacks[0]))
                for side, candidate in enumerate(stacks[1:]):
                    batch = Batch(shared, candidate)
                    found = {name: measured(name, m, batch) for name, m in measures.items()}
                    for k, offset in enumerate(offsets):
                        fresh: dict[str, Any] = {"item": items[k].id, "values": {}, "why": {}, "order": start + offset}
                        fresh["size"] = [int(candidate.shape[2]), int(candidate.shape[3])]
                        for name, values in found.items():
                            number = values[k].value
                            if number is None:
                                fresh["why"][name] = values[k].why or "not measured"
                            else:
                                fresh["values"][name] = float(number)
                                if values[k].weight != 1.0:
                                    fresh.setdefault("weights", {})[name] = float(values[k].weight)
                        if batch.kept.get("lines"):
                            fresh["lines"] = batch.kept["lines"][k]
                        rows[side].append(fresh)
                    for key, extractor in extractors.items():
                        files[key][side + 1].append(extractor.extract(candidate))
            if progress is not None:
                progress(min(n, start + BATCH), n)
    for row in rows:
        row.sort(key=lambda r: r.pop("order"))
    return rows, bad, files


def _score(name: str, metrics: Mapping[str, Metric], unavailable: Mapping[str, str], rows: Sequence[dict[str, Any]],
           features: Mapping[str, Sequence[FeatureFile]], index: int, items: Sequence[Item]) -> Score:  # fmt: skip
    if name in unavailable:
        card = registry.card_of(registry.metrics().get(name))
        return Score(TASK, name, None, 0, len(rows), why=unavailable[name], unit=card.unit, better=card.better,
                     version=card.version)  # fmt: skip
    metric = metrics[name]
    missing = sum(1 for r in rows if "*" in r["why"])
    if isinstance(metric, SetMetric):
        reference, candidate = (features[metric.extractor().id][i].read() for i in (0, index + 1))
        return from_set(metric.card, TASK, metric.finish(reference, candidate), len(candidate), missing)
    if isinstance(metric, RowMetric):
        return from_set(metric.card, TASK, metric.finish(rows, items), len(rows) - missing, missing)
    totals = ImageTotals()
    for row in rows:
        totals.add(row, name)
    return summarise(metric.card, TASK, totals.values, totals.weights, totals.why, totals.missing)
