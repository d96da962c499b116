"""What a worker is set up with, from an order in plain values: the command's own question, or it takes no part.

The order states the question as the command sees it. A worker opens the same images, loads the same model and metrics,
and compares: other weights, code, images, versions or another batch grid would be numbers of two kinds in one run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.images import stream
from vtbench.images.prompts import open_prompts
from vtbench.models.devices import check_device
from vtbench.models.load import Loaded, load
from vtbench.results import provenance
from vtbench.results.files import plain
from vtbench.running import kept_work, pipeline
from vtbench.running.draw import Order
from vtbench.running.engine import lane_of, originals_of, overlaps, sources_of
from vtbench.running.evaluate import job_of, loaded_tokenizer
from vtbench.running.folders import BATCH, Pairs, without_tokens
from vtbench.running.job import Job
from vtbench.running.request import Request
from vtbench.running.sampling import DrawnBatch, drawn_batch
from vtbench.running.writer import Keeping, Measurer
from vtbench.scoring import feature_cache
from vtbench.scoring.loading import Metrics, load_metrics
from vtbench.types.errors import VtbenchError
from vtbench.types.version import VERSION

NOT_SENT = ("out", "ray", "workers")
"""Fields of a request that are the command's alone."""
PARTS = {
    "pairs": "the pictures' contents",
    "items": "the pictures' names",
    "model": "the model's weights, adapter or options",
    "task": "the task",
    "metrics": "the metrics' versions",
    "metric_weights": "the metrics' weights",
    "weights": "the metrics' weights",
    "networks": "the metrics' networks",
    "code": "the code of vtbench, of the model or of a metric",
    "suite": "the images' contents",
    "view": "the view",
    "device": "the kind of device",
    "prompts": "the prompts",
}
"""Parts of a run's question, in words."""


@dataclass(frozen=True)
class Setup:
    """measurers: one a lane; lanes: from their sinks; read: the one batch of the images from first to end, which are
    those of the run; opened: files that the model's code has opened by now."""

    device: str
    device_facts: Mapping[str, Any]
    measurers: Sequence[Measurer]
    lanes: Callable[[Sequence[pipeline.Sink]], list[pipeline.Lane]]
    read: Callable[[int, int], Iterator[pipeline.Batch]]
    batch: int
    in_all: int
    begun: int = 0
    seed: int = 0
    overlap: bool = False
    opened: Callable[[], Sequence[str]] = tuple


@dataclass(frozen=True)
class Sampling:
    """What a worker draws: `draw(first, end, warm_up)` gives the batch of these of the order's images."""

    device: str
    device_facts: Mapping[str, Any]
    draw: Callable[[int, int, bool], DrawnBatch]
    batch: int
    in_all: int
    opened: Callable[[], Sequence[str]] = tuple


def surroundings() -> dict[str, Any]:
    """What must be alike on every machine of a run: vtbench and the packages that decide numbers."""
    return {"vtbench": VERSION, "packages": provenance.packages()}


def request_order(request: Request) -> dict[str, Any]:
    """The request in plain values."""
    return {f.name: plain(getattr(request, f.name)) for f in fields(request) if f.name not in NOT_SENT}


def set_up(order: Mapping[str, Any], loaded: dict[str, Any]) -> Setup | Sampling:
    """loaded: the model of the last order, kept for the next question to it. Raises VtbenchError where this worker
    cannot take part."""
    _check_versions(order)
    verbs: dict[str, Callable[[], Setup | Sampling]] = {
        "evaluate": lambda: _evaluation(order, loaded),
        "score": lambda: _pairs(order),
        "generate": lambda: _sampling(order),
    }
    return verbs[order["verb"]]()


def _check_versions(order: Mapping[str, Any]) -> None:
    """Before anything is loaded by other code than the command's."""
    ours, theirs = surroundings(), order["surroundings"]
    if ours["vtbench"] != theirs["vtbench"]:
        raise VtbenchError(f"it has vtbench {ours['vtbench']}, the command {theirs['vtbench']}: install the same")
    names = sorted({*ours["packages"], *theirs["packages"]})
    other = [n for n in names if ours["packages"].get(n) != theirs["packages"].get(n)]
    if other:
        here, there = (which["packages"].get(other[0], "none") for which in (ours, theirs))
        more = f" (and {len(other) - 1} other packages differ)" if len(other) > 1 else ""
        raise VtbenchError(f"it has {other[0]} {here}, the command {there}{more}: install the same")


def _evaluation(order: Mapping[str, Any], loaded: dict[str, Any]) -> Setup:
    request = Request(**order["request"])
    question = request.questions()[order["question_number"]]
    job = job_of(request, _model(order, request, loaded), question, Path())
    check_question(order["question"], plain(job.question()))
    _check_count(order["images"], len(job.items()))
    metrics = load_metrics(job.task.metrics, job.device)
    _check_metrics(order["unavailable"], metrics)
    known = feature_cache.known(originals_of(job, order["batch"]), metrics.extractors(), lambda _: None)
    keeping = Keeping(frozenset(order["save"]), order["samples"])
    measurer = Measurer(metrics, keeping, device=job.device, system=job.loaded.system, known=known)
    items, sources = job.items(), sources_of(job.suite, job.view, job.loaded.system)

    def lanes(sinks: Sequence[pipeline.Sink]) -> list[pipeline.Lane]:
        return [lane_of(job.name, job.loaded.system, sink) for sink in sinks]

    return Setup(
        job.device,
        provenance.device_facts(job.device),
        [measurer],
        lanes,
        lambda first, end: stream.batches(sources, items[first:end], order["batch"]),
        order["batch"],
        len(items),
        order["begun"],
        job.seed,
        overlaps(job, metrics),
        lambda: _opened(job),
    )


def _pairs(order: Mapping[str, Any]) -> Setup:
    """Folders of pictures beside their originals."""
    device = order["device"]
    check_device(device, "float32")
    pairs = Pairs.opened(Path(order["reference"]), [Path(path) for path in order["candidates"]], order["icc"])
    contents = zip([order["reference"], *order["candidates"]], pairs.contents(), order["contents"], strict=True)
    for path, ours, theirs in contents:
        if ours != theirs:
            raise VtbenchError(
                f"its pictures in {path} are not those that the command sees: give all machines the same"
            )
    metrics = without_tokens(load_metrics(registry.metric_names(order["metrics"]), device))
    _check_metrics(order["unavailable"], metrics)
    check_question(order["question"], pairs_question(pairs, metrics, device))
    items = pairs.original.items
    return Setup(
        device,
        provenance.device_facts(device),
        [Measurer(metrics, Keeping(reference=not k), device=device) for k in range(len(pairs.systems))],
        pairs.lanes,
        lambda first, end: pairs.batches(items[first:end]),
        BATCH,
        0,
    )


def pairs_question(pairs: Pairs, metrics: Metrics, device: str) -> dict[str, Any]:
    """Everything that decides rows of these pictures by these metrics. Raises VtbenchError where the code of a metric
    is not known for certain."""
    question = kept_work.question_of(pairs.facts(), metrics, device)
    if question is None:
        raise VtbenchError(
            "the code of a metric was edited since it was loaded, or lies in no file: whether all workers have the "
            "same cannot be known; run the command again"
        )
    asked: dict[str, Any] = plain(question)
    return asked


def _sampling(order: Mapping[str, Any]) -> Sampling:
    """A generator, and every image of the order."""
    asked, device = order["asked"], order["device"]
    paths = {name: Path(asked[name]) for name in ("checkpoint", "tokenizer_checkpoint") if asked[name]}
    loaded = load(
        asked["model"],
        asked["options"],
        device=device,
        dtype=order["dtype"],
        generator=True,
        prefix=asked["prefix"],
        checkpoint=paths.get("checkpoint"),
        tokenizer_checkpoint=paths.get("tokenizer_checkpoint"),
    )
    prompts = open_prompts(asked["suite"], rewritten=asked["rewritten"])
    wanted = Order(prompts, order["per_prompt"], order["seed"], order["batch"], device, order["dtype"])
    samples = wanted.checked(loaded).samples()
    check_question(order["question"], plain(wanted.question(loaded)))
    _check_count(order["images"], len(samples))
    opened = loaded.system.opened
    return Sampling(
        device,
        provenance.device_facts(device),
        lambda first, end, warm_up: drawn_batch(loaded, samples[first:end], device, warm_up=warm_up),
        order["batch"],
        len(samples),
        lambda: () if opened is None else opened.paths,
    )


def _model(order: Mapping[str, Any], request: Request, loaded: dict[str, Any]) -> Loaded:
    """The model of the order, or of the last one if it is the same."""
    key = json.dumps([order["spec"], order["options"], order["request"]], sort_keys=True)
    if key not in loaded:
        loaded.clear()
        loaded[key] = loaded_tokenizer(request, order["spec"], order["options"], request.device)
    model: Loaded = loaded[key]
    return model


def _opened(job: Job) -> Sequence[str]:
    opened = job.loaded.system.opened
    return () if opened is None else opened.paths


def check_question(wanted: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises VtbenchError with the parts of the question that are others here."""
    other = [words for part, words in PARTS.items() if ours.get(part) != wanted.get(part)]
    if not other and ours != wanted:
        other = [", ".join(n for n in sorted({*ours, *wanted}) if ours.get(n) != wanted.get(n))]
    if other:
        raise VtbenchError(
            f"what it sees is not what the command sees ({'; '.join(other)}): give every machine the same files and "
            "the same vtbench"
        )


def _check_count(wanted: int, images: int) -> None:
    if images != wanted:
        raise VtbenchError(f"it sees {images} images, the command {wanted}: batches would be others")


def _check_metrics(unavailable: Sequence[str], metrics: Metrics) -> None:
    """A metric that can be had on one machine only would be missing in some rows."""
    lacking = sorted({*metrics.unavailable} - {*unavailable})
    if lacking:
        raise VtbenchError(
            f"{lacking[0]} cannot be had there, as on the command's machine: {metrics.unavailable[lacking[0]]}"
        )
    more = sorted({*unavailable} - {*metrics.unavailable})
    if more:
        raise VtbenchError(f"{more[0]} can be had there and not on the command's machine: give both the same weights")
