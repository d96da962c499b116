"""`--ray ADDRESS --workers N`: the images of a run measured by workers of a cluster, written by this process alone.

The run begins, resumes, is scored and recorded as ever (`running/evaluate.py`); this engine hands its batches out and
appends in order what comes back. So a folder does not tell how many worked on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vtbench.models.memory import Memory
from vtbench.results.files import plain
from vtbench.running import evaluate as evaluating
from vtbench.running.cluster import Cluster, connected
from vtbench.running.crew import RayCrew
from vtbench.running.engine import Ask, Engine, Start
from vtbench.running.evaluation import Evaluation
from vtbench.running.handout import HandOut, Spans
from vtbench.running.job import Job
from vtbench.running.request import Progress, Request
from vtbench.running.setups import request_order, surroundings
from vtbench.running.worker import Worker
from vtbench.running.writer import Writer
from vtbench.scoring.feature_cache import Say


def evaluate(request: Request, progress: Progress | None = None, say: Say | None = None) -> Evaluation:
    """As `running.evaluate.evaluate`, by `request.workers` workers of the cluster at `request.ray`."""
    request = request.checked()
    # A wrong task or folder is said before a cluster is started.
    request.questions()
    with connected(str(request.ray), request.workers, request.device) as cluster:
        return evaluating.evaluate(request, progress, say, Spread(cluster, say or _silent))


def _silent(_: str) -> None:
    """For callers that watch nothing."""


class LargestMemory(Memory):
    """Of a run by workers: the most that one of them took."""

    workers: Sequence[Mapping[str, Any]] = ()

    def most(self, beside: str = "libraries") -> dict[str, Any]:
        largest = max(self.workers, key=lambda one: one.get("bytes") or 0, default={})
        return {"bytes": largest.get("bytes"), "what": largest.get("what") or "no worker was left to say"}


class Spread(Engine):
    """Workers of a cluster. `device`: this process computes nothing, and loads models only to know what they are."""

    device = "cpu"

    def __init__(self, cluster: Cluster, say: Say, ask: Ask | None = None) -> None:
        self.cluster, self.say, self.ask = cluster, say, ask
        self._crew: RayCrew | None = None
        self._memory: LargestMemory | None = None

    def asked(self, ask: Ask) -> Spread:
        return Spread(self.cluster, self.say, ask)

    def memory(self, job: Job) -> Memory:
        self._memory = LargestMemory(job.device)
        return self._memory

    def ready(self, job: Job, start: Start) -> Start:
        """Workers that see the same question; the record states their device."""
        left = len(job.items()) - start.begun
        if not left:
            return start
        batches = -(-left // start.batch)
        if batches < self.cluster.wanted:
            self.say(
                f"{left} images in batches of {start.batch} are work for {batches} of {self.cluster.wanted} workers"
            )
        spans = Spans(start.begun, len(job.items()), start.batch)
        self._crew = RayCrew(self.cluster, Worker, self._order(job, start), spans)
        for sentence in self._crew.gather():
            self.say(sentence)
        device = next(iter(self._crew.devices.values()))
        return start.with_device(device)

    def _order(self, job: Job, start: Start) -> dict[str, Any]:
        assert self.ask is not None
        return {
            **order_of(self.cluster.threads),
            "verb": "evaluate",
            "request": request_order(self.ask.request),
            "spec": self.ask.spec,
            "options": dict(self.ask.options),
            "question_number": self.ask.question,
            "question": plain(job.question()),
            "images": len(job.items()),
            "batch": start.batch,
            "begun": start.begun,
            "save": sorted(start.save),
            "samples": start.keeping(job).samples,
            "unavailable": dict(start.metrics.unavailable),
        }

    def images(self, job: Job, start: Start, writer: Writer, tick: Callable[[int], None]) -> None:
        crew, items = self._crew, job.items()
        assert crew is not None
        opened = job.loaded.system.opened

        def keep(answer: Mapping[str, Any]) -> None:
            if opened is not None:
                for path in answer["opened"]:
                    opened.note(path, writes=False)
            (outcome,) = answer["outcomes"]
            writer.append(outcome)
            tick(len(outcome.rows))

        def name(number: int) -> str:
            first, end = crew.spans.of(number)
            return f"the batch of {items[first].id} to {items[end - 1].id}"

        work = HandOut(crew, crew.spans.count, keep, self.say, name)
        try:
            work.run()
        finally:
            start.notes.extend(work.lost)
        if self._memory is not None:
            self._memory.workers = crew.end()


def order_of(threads: int) -> dict[str, Any]:
    """What every order says: where paths begin, vtbench's settings, versions, threads."""
    return {
        "folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("VTBENCH_")},
        "surroundings": surroundings(),
        "threads": threads,
    }
