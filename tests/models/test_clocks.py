"""How long a model took: at once by the clock, or by events that are read later, without any batch waiting."""

from __future__ import annotations

from typing import Any

import pytest

from vtbench.models.clocks import Clock, Elapsed


class Queue:
    """A device's queue: what was put into it takes its seconds when somebody waits."""

    def __init__(self) -> None:
        self.work: list[Any] = []
        self.now = 0.0
        self.waits = 0

    def put(self, seconds: float) -> None:
        self.work.append(seconds)

    def event(self) -> Event:
        return Event(self)


class Event:
    """As torch.cuda.Event(enable_timing=True)."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.at: float | None = None

    def record(self) -> None:
        self.queue.work.append(self)

    def synchronize(self) -> None:
        self.queue.waits += 1
        while self.at is None:
            first = self.queue.work.pop(0)
            if isinstance(first, Event):
                first.at = self.queue.now
            else:
                self.queue.now += first

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds."""
        assert self.at is not None
        assert end.at is not None
        return 1000 * (end.at - self.at)


def test_events_are_read_when_somebody_asks_and_not_before() -> None:
    queue = Queue()
    clock = Clock("fake", queue.event)
    spans = []
    for seconds in (0.25, 0.5, 2.0):
        start = clock.mark()
        queue.put(seconds)
        spans.append(clock.between(start, clock.mark()))
        queue.put(7.0)  # Somebody else's work, between two batches.
    assert queue.waits == 0
    assert all(isinstance(s, Elapsed) for s in spans)
    assert [float(s) for s in spans] == [0.25, 0.5, 2.0]
    assert queue.waits == 3
    # What was put in after the last event is not waited for.
    assert queue.work == [7.0]


def test_on_a_cpu_the_seconds_are_there_at_once() -> None:
    clock = Clock("cpu")
    start = clock.mark()
    assert clock.between(start, start) == 0.0
    assert isinstance(clock.between(start, clock.mark()), float)
    assert clock.between(start, clock.mark()) == pytest.approx(0.0, abs=1.0)
