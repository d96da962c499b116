"""Batches handed out to workers as these come free; what they return is kept in the order of the images.

A worker that dies gives its batches back: each goes to another, alone, so that one that kills is told from those that
stood beside it. Nothing here knows what a worker is: `Crew` says what is asked of those who do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vtbench.types import interrupts
from vtbench.types.errors import VtbenchError
from vtbench.types.shortage import Short

IN_FLIGHT = 4
"""So many batches a worker has at a time: one is read, one waits, one is in the model, one in the metrics."""
TRIES = 3
"""So many workers a batch may lose."""
AHEAD = 4
"""So many times what all workers have at a time may be measured before the batch that is due, and wait in memory."""


@dataclass(frozen=True)
class Spans:
    """Whole batches of the images from `begun` to `end`, by number."""

    begun: int
    end: int
    batch: int

    @property
    def count(self) -> int:
        return -(-(self.end - self.begun) // self.batch)

    def of(self, number: int) -> tuple[int, int]:
        """A batch's first image, and its end."""
        first = self.begun + number * self.batch
        return first, min(first + self.batch, self.end)


@dataclass(frozen=True)
class Event:
    """What happened to a worker. `result`: of the batch `number`. `why` with a number: the model or a metric failed on
    that batch. `why` without: the worker is gone. `back`: the batch was given back, not begun. None of them: the worker
    has joined."""

    worker: str
    number: int | None = None
    result: Any = None
    why: str | None = None
    code: int = 1
    back: bool = False
    short: bool = False
    """That batch failed since the worker's process or machine lacks something."""
    refused: bool = False
    """A worker that has not joined, since it is not like the others."""


class Crew(Protocol):
    """Workers by name."""

    def workers(self) -> Sequence[str]:
        """Those that are set up."""
        ...

    def expects(self) -> bool:
        """Whether others may still join."""
        ...

    def give(self, worker: str, number: int) -> None: ...

    def next(self) -> Event:
        """Waits for the next event."""
        ...


@dataclass
class HandOut:
    """The batches 0 to `count`, each kept once and in order. keep: takes a result; say: takes a sentence for the log;
    name: what a batch is called in one. `run` raises VtbenchError where a batch has no result; those before are kept.
    """

    crew: Crew
    count: int
    keep: Callable[[Any], None]
    say: Callable[[str], None]
    name: Callable[[int], str]
    due: int = 0
    lost: list[str] = field(default_factory=list)
    """What was said of workers that are gone."""

    def __post_init__(self) -> None:
        self._next = 0
        self._again: list[int] = []
        self._tries: Counter[int] = Counter()
        self._at: dict[str, set[int]] = {}
        self._waiting: dict[int, Any] = {}
        self._out: set[str] = set()
        self._end = self.count
        self._bad: VtbenchError | None = None

    def run(self) -> None:
        while self.due < self._end:
            interrupts.check()
            self._give()
            if not any(self._at.values()) and not self.crew.expects():
                raise VtbenchError(f"no worker is left: {self.lost[-1] if self.lost else 'none has begun'}", code=1)
            self._take(self.crew.next())
            while self.due in self._waiting and self.due < self._end:
                self.keep(self._waiting.pop(self.due))
                self.due += 1
        if self._bad is not None:
            raise self._bad

    def _take(self, event: Event) -> None:
        at = self._at.setdefault(event.worker, set())
        if event.number is None:
            if event.why is not None:
                self._gone(event.worker, event.why, at)
            return
        if event.number not in at:
            return
        at.discard(event.number)
        if event.back:
            self._again.append(event.number)
            self._out.add(event.worker)
        elif event.why is not None:
            self._out.add(event.worker)
            short = Short(f"{event.worker}: {event.why}") if event.short else None
            self._stop(event.number, short or VtbenchError(event.why, code=event.code))
        else:
            self._waiting[event.number] = event.result

    def _gone(self, worker: str, why: str, at: set[int]) -> None:
        """Its batches go to others, unless they were tried too often."""
        self._out.add(worker)
        back = f"; what it had in hand ({len(at)} of the run's batches) goes to others" if at else ""
        self.lost.append(f"{worker} is gone ({why}){back}")
        self.say(self.lost[-1])
        for number in sorted(at):
            self._tries[number] += 1
            if self._tries[number] == TRIES:
                lost = f"{self.name(number)} lost {TRIES} workers, the last one {worker} ({why})"
                self._stop(number, VtbenchError(lost, code=1))
            self._again.append(number)
        at.clear()

    def _stop(self, number: int, bad: VtbenchError) -> None:
        """The run ends before this batch; those before it are still waited for."""
        if number < self._end or self._bad is None:
            self._end, self._bad = min(number, self._end), bad

    def _give(self) -> None:
        workers = [w for w in self.crew.workers() if w not in self._out]
        self._again = sorted(n for n in self._again if n < self._end)
        for worker in workers:
            at = self._at.setdefault(worker, set())
            if self._again and not at:
                self._hand(worker, self._again.pop(0))
        # Round by round, so that a short run is shared by all.
        for room in range(1, IN_FLIGHT + 1):
            for worker in workers:
                at = self._at[worker]
                alone = any(self._tries[number] for number in at)
                if len(at) < room and not alone and self._next < self._most(len(workers), room):
                    self._hand(worker, self._next)
                    self._next += 1

    def _most(self, workers: int, room: int) -> int:
        """Where handing out ends for now: at what memory holds, and before the last batches pile up at one worker that
        may be slow."""
        left = self._end - self._next
        share = self._end if left > workers * (room - 1) else self._next
        return min(share, self.due + AHEAD * IN_FLIGHT * workers)

    def _hand(self, worker: str, number: int) -> None:
        self._at[worker].add(number)
        self.crew.give(worker, number)
