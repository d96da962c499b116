"""A process beside this one that answers questions over two pipes.

A child is `python -c` with this process's `sys.path`, and never runs the caller's own script (as multiprocessing's
spawn does). It speaks over two pipes and nothing else, so that a kill leaves nothing behind in /dev/shm, and it ends
when its pipe does: with its parent, however that ends. It leads a process group of its own, so that Ctrl-C reaches the
parent alone, which then ends it.
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
from collections.abc import Sequence
from typing import IO, Any

from vtbench.images import ahead
from vtbench.types.errors import VtbenchError

try:
    import fcntl
except ImportError:
    # Where there are no such pipes either.
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from vtbench.images.children import serve; serve()"
STARTS = 60.0
"""Seconds that a child has to be ready, on a machine that does much else."""
LEAVE, GONE = 0.3, 1.0
"""Seconds that a child has to leave by itself, and to be gone when it was killed."""
PIPE = 1 << 20
"""Bytes that a pipe holds, where the system allows it: a picture is handed over at once, not in pieces of 64 KiB."""
_HEAD = struct.Struct("<QQ")
Buffer = bytes | bytearray | memoryview


class Late(Exception):
    """A child did not answer in time."""


class Child:
    """One process, told once (`task`: a pickled function of one argument) what it is asked for. `ready` is set when it
    can be asked; one thread asks it."""

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
        try:
            ahead.started(threading.Thread(target=self._start, name="child-start", daemon=True))
        except VtbenchError as bad:
            log.debug("a process beside this one was not started", exc_info=bad)
            self.end()

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
            _prepare(self._process.stdin, self._process.stdout)
            end = time.monotonic() + STARTS
            self._send([_HEAD.pack(len(self._task), 0) + self._task], end)
            self._receive(end)
        except (OSError, ValueError, EOFError, Late) as bad:
            # The threads go on without it.
            log.debug("a process beside this one did not start", exc_info=bad)
            self.end()
        else:
            self.ready.set()

    def ask(self, item: Any) -> Any:
        """What the child makes of it; raises what its function raised, EOFError or OSError if it is gone, Late."""
        end = time.monotonic() + ahead.PATIENCE
        self._send(_message(item), end)
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

    def _send(self, parts: Sequence[Buffer], end: float) -> None:
        pipe = self._process.stdin if self._process is not None else None
        if pipe is None or pipe.closed:
            raise EOFError("the pipe is closed")
        try:
            for part in parts:
                _write(pipe, part, end)
        except ValueError as bad:
            raise EOFError("the pipe was closed meanwhile") from bad

    def _receive(self, end: float) -> Any:
        pipe = self._process.stdout if self._process is not None else None
        if pipe is None or pipe.closed:
            raise EOFError("the pipe is closed")
        return _read_message(pipe, end)


def _prepare(questions: IO[bytes] | None, answers: IO[bytes] | None) -> None:
    """Room for PIPE bytes in both; where a user has too many such pipes, they stay as they are. A question that a child
    does not take is waited for no longer than its answer."""
    assert questions is not None
    assert answers is not None
    os.set_blocking(questions.fileno(), False)
    resize = getattr(fcntl, "F_SETPIPE_SZ", None)
    for pipe in (questions, answers):
        if resize is not None:
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, resize, PIPE)


def _write(pipe: IO[bytes], data: Buffer, end: float | None) -> None:
    """All of it, into an unbuffered pipe; Late if that takes until after `end` (of the monotonic clock)."""
    view = memoryview(data).cast("B")
    while view:
        count = pipe.write(view)
        if count:
            view = view[count:]
        else:
            _wait(pipe, select.POLLOUT, end)


def _wait(pipe: IO[bytes], what: int, end: float | None) -> None:
    poll = select.poll()
    poll.register(pipe, what)
    if not poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000):
        raise Late


def _fill(pipe: IO[bytes], size: int, end: float | None) -> bytearray:
    """So many bytes of an unbuffered pipe; EOFError if it ends before, Late after `end` (of the monotonic clock)."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        if end is not None:
            _wait(pipe, select.POLLIN, end)
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


def _message(value: Any) -> list[Buffer]:
    """The object as `_read_message` reads it."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    head = _HEAD.pack(len(text), len(raw)) + struct.pack(f"<{len(raw)}Q", *(r.nbytes for r in raw))
    return [head + text, *raw]


def _answer(function: Any, item: Any) -> list[Buffer]:
    """Whether it raised, and what it returned or raised."""
    try:
        return _message((False, function(item)))
    except BaseException as bad:
        try:
            return _message((True, bad))
        except Exception:
            # An exception of a library that keeps a handle: its words go alone.
            return _message((True, RuntimeError(f"{type(bad).__name__}: {bad}")))


def serve() -> None:
    """A child's whole life: its function, then item after item, until the pipe ends."""
    questions = open(os.dup(0), "rb", buffering=0)  # noqa: SIM115
    answers = open(os.dup(1), "wb", buffering=0)  # noqa: SIM115
    nothing = os.open(os.devnull, os.O_RDWR)
    # What libraries print, or read, is no message.
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError):
        function = _read_message(questions, None)
        parts = _message(True)
        while True:
            for part in parts:
                _write(answers, part, None)
            parts = _answer(function, _read_message(questions, None))
