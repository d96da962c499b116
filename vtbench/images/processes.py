"""Readers as processes of their own, where threads would wait for one another: each reads for one reader thread.

A child is `python -c` with this process's `sys.path`, and never runs the caller's own script (as multiprocessing's
spawn does). It speaks over two pipes and nothing else, so that a kill leaves nothing behind in /dev/shm, and it ends
when its pipe does: with its parent, however that ends. It leads a process group of its own, so that Ctrl-C reaches the
parent alone, which then ends it. A child that is killed is replaced, and its image read again; one that two children
died of is a failed image, not the end of a run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Generic, TypeVar

from vtbench.images import ahead

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
LOOKED_AT = 12
"""So many images are read by threads first, to know what one costs."""
START = 0.2
"""CPU seconds that a child takes before it reads: Python, numpy, Pillow."""
PAYS = 4.0
"""A child must have so many times what its start costs to do."""
LARGEST = 1 << 26
"""Bytes of what a child must be told to begin with; more than that is left to threads."""
PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from vtbench.images.processes import serve; serve()"
TURNS = 2
"""So many children may die of one image."""
STARTS = 60.0
"""Seconds that a child has to be ready, on a machine that does much else."""
LEAVE, GONE = 0.3, 1.0
"""Seconds that a child has to leave by itself, and to be gone when it was killed."""
_HEAD = struct.Struct("<QQ")


class Processes(Generic[T, R]):
    """`read`, in the calling thread or in a child that reads for it; called by reader threads.

    The first images are read by the threads. If what is left of the work takes several times what children cost to
    start, each thread gets one, and goes on by itself until that is ready. What cannot be pickled stays with threads.
    """

    def __init__(self, read: Callable[[T], R], failed: Callable[[T, str], R], images: int, threads: int) -> None:
        """failed: the result of an item that could not be read, with the reason. images: how many there are in all."""
        self._read, self._failed = read, failed
        self._left, self._threads = images, threads
        self._lock = threading.Lock()
        self._seconds, self._seen = 0.0, 0
        self._most = 0
        self._task: bytes | None = None
        self._mine = threading.local()
        self._children: list[_Child] = []
        self._closed = False

    def __call__(self, item: T) -> R:
        child = self._child()
        if child is None or not child.ready.is_set():
            return self._here(item)
        how = ""
        for turn in range(TURNS):
            try:
                result: R = child.ask(item)
                return result
            except _Late:
                self._drop(child)
                return self._failed(item, late(item))
            except (OSError, EOFError) as bad:
                how = self._drop(child)
                log.debug("the pipe of reader process %d", child.pid, exc_info=bad)
                if turn + 1 < TURNS:
                    log.warning("reader process %d ended (%s): %s is read again", child.pid, how, _name(item))
                    child = self._begin()
                    if not child.ready.wait(STARTS):
                        return self._here(item)
        return self._failed(item, f"{_name(item)} cannot be read: {TURNS} processes that read it ended ({how})")

    def close(self) -> None:
        """Ends all children."""
        with self._lock:
            children, self._children, self._most, self._closed = self._children, [], 0, True
        for child in children:
            child.leave()
        for child in children:
            child.end(LEAVE)

    def _here(self, item: T) -> R:
        if self._seen >= LOOKED_AT:
            return self._read(item)
        began = time.thread_time()
        result = self._read(item)
        with self._lock:
            self._seconds += time.thread_time() - began
            self._seen += 1
            if self._seen == LOOKED_AT:
                self._decide()
        return result

    def _decide(self) -> None:
        """How many children are worth their start."""
        work = self._seconds / self._seen * (self._left - self._seen)
        most = min(self._threads, int(work / (PAYS * START)))
        if most < 1 or ahead.cores() < 2 or os.name != "posix" or not sys.executable:
            return
        try:
            task = pickle.dumps(self._read, protocol=5)
        except Exception as bad:
            # A suite that holds what only this process has: whatever pickle stumbles over, threads read it.
            log.debug("what reads cannot be sent to another process", exc_info=bad)
            return
        if len(task) <= LARGEST:
            self._task, self._most = task, most

    def _child(self) -> _Child | None:
        """The calling thread's own child, begun if it may have one."""
        child: _Child | None = getattr(self._mine, "child", None)
        if child is not None or not self._most:
            return child
        with self._lock:
            if sum(not c.ended for c in self._children) >= self._most:
                return None
        return self._begin()

    def _begin(self) -> _Child:
        """A new child for the calling thread."""
        child = self._mine.child = _Child(self._task or b"")
        with self._lock:
            self._children.append(child)
            if self._closed:
                # By a thread that was given up, and has come back after all.
                child.ended = True
        child.begin()
        return child

    def _drop(self, child: _Child) -> str:
        """Ends a child that is of no use any more; how it ended."""
        self._mine.child = None
        return child.end()


def late(item: Any) -> str:
    """Why an image that took too long has no pixels."""
    return f"{_name(item)} was not read within {ahead.PATIENCE:g} s: does its disk answer?"


def _name(item: Any) -> str:
    return str(getattr(item, "id", item))


class _Late(Exception):
    """A child did not answer in time."""


class _Child:
    """One process. `ready` is set when it can be asked; what it is asked, it is asked by one thread."""

    def __init__(self, task: bytes) -> None:
        self._task = task
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.ready = threading.Event()
        self.ended = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def begin(self) -> None:
        """Starts it, in a thread: the caller goes on."""
        threading.Thread(target=self._start, name="reader-start", daemon=True).start()

    def _start(self) -> None:
        try:
            with self._lock:
                if self.ended:
                    return
                self._process = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, json.dumps([str(p) for p in sys.path])],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    process_group=0,
                )
            self._send(self._task)
            self._receive(time.monotonic() + STARTS)
        except (OSError, ValueError, EOFError, _Late) as bad:
            # The threads go on without it.
            log.debug("a reader process did not start", exc_info=bad)
            self.end()
        else:
            self.ready.set()

    def ask(self, item: Any) -> Any:
        """What the child reads; raises what its `read` raised, EOFError or OSError if it is gone, _Late."""
        end = time.monotonic() + ahead.PATIENCE
        self._send(pickle.dumps(item, protocol=5))
        raised, value = self._receive(end)
        if raised:
            raise value
        return value

    def leave(self) -> None:
        """Asks it to end, by the end of its pipe."""
        self.ready.clear()
        with self._lock:
            self.ended, process = True, self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def end(self, grace: float = 0.0) -> str:
        """Ends it, at once or if it has not left within `grace` seconds; how it ended, in words."""
        self.leave()
        process = self._process
        if process is None:
            return "it never began"
        with contextlib.suppress(subprocess.TimeoutExpired):
            if grace:
                process.wait(grace)
        process.kill()
        try:
            code = process.wait(GONE)
        except subprocess.TimeoutExpired:
            # It waits for a disk that does not answer; the system ends it when that does.
            return "killed"
        if process.stdout is not None:
            process.stdout.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _send(self, data: bytes) -> None:
        pipe = self._process.stdin if self._process is not None else None
        if pipe is None or pipe.closed:
            raise EOFError("the pipe is closed")
        _write(pipe, _HEAD.pack(len(data), 0) + data)

    def _receive(self, end: float) -> Any:
        pipe = self._process.stdout if self._process is not None else None
        if pipe is None or pipe.closed:
            raise EOFError("the pipe is closed")
        return _read_message(pipe, end)


def _write(pipe: IO[bytes], data: bytes | memoryview) -> None:
    """All of it, into an unbuffered pipe."""
    view = memoryview(data).cast("B")
    while view:
        view = view[pipe.write(view) or 0 :]


def _fill(pipe: IO[bytes], size: int, end: float | None) -> bytearray:
    """So many bytes of an unbuffered pipe; EOFError if it ends before, _Late after `end` (of the monotonic clock)."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        if end is not None:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise _Late
        count = pipe.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the pipe ended")
        view = view[count:]
    return data


def _read_message(pipe: IO[bytes], end: float | None) -> Any:
    """One pickled object; its arrays come beside it, each in memory of its own."""
    size, count = _HEAD.unpack(_fill(pipe, _HEAD.size, end))
    sizes = struct.unpack(f"<{count}Q", _fill(pipe, 8 * count, end))
    text = _fill(pipe, size, end)
    return pickle.loads(text, buffers=[_fill(pipe, n, end) for n in sizes])


def _write_message(pipe: IO[bytes], value: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    _write(pipe, _HEAD.pack(len(text), len(raw)) + struct.pack(f"<{len(raw)}Q", *(r.nbytes for r in raw)) + text)
    for part in raw:
        _write(pipe, part)


def serve() -> None:
    """A child's whole life: what reads, then item after item, until the pipe ends."""
    questions = open(os.dup(0), "rb", buffering=0)  # noqa: SIM115
    answers = open(os.dup(1), "wb", buffering=0)  # noqa: SIM115
    nothing = os.open(os.devnull, os.O_RDWR)
    # What libraries print, or read, is no message.
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError):
        read = _read_message(questions, None)
        _write_message(answers, True)
        while True:
            item = _read_message(questions, None)
            try:
                answer = (False, read(item))
            except BaseException as bad:
                answer = (True, bad)
            _write_message(answers, answer)
