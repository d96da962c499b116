"""A worker: a process with a model and its metrics on its own device, which measures the batches that it is handed.

It reads the images itself, writes nothing, and answers in plain values: whatever fails is a sentence in the answer, as
an exception of somebody's library may not survive the way to another process. What hands out is `running/spread.py`.
"""

from __future__ import annotations

import gc
import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from vtbench.images import ahead
from vtbench.models.isolation import isolated
from vtbench.models.memory import Memory
from vtbench.running import pipeline
from vtbench.running.setups import Sampling, Setup, set_up
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.foreign import cause
from vtbench.types.shortage import Short

IDLE = 0.005
"""Seconds to wait for another batch while one is in hand."""


@dataclass(frozen=True)
class Span:
    """Images of the run from `first` to `end`, one whole batch, and where the answer goes."""

    first: int
    end: int
    answer: Future[dict[str, Any]]


class Worker:
    """What runs in an actor. Its methods may be called at the same time from several threads."""

    def __init__(self) -> None:
        self._order = 0
        self._one_order = threading.Lock()
        self._bench: Bench | Easel | None = None
        self._loaded: dict[str, Any] = {}
        self._memory: Memory | None = None

    def begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Sets up what is asked for. Returns {"host", "process", …} of this worker, and "device" (its facts) or
        "refused" (why it cannot take part)."""
        where = {"host": socket.gethostname(), "process": os.getpid()}
        try:
            with self._one_order:
                if order["number"] < self._order:
                    # Calls may overtake each other.
                    return {**where, "refused": "it is at a later order", "code": 1}
                self._order = order["number"]
                self._end()
                _surroundings(order)
                setup = isolated()(set_up)(order, self._loaded)
                self._memory = Memory.begin(setup.device)
                self._bench = Easel(setup) if isinstance(setup, Sampling) else Bench(setup)
        except VtbenchError as bad:
            return {**where, "refused": str(bad), "code": bad.code}
        except RAISED as bad:
            # Whatever it is, the command says it by this worker's name.
            return {**where, "refused": cause(bad), "code": 1}
        return {**where, "device": setup.device_facts}

    def measure(self, order: int, first: int, end: int) -> dict[str, Any]:
        """The batch of the images `first` to `end` of an order: {"outcomes": one a lane, "opened": files that the
        model's code has opened}, or {"why", "code", "short"} where it failed, or {"back": True} where an earlier one
        did."""
        bench = self._bench
        return {"back": True} if bench is None or order != self._order else bench.measure(first, end)

    def end(self) -> dict[str, Any]:
        """Ends the order and frees its memory; returns the most that was in use, {"bytes", "what"}."""
        with self._one_order:
            return self._end()

    def _end(self) -> dict[str, Any]:
        most = {} if self._memory is None else self._memory.most(beside="metrics and libraries")
        if self._bench is not None:
            self._bench.close()
        self._bench = self._memory = None
        # A model that refers to itself would stay in memory beside the next, whose memory is measured.
        gc.collect()
        return most


def _surroundings(order: Mapping[str, Any]) -> None:
    """Paths and settings of vtbench mean here what they mean to the command."""
    if os.path.isdir(order["folder"]):
        os.chdir(order["folder"])
    for name in [n for n in os.environ if n.startswith("VTBENCH_") and n not in order["environment"]]:
        del os.environ[name]
    os.environ.update(order["environment"])
    # Read by OpenMP when it is loaded; a worker has not loaded torch before its first job.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(order["threads"])
    # Workers of one machine share its cores for reading too.
    os.environ.setdefault(ahead.VARIABLE, str(min(max(ahead.THREADS, order["threads"]), ahead.MOST_READERS)))


class Bench:
    """One job's images on their way: a thread reads a batch while the pipeline, a thread too, works on the last one."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._asked: queue.Queue[Span | None] = queue.Queue()
        self._read: queue.Queue[tuple[Span, pipeline.Batch | BaseException] | None] = queue.Queue(maxsize=1)
        self._begun: deque[Span] = deque()
        self._firsts: list[int] = []
        """By the pipeline's number of a batch its first image, -1 of one of none."""
        self._outcomes: list[Any] = []
        self._ending = threading.Lock()
        self._ended = self._all_read = False
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("read", self._reading), ("measure", self._measuring))
        ]
        for thread in self._threads:
            thread.start()

    def measure(self, first: int, end: int) -> dict[str, Any]:
        answer: Future[dict[str, Any]] = Future()
        with self._ending:
            if self._ended:
                return {"back": True}
            self._asked.put(Span(first, end, answer))
        return answer.result()

    def close(self) -> None:
        """Ends the threads, after what they are at."""
        self._close_door()
        for thread in self._threads:
            thread.join()

    def _close_door(self) -> None:
        """Takes no more batches; those that were taken are read."""
        with self._ending:
            if not self._ended:
                self._ended = True
                self._asked.put(None)

    def _reading(self) -> None:
        while (span := self._asked.get()) is not None:
            batch: pipeline.Batch | BaseException
            try:
                (batch,) = self.setup.read(span.first, span.end)
            except BaseException as bad:
                # Raised again by the thread that measures.
                batch = bad
            self._read.put((span, batch))
        self._read.put(None)

    def _batches(self) -> Iterator[pipeline.Batch]:
        """What was read. The pipeline may ask for the next batch before it has made anything of the last: where none
        is there, and none may come until the last is answered, it gets one of no images."""
        while True:
            try:
                one = self._read.get(timeout=IDLE if self._begun else None)
            except queue.Empty:
                self._firsts.append(-1)
                yield ()
                continue
            if one is None:
                self._all_read = True
                return
            span, batch = one
            self._begun.append(span)
            if isinstance(batch, BaseException):
                raise batch
            self._firsts.append(span.first)
            yield batch

    def _measuring(self) -> None:
        setup = self.setup
        lanes = setup.lanes([_Sink(self, m) for m in setup.measurers])
        pace = _Pace(setup.batch, setup.in_all, setup.begun, self._firsts)
        answer: dict[str, Any] = {"back": True}
        try:
            pipeline.run(
                lanes,
                self._batches(),
                pace,
                seed=setup.seed,
                overlap=setup.overlap,
                device=setup.device,
                tick=self._answer,
            )
        except BaseException as bad:
            # A thread's end would be nobody's: the command has it as the answer.
            answer = _failed(bad)
        self._end(answer)

    def take(self, measurer: Any, work: pipeline.Work) -> None:
        """Measures a batch's part of one lane; batches come in the order in which they were begun."""
        if work.originals:
            self._outcomes.append(measurer.measured(work, self._begun[0].first))

    def _answer(self, images: int) -> None:
        if not images:
            return
        span, outcomes = self._begun.popleft(), self._outcomes
        self._outcomes = []
        span.answer.set_result({"outcomes": outcomes, "opened": self.setup.opened()})

    def _end(self, answer: dict[str, Any]) -> None:
        """The batch that ended the pipeline has the answer; those behind it go back."""
        self._close_door()
        for span in self._begun:
            span.answer.set_result(answer)
            answer = {"back": True}
        self._begun.clear()
        while not self._all_read:
            one = self._read.get()
            self._all_read = one is None
            if one is not None:
                one[0].answer.set_result({"back": True})


class Easel:
    """One order of a generator: one batch at a time, whoever asks."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._one_at_a_time = threading.Lock()
        self._warm = sampling.in_all <= sampling.batch

    def measure(self, first: int, end: int) -> dict[str, Any]:
        with self._one_at_a_time:
            warm_up, self._warm = not self._warm, True
            try:
                drawn = isolated()(self.sampling.draw)(first, end, warm_up)
            except BaseException as bad:
                # As above.
                return _failed(bad)
            return {"outcomes": [drawn], "opened": self.sampling.opened()}

    def close(self) -> None:
        """Waits for the batch that is being drawn."""
        with self._one_at_a_time:
            pass


def _failed(bad: BaseException) -> dict[str, Any]:
    """The answer for a batch that has none. short: the worker's process or machine lacks something."""
    if isinstance(bad, VtbenchError):
        return {"why": str(bad), "code": bad.code, "short": isinstance(bad, Short)}
    return {"why": cause(bad), "code": 1, "short": False}


@dataclass(frozen=True)
class _Sink:
    """One lane's end in a worker: what is measured waits for the batch's answer."""

    bench: Bench
    measurer: Any

    def write(self, work: pipeline.Work) -> None:
        self.bench.take(self.measurer, work)


@dataclass(frozen=True)
class _Pace(pipeline.Pace):
    """As in one process, multiply-accumulates are counted on the run's first batch; every worker's first warms up."""

    firsts: Sequence[int] = ()

    def warms_up(self, number: int) -> bool:
        return super().warms_up(number) or self.counts_macs(number)

    def counts_macs(self, number: int) -> bool:
        return self.firsts[number] == 0 and super().counts_macs(0)
