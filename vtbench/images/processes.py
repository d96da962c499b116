"""Work in processes of its own, where threads would wait for one another: each child works for one thread of this one.

A child that is killed is replaced, and asked again; an item that two children died of is a failed one, not the end of a
run. `vtbench.images.children` is what a child is.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vtbench.images import ahead
from vtbench.images.children import LEAVE, STARTS, Child, Late

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
LOOKED_AT = 12
"""So many images are worked on by threads first, to know what one costs."""
START = 0.45
"""CPU seconds that a child takes until its first answer: Python, numpy, Pillow and what reads a suite. Measured: 0.42
of one image, 0.5 over 1000."""
PAYS = 8.0
"""A child must have so many times what its start costs to do. Of reading, threads do half as much again as one: at 3
times, two children took as long as two threads, and a quarter more of the processor."""
LARGEST = 1 << 26
"""Bytes of what a child must be told to begin with; more than that is left to threads."""
TURNS = 2
"""So many children may die of one item."""


@dataclass(frozen=True)
class Words:
    """What is said of children and of what they do: `done` ends "it was not …", `doubt` is asked where one was late."""

    child: str
    done: str
    doubt: str

    def late(self, item: Any) -> str:
        """Why an item that took too long has no result."""
        return f"{_name(item)} was not {self.done} within {ahead.PATIENCE:g} s: {self.doubt}"


READING = Words("reader process", "read", "does its disk answer?")


class Processes(Generic[T, R]):
    """`work`, in the calling thread or in a child that works for it; called by threads of a pool.

    The first images are worked on by the threads. If what is left takes several times what children cost to start, each
    thread gets one, and goes on by itself until that is ready. What cannot be pickled stays with threads.
    """

    def __init__(
        self,
        work: Callable[[T], R],
        failed: Callable[[T, str], R],
        images: int,
        threads: int,
        *,
        words: Words = READING,
        share: Callable[[T], float] = lambda item: 1.0,
        doubted: Callable[[T], bool] = lambda item: False,
        least: Callable[[], float] = lambda: PAYS * START,
    ) -> None:
        """failed: the result of an item that has none, with the reason. images: how many there are in all. share: how
        many images an item stands for. doubted: whether it has cost a child already, so that this process keeps off
        it. least: CPU seconds of work for which a child is worth its start."""
        self._work, self._failed, self._words = work, failed, words
        self._share, self._doubted, self._least = share, doubted, least
        self._images, self._threads = images, threads
        self._lock = threading.Lock()
        self._seconds, self._seen = 0.0, 0.0
        self._decided = False
        self._most = 0
        self._task: bytes | None = None
        self._mine = threading.local()
        self._children: list[Child] = []
        self._closed = False

    def __call__(self, item: T) -> R:
        child = self._child()
        if self._closed:
            # By a thread whose result nobody waits for any more.
            return self._failed(item, f"{_name(item)} was not {self._words.done}: the run has ended")
        if child is None or not child.ready.is_set():
            if self._task is None or not self._doubted(item):
                return self._here(item)
            child = child or self._begin()
            if not child.ready.wait(STARTS):
                return self._failed(item, self._words.late(item))
        how = ""
        for turn in range(TURNS):
            try:
                result: R = child.ask(item)
                return result
            except Late:
                self._drop(child)
                return self._failed(item, self._words.late(item))
            except (OSError, EOFError) as bad:
                if self._closed:
                    break
                how = self._drop(child)
                log.debug("the pipe of %s %d", self._words.child, child.pid, exc_info=bad)
                if turn + 1 < TURNS:
                    words = (self._words.child, child.pid, how, _name(item), self._words.done)
                    log.warning("%s %d ended (%s): %s is %s again", *words)
                    child = self._begin()
                    if not child.ready.wait(STARTS):
                        return self._here(item)
        done = self._words.done
        return self._failed(item, f"{_name(item)} cannot be {done}: {TURNS} processes that {done} it ended ({how})")

    def close(self) -> None:
        """Ends all children."""
        with self._lock:
            children, self._children, self._most, self._closed = self._children, [], 0, True
        for child in children:
            child.leave()
        for child in children:
            child.end(LEAVE)

    def _here(self, item: T) -> R:
        if self._decided:
            return self._work(item)
        began = time.thread_time()
        result = self._work(item)
        with self._lock:
            self._seconds += time.thread_time() - began
            self._seen += self._share(item)
            if self._seen >= LOOKED_AT and not self._decided:
                self._decided = True
                self._decide()
        return result

    def _decide(self) -> None:
        """How many children are worth their start."""
        work = self._seconds / self._seen * (self._images - self._seen)
        most = min(self._threads, int(work / self._least()))
        if most < 1 or ahead.cores() < 2 or os.name != "posix" or not sys.executable:
            return
        try:
            task = pickle.dumps(self._work, protocol=5)
        except Exception as bad:
            # A suite that holds what only this process has: whatever pickle stumbles over, threads do it.
            log.debug("what works cannot be sent to another process", exc_info=bad)
            return
        if len(task) <= LARGEST:
            self._task, self._most = task, most

    def _child(self) -> Child | None:
        """The calling thread's own child, begun if it may have one."""
        child: Child | None = getattr(self._mine, "child", None)
        if child is not None or not self._most:
            return child
        with self._lock:
            if sum(not c.ended for c in self._children) >= self._most:
                return None
        return self._begin()

    def _begin(self) -> Child:
        """A new child for the calling thread."""
        child = self._mine.child = Child(self._task or b"")
        with self._lock:
            self._children.append(child)
            if self._closed:
                # By a thread that was given up, and has come back after all.
                child.ended = True
        child.begin()
        return child

    def _drop(self, child: Child) -> str:
        """Ends a child that is of no use any more; how it ended."""
        self._mine.child = None
        return child.end()


def _name(item: Any) -> str:
    return str(getattr(item, "id", item))
