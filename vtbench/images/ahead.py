"""Work done ahead by threads: results come in order, and only a bounded number of them waits in memory."""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from vtbench.types.errors import VtbenchError

T = TypeVar("T")
R = TypeVar("R")
THREADS = 2
VARIABLE = "VTBENCH_READERS"
"""Environment: how many images are read at a time, for commands and scripts alike."""
MOST_READERS = 16
"""By default. Beyond so many, the disk or the model is what others wait for."""
LIMIT = 1024
PATIENCE = 120.0
"""Seconds after which one image is given up: of a disk that does not answer, nothing will come."""
LATER = 1.1
"""Times PATIENCE, after which a thread is given up: that of the process that reads for it comes first."""
LOOKS = 0.5
"""Seconds after which one who waits looks whether everything was given up."""
FAREWELL = 5.0
"""Seconds in which threads may finish what they do when the work ends."""


def cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def readers() -> int:
    """How many images are read at a time: $VTBENCH_READERS; without it one fewer than the cores, at least 2 and at most
    16. No number depends on it."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        # torchrun says how many of its processes share this machine, and binds none of them to cores.
        ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
        share = max(1, int(ranks)) if ranks.isascii() and ranks[:9].isdigit() else 1
        return min(max(THREADS, cores() // share - 1), MOST_READERS)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT:
        raise VtbenchError(f"{VARIABLE} is {text!r}: give the number of images that are read at a time, 1 to {LIMIT}")
    return int(text)


class Stopped(KeyboardInterrupt):
    """What was begun is waited for no longer, since the command was stopped."""


def started(thread: threading.Thread) -> threading.Thread:
    """The thread, at work. Raises VtbenchError where the system gives this process no more of them."""
    try:
        thread.start()
    except RuntimeError as bad:
        raise VtbenchError(
            f"the system lets this command begin no more threads ({bad}): raise its limit (ulimit -u, or that of the "
            "container), or give fewer --readers",
            code=1,
        ) from bad
    return thread


class Task(Generic[T, R]):
    """One item on its way; `began`: when a thread took it up, None before."""

    __slots__ = ("bad", "began", "done", "given_up", "item", "result")

    def __init__(self, item: T) -> None:
        self.item = item
        self.done = threading.Event()
        self.began: float | None = None
        self.given_up = False
        self.result: list[R] = []
        self.bad: BaseException | None = None


class Pool(Generic[T, R]):
    """Daemon threads, so that one which hangs on a dead disk keeps no command from ending."""

    def __init__(self, work: Callable[[T], R], threads: int, name: str) -> None:
        self._work, self._most, self._name = work, threads, name
        self._tasks: queue.SimpleQueue[Task[T, R] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lost = 0
        self._ended = self._given_up = False

    def begin(self, item: T) -> Task[T, R]:
        task: Task[T, R] = Task(item)
        self._tasks.put(task)
        if len(self._threads) - self._lost < self._most:
            self._one_more()
        return task

    def result(self, task: Task[T, R], late: Callable[[T], R] | None) -> R:
        """The task's result, or what it raised; `late(item)` for one that has taken longer than PATIENCE. Raises
        Stopped once all was given up."""
        while not self._given_up and not task.done.wait(LOOKS if late is None else min(LOOKS, _left(task))):
            if late is not None and task.began is not None and _left(task) <= 0:
                task.given_up = True
                self._lost += 1
                self._one_more()
                return late(task.item)
        if self._given_up:
            raise Stopped
        if task.bad is not None:
            raise task.bad
        return task.result.pop()

    def stop(self) -> None:
        """Nothing more is begun."""
        self._ended = True

    def give_up(self) -> None:
        """Nothing more is begun, and nobody waits for what is."""
        self._ended = self._given_up = True

    def close(self) -> None:
        """Nothing more is begun; waits for what is, though not for ever."""
        self.stop()
        for _ in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + FAREWELL
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()) if not self._lost else 0.0)

    def _one_more(self) -> None:
        thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            self._threads.append(started(thread))
        except VtbenchError:
            # Those that there are do the work. Without any, each task says so: none is ever waited for.
            if len(self._threads) == self._lost:
                raise
            self._most = len(self._threads) - self._lost

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._ended:
            task.began = time.monotonic()
            try:
                task.result.append(self._work(task.item))
            except BaseException as bad:
                # Raised again where the result is asked for.
                task.bad = bad
            task.done.set()
            if task.given_up:
                # Another thread has taken this one's place.
                return
            del task


def _left(task: Task[T, R]) -> float:
    """Seconds until the task is given up; of one that waits for a thread, all of them."""
    return PATIENCE * LATER if task.began is None else max(0.0, task.began + PATIENCE * LATER - time.monotonic())


def read_ahead(
    read: Callable[[T], R],
    items: Iterable[T],
    *,
    most: int,
    threads: int = THREADS,
    name: str = "read",
    late: Callable[[T], R] | None = None,
) -> Iterator[R]:
    """`read(item)` of every item, in their order, by `threads` threads; at most `most` results are begun and not yet
    taken. An exception of `read` is raised where its result is taken; what was begun and not taken is then dropped.
    late: the result of an item whose reading took longer than PATIENCE; without it, it is waited for."""
    rest = iter(items)
    pool = Pool(read, threads, name)
    waiting: deque[Task[T, R]] = deque()
    try:
        while True:
            for item in itertools.islice(rest, most - len(waiting)):
                waiting.append(pool.begin(item))
            if not waiting:
                return
            yield pool.result(waiting.popleft(), late)
    finally:
        pool.close()


def in_batches(results: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` results, the last one shorter."""
    rest = iter(results)
    while batch := list(itertools.islice(rest, size)):
        yield batch
