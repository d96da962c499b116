"""What sends a run's images through its system: this process's pipeline, or whatever a subclass puts in its place.

A run begins, resumes, is scored and recorded in one way (`running/evaluate.py`); only the images' way differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vtbench.images import stream
from vtbench.images.pairing import partners
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.models.memory import Memory
from vtbench.models.pictures import SavedPictures
from vtbench.models.system import System
from vtbench.results.record import RunInfo
from vtbench.running import pipeline
from vtbench.running.job import Job
from vtbench.running.request import Request
from vtbench.running.writer import SAMPLES, Keeping, Writer
from vtbench.scoring.feature_cache import Originals
from vtbench.scoring.loading import Metrics


@dataclass(frozen=True)
class Ask:
    """Which of a request's runs: the model, its options, and the number of the question."""

    request: Request
    spec: Any
    options: Mapping[str, str]
    question: int


@dataclass(frozen=True)
class Start:
    """Where a run begins: its record, what is asked of it, batch and what is kept; `begun` images are finished.
    `notes`: what happened on the way that its record should say."""

    info: RunInfo
    metrics: Metrics
    save: frozenset[str]
    batch: int
    begun: int = 0
    notes: list[str] = field(default_factory=list)

    def with_device(self, facts: Mapping[str, Any]) -> Start:
        """The same, its record stating another machine's device."""
        return replace(self, info=self.info.with_(device=dict(facts)))

    def keeping(self, job: Job) -> Keeping:
        """What the run keeps beside its rows."""
        return Keeping(self.save, SAMPLES if job.begins else 0)


class Engine:
    """What sends a run's images through its system: this process, unless a subclass says otherwise."""

    device: str | None = None
    """Where the models are loaded that only say what they are, in place of the request's device; None: that one."""

    def asked(self, ask: Ask) -> Engine:
        """The engine for one of the runs."""
        return self

    def memory(self, job: Job) -> Memory:
        """Counts the memory that the run takes, from now on."""
        return Memory.begin(job.device)

    def ready(self, job: Job, start: Start) -> Start:
        """Before anything is written: raises VtbenchError where the run cannot be made so."""
        return start

    def images(self, job: Job, start: Start, writer: Writer, tick: Callable[[int], None]) -> None:
        """Sends the images that are left through the system, and has `writer` append what became of them."""
        items = job.items()
        batches = stream.batches(sources_of(job.suite, job.view, job.loaded.system), items[start.begun :], start.batch)
        pace = pipeline.Pace(start.batch, len(items), start.begun)
        lane = lane_of(job.name, job.loaded.system, writer)
        overlap = overlaps(job, start.metrics)
        pipeline.run([lane], batches, pace, seed=job.seed, overlap=overlap, device=job.device, tick=tick)


def sources_of(suite: Suite, view: View, system: System) -> list[stream.Source]:
    """Where the originals are read, and the pictures of them where the system is pictures."""
    sources = [stream.source_of(suite, view)]
    if isinstance(system, SavedPictures):
        sources.append(partners(system.suite, system.items, view.of_file))
    return sources


def lane_of(name: str, system: System, sink: pipeline.Sink) -> pipeline.Lane:
    """The system's way through the pipeline; name: what a failure calls it."""
    return pipeline.Lane(name, system, sink, side=1 if isinstance(system, SavedPictures) else None)


def overlaps(job: Job, metrics: Metrics) -> bool:
    """Whether metrics work beside the model."""
    return metrics.beside_model(job.device)


def originals_of(job: Job, batch: int) -> Originals:
    """Whose features the cache may have, and gets."""
    first, _ = job.span
    device = job.device.partition(":")[0]
    return Originals(job.suite.hash, job.view.fingerprint(), first, len(job.items()), batch, device)
