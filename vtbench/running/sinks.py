"""What takes a system's batches: in order, several of them on their way at a time, in this thread or another."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vtbench.images.ahead import started
from vtbench.images.stream import Original
from vtbench.metrics._beside import Beside, Needs
from vtbench.models.outputs import Output
from vtbench.types.metric import Reference

PIXELS_AHEAD = 1 << 24
"""Of all lanes' batches that are on their way to their rows together: some 64 bytes a pixel."""


@dataclass(frozen=True)
class Part:
    """Images of one size of a batch: the originals and where they stand in it, one seed each, the reference as every
    metric reads it (shared by all lanes, as is what metrics compute on it), and one lane's output."""

    positions: Sequence[int]
    originals: Sequence[Original]
    seeds: Sequence[int]
    reference: Reference
    output: Output


@dataclass(frozen=True)
class Work:
    """A batch on its way from a system to its sink; `warm_up`: its times do not count; `beside`: processes that
    measure for it."""

    originals: Sequence[Original]
    parts: Sequence[Part]
    warm_up: bool = False
    beside: Beside | None = None


class Sink(Protocol):
    """What takes a system's batches, in order."""

    def write(self, work: Work) -> None: ...


@runtime_checkable
class Beginning(Sink, Protocol):
    """A sink whose batches may be on their way beside one another: `begin` has other processes begin, and returns what
    finishes the batch. Both are called in the batches' order. `needs`: what those processes take; None: it asks them
    nothing."""

    def needs(self) -> Needs | None: ...

    def begin(self, work: Work) -> Callable[[], None]: ...


def processes(sinks: Sequence[Sink], images: int) -> Beside | None:
    """Those that measure for the sinks, each of which gets so many images; none where a batch must be finished before
    the next is begun, or where they would have nothing to do."""
    begin = [sink for sink in sinks if isinstance(sink, Beginning)]
    needs = Needs.of_all(n for n in (sink.needs() for sink in begin) if n is not None)
    if needs is None or len(begin) < len(sinks):
        return None
    return Beside(images * len(sinks), needs)


class Sinks:
    """The lanes' ends, in the order of the batches: a few of them are begun before the first is finished, so that the
    processes beside this one always have work."""

    def __init__(self, sinks: Sequence[Sink], tick: Callable[[int], None] | None, beside: Beside | None) -> None:
        self._sinks, self._tick, self._beside = sinks, tick, beside
        self._begun: deque[tuple[Sequence[Work], list[Callable[[], None]]]] = deque()

    def take(self, works: Sequence[Work]) -> None:
        self._begun.append((works, [_begin(sink, w) for sink, w in zip(self._sinks, works, strict=True)]))
        while len(self._begun) > self._ahead(len(works[0].originals)):
            self._finish_first()

    def finish(self) -> None:
        while self._begun:
            self._finish_first()

    def give_up(self) -> None:
        """What other processes are at is waited for no longer: one may be loading a network."""
        if self._beside is not None:
            self._beside.give_up()

    def _ahead(self, images: int) -> int:
        """How many batches may be on their way: twice what the processes are sent at a time; none beyond what memory
        should hold."""
        pixels = sum(_pixels(w) for works, _ in self._begun for w in works)
        if self._beside is None or pixels > PIXELS_AHEAD:
            return 0
        return self._beside.batches_ahead(images)

    def _finish_first(self) -> None:
        works, ends = self._begun.popleft()
        for end in ends:
            end()
        if self._tick is not None:
            self._tick(len(works[0].originals))


def _begin(sink: Sink, work: Work) -> Callable[[], None]:
    if work.beside is not None and isinstance(sink, Beginning):
        return sink.begin(work)
    return lambda: sink.write(work)


def _pixels(work: Work) -> int:
    return sum(part.output.images[0, 0].numel() * len(part.positions) for part in work.parts)


def in_turn(sinks: Sinks, works: Iterator[list[Work]]) -> None:
    """Metrics of a batch, then the system's next; what processes beside this one do of it goes on meanwhile."""
    while True:
        try:
            batch = next(works, None)
        except Exception:
            # The system failed: what it made until then is finished.
            sinks.finish()
            raise
        if batch is None:
            sinks.finish()
            return
        sinks.take(batch)


def overlapped(sinks: Sinks, works: Iterator[list[Work]]) -> None:
    """Metrics of a batch while the model works on the next."""
    from threadpoolctl import threadpool_limits

    waiting: queue.Queue[list[Work] | None] = queue.Queue(maxsize=1)
    trouble: list[BaseException] = []

    def consume() -> None:
        # A new thread has none of the caller's modes (autocast, inference mode, default device); the rest of what
        # `isolated` sets is the process's, and set already.
        # OpenMP's limit is the calling thread's own: a second team of workers would spin against the model's.
        with threadpool_limits(1, user_api="openmp"):
            while True:
                batch = waiting.get()
                try:
                    if batch is not None and not trouble:
                        sinks.take(batch)
                    elif not trouble:
                        sinks.finish()
                except BaseException as bad:
                    # Raised again by the thread that makes the batches.
                    trouble.append(bad)
                if batch is None:
                    return

    thread = started(threading.Thread(target=consume, name="metrics"))
    try:
        for batch in works:
            if trouble:
                break
            waiting.put(batch)
    except BaseException as bad:
        if not isinstance(bad, Exception):
            sinks.give_up()
        raise
    finally:
        waiting.put(None)
        thread.join()
    if trouble:
        raise trouble[0]
