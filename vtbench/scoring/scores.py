"""Rows -> scores: means with intervals, set metrics, token metrics, speed. Reads a run's folder, holds no pixels."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench.results import RunFolder, Score, read_lines
from vtbench.scoring.fingerprint import fingerprint
from vtbench.speed import LIBRARY
from vtbench.store import FeatureFile, Present, TokenFile
from vtbench.types.environment import cache_dir
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.metric import ImageMetric, Metric, MetricCard, RowMetric, SetMetric, SetValue, TokenMetric


def summarise(card: MetricCard, task: str, values: Sequence[float], weights: Sequence[float], why: Mapping[str, int],
              missing: int, seed: int = 0) -> Score:  # fmt: skip
    """The score of per-image values: sum(w v) / sum(w) with its 95 % interval."""
    from vtbench.intervals import mean_interval

    details: dict[str, Any] = {"reduction": card.reduction}
    if why:
        details["missing"] = dict(why)
    lossless = sum(n for reason, n in why.items() if reason.startswith("lossless"))
    if lossless:
        details["n_lossless"] = lossless
    total = math.fsum(weights)
    if not values or total <= 0:
        reason = max(why, key=lambda r: why[r]) if why else "no image was scored"
        return _score(card, task, None, 0, missing, why=reason, details=details)
    made = mean_interval(values, weights, bounds=card.bounds, seed=seed)
    if made is None:
        raise VtbenchError(f"{card.name}: {len(values)} values have no mean", code=1)
    details["interval"] = made.why or made.method
    return _score(card, task, made.value, len(values), missing, low=made.low, high=made.high, details=details)


def _score(card: MetricCard, task: str, value: float | None, n: int, missing: int, **more: Any) -> Score:
    return Score(task, card.name, value, n, missing, unit=card.unit, better=card.better, version=card.version, **more)


def from_set(card: MetricCard, task: str, made: SetValue, n: int, missing: int) -> Score:
    why = made.why if made.value is None else None
    return _score(
        card, task, made.value, made.n if made.n is not None else (n if made.value is not None else 0), missing,
        low=made.low, high=made.high, why=why, warning=made.warning, details=dict(made.details),
    )  # fmt: skip


class ImageTotals:
    """Per-image values of one metric, gathered while rows go by: 16 bytes an image."""

    def __init__(self) -> None:
        from array import array

        self.values, self.weights = array("d"), array("d")
        self.why: Counter[str] = Counter()
        self.missing = 0

    def add(self, row: Mapping[str, Any], name: str) -> None:
        value = row["values"].get(name)
        if value is None:
            self.missing += 1
            self.why[str(row["why"].get(name) or row["why"].get("*") or "not measured")] += 1
        else:
            self.values.append(value)
            self.weights.append(row.get("weights", {}).get(name, 1.0))


def reference_features(extractor_id: str, suite_hash: str, view: str) -> Path:
    """Where the originals' features of a whole suite are kept for the next model."""
    import hashlib

    key = hashlib.sha256(f"{extractor_id}\0{suite_hash}\0{view}".encode()).hexdigest()[:24]
    return cache_dir() / "features" / f"{key}.f32"


def finalise(folder: RunFolder, info: Mapping[str, Any], metrics: Mapping[str, Metric],
             unavailable: Mapping[str, str], items: Sequence[Any]) -> list[Score]:  # fmt: skip
    """All scores of the rows in `folder`, in the order of the task's metrics, then speed."""
    task = str(info["task"]["name"])
    cards: Mapping[str, Mapping[str, Any]] = info["metrics"]
    totals = {n: ImageTotals() for n, m in metrics.items() if isinstance(m, ImageMetric)}
    ceilings: dict[str, list[float]] = defaultdict(list)
    encode: list[float] = []
    decode: list[float] = []
    tiled = False
    good: list[int] = []
    sizes: list[tuple[int, int]] = []
    count = 0
    for index, row in enumerate(read_lines(folder.rows_path)):
        count += 1
        failed = "*" in row["why"]
        for name, total in totals.items():
            total.add(row, name)
        for name, value in row.get("resize_only", {}).items():
            ceilings[name].append(value)
        if failed:
            continue
        tiled = tiled or " tiles of " in row.get("flags", {}).get("served", "")
        good.append(index)
        sizes.append((int(row["size"][0]), int(row["size"][1])))
        seconds = row.get("seconds", {})
        if not seconds.get("warm_up"):
            for key, kept in (("encode", encode), ("decode", decode)):
                if seconds.get(key) is not None:
                    kept.append(seconds[key])
    missing = count - len(good)
    per_image: dict[str, Sequence[float | None]] = {}
    scores: list[Score] = []
    tokens = TokenFile(folder.path)
    for name in cards:
        if name in unavailable:
            card = MetricCard(
                **{**cards[name], "bounds": tuple(cards[name]["bounds"]), "needs": tuple(cards[name]["needs"])}
            )
            scores.append(_score(card, task, None, 0, count, why=unavailable[name]))
            continue
        metric = metrics[name]
        card = metric.card
        if isinstance(metric, ImageMetric):
            t = totals[name]
            score = summarise(card, task, t.values, t.weights, t.why, t.missing)
            if ceilings.get(name):
                # What the same images score when they are resized to the model's size and back, without the model.
                mean = math.fsum(ceilings[name]) / len(ceilings[name])
                score = dataclasses.replace(score, details={**score.details, "resize_only": mean})
            scores.append(score)
        elif isinstance(metric, TokenMetric):
            if not tokens.exists() or not good:
                made = SetValue(None, why="this system sends no discrete tokens")
            elif tiled:
                made = SetValue(None, why="images went through the model in tiles: no list of tokens is one image's")
            else:
                made = metric.finish(Present(tokens, good), sizes)
                if made.per_image is not None:
                    per_image[name] = made.per_image
            scores.append(from_set(card, task, made, len(good), missing))
        elif isinstance(metric, SetMetric):
            scores.append(from_set(card, task, _set_value(folder, info, metric, good, count), len(good), missing))
        elif isinstance(metric, RowMetric):
            made = metric.finish(list(read_lines(folder.rows_path)), items)
            scores.append(from_set(card, task, made, len(good), missing))
        else:
            raise VtbenchError(f"the metric {name} is of no known kind ({type(metric).__name__})", code=1)
    scores = [_named(s, info) for s in scores]
    if per_image:
        folder.replace_rows(_with_values(folder.rows_path, per_image, good))
    scores.extend(speed_scores(task, encode, decode, info, count))
    return scores


def _named(score: Score, info: Mapping[str, Any]) -> Score:
    """The score with its protocol's name and the fingerprint of everything that decides the number."""
    view = info["view"]
    digits = fingerprint(str(view["fingerprint"]), score.metric, score.version)
    return dataclasses.replace(score, protocol=str(view["protocol"]), fingerprint=digits)


def _with_values(path: Path, per_image: Mapping[str, Sequence[float | None]], good: Sequence[int]) -> Iterator[Any]:
    """The rows with what a metric over all tokens says of each image, so that runs can be compared image by image."""
    place = {row: k for k, row in enumerate(good)}
    for index, row in enumerate(read_lines(path)):
        for name, values in per_image.items():
            value = values[place[index]] if index in place else None
            row["values"].pop(name, None)
            if value is not None:
                row["values"][name] = value
        yield row


def _set_value(
    folder: RunFolder, info: Mapping[str, Any], metric: SetMetric, good: Sequence[int], count: int
) -> SetValue:
    extractor = metric.extractor()
    name = feature_name(extractor.id)
    candidate = FeatureFile(folder.path / "features" / f"{name}.f32", extractor.dim).read()
    own = folder.path / "features" / f"{name}.reference.f32"
    kept = reference_features(extractor.id, str(info["suite"]["hash"]), str(info["view"]["fingerprint"]))
    reference = FeatureFile(own if own.exists() else kept, extractor.dim).read()[: len(candidate)]
    if len(good) < 2:
        return SetValue(None, why=f"{len(good)} images were scored; a set needs two")
    if len(good) != count:
        candidate, reference = candidate[good], reference[good]
    try:
        return metric.finish(reference, candidate)
    except Unavailable as bad:
        return SetValue(None, why=str(bad))


def feature_name(extractor_id: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in extractor_id)


def speed_scores(
    task: str, encode: Sequence[float], decode: Sequence[float], info: Mapping[str, Any], n: int
) -> list[Score]:
    """Encode and decode seconds an image (p50, p95), images a second, peak memory, parameters; of one device each."""
    out: list[Score] = []

    def add(
        name: str, value: float | None, unit: str, better: str | None, why: str | None, count: int, **details: Any
    ) -> None:
        out.append(
            Score(task, name, value, count if value is not None else 0, 0 if value is not None else n,
                  why=None if value is not None else why, unit=unit, better=better, details=details)
        )  # fmt: skip

    batch = info["batch_size"]
    for name, times in (("encode", encode), ("decode", decode)):
        ordered = sorted(times)
        reason = "no image was timed: the first batch warms up, and pictures made elsewhere have no time"
        for p in (50, 95):
            value = ordered[min(len(ordered) - 1, int(p / 100 * len(ordered)))] if ordered else None
            add(f"{name}-seconds-p{p}", value, "s/image", "lower", reason, len(ordered), batch_size=batch)
    total = math.fsum(encode) + math.fsum(decode)
    count = max(len(encode), len(decode))
    add("images-per-second", count / total if total > 0 else None, "image/s", "higher", "no image was timed", count,
        batch_size=batch)  # fmt: skip
    memory = info.get("peak_memory_bytes")
    add("peak-memory", memory / 2**20 if memory else None, "MiB", "lower", "not measured on this device", n,
        what=info.get("peak_memory_what", ""))  # fmt: skip
    parameters = info["model"].get("parameters")
    add("parameters", float(parameters) if parameters is not None else None, "parameters", "lower",
        "this system has no parameters to count", n)  # fmt: skip
    macs = info["model"].get("macs")
    add("macs", sum(macs.values()) if macs and sum(macs.values()) else None, "MAC/image", "lower",
        "not counted: no network that torch sees, or a run of one batch (the first of several is counted)", 1,
        library=LIBRARY, **(macs or {}))  # fmt: skip
    return out
