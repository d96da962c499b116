"""Code from outside at work: what it prints, how it ends and that it forks is no matter of the command's."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO


class Ended(Exception):
    """What code from outside raised that is no Exception, Ctrl-C aside; of a class called like it."""


_lock = threading.Lock()
_at_work = 0
_stdout: list[TextIO] = []
"""The command's own standard output while code from outside is at work."""


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Around every call of somebody else's code. What it prints goes to standard error, since standard output is the
    command's answer; `sys.exit` and the like are raised as Ended; a process that it forked off and let come back here
    ends, since two would write one run. It cannot keep code from ending the process at once (`os._exit`)."""
    process = os.getpid()
    _begin()
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as bad:
        raise type(type(bad).__name__, (Ended,), {})(str(bad)) from bad
    finally:
        if os.getpid() != process:
            os._exit(1)
        _end()


def _begin() -> None:
    # Counted: metrics work in a thread beside the model, and the one that ends last gives the output back.
    global _at_work
    with _lock:
        if _at_work == 0:
            _stdout[:] = [sys.stdout]
            sys.stdout = sys.stderr
        _at_work += 1


def _end() -> None:
    global _at_work
    with _lock:
        _at_work -= 1
        if _at_work == 0:
            sys.stdout = _stdout.pop()


STDOUT, STDERR = 1, 2
"""Numbers of the standard streams, as compiled code and other programs know them."""


@contextlib.contextmanager
def own_output() -> Iterator[bool]:
    """Around a whole command: standard output is its answer and nothing else. What compiled code or another program
    writes to its number goes to standard error, and so does what is printed once the command has ended (`atexit`).
    Yields whether the process is the command's own: nobody has put something in the place of standard output."""
    answer = _taken_output()
    if answer is None:
        yield sys.stdout is None or sys.stdout is sys.__stdout__
        return
    sys.stdout = answer
    try:
        yield True
    finally:
        try:
            answer.flush()
        except (OSError, ValueError):
            # Whoever read it is gone (`| head`): what is left is nobody's, and no complaint at the very end.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), answer.fileno())
        sys.stdout = sys.stderr


def _taken_output() -> TextIO | None:
    """Standard output under another number, which no other program is handed, its own standing for standard error from
    now on. None where it is closed, or somebody's (a test's, a notebook's) stands in its place."""
    mine = sys.stdout
    if mine is None or sys.__stdout__ is None or mine is not sys.__stdout__:
        return None
    try:
        if mine.fileno() != STDOUT:
            return None
        mine.flush()
        taken = os.dup(STDOUT)
    except (OSError, ValueError):
        return None
    try:
        os.dup2(STDERR, STDOUT)
    except OSError:
        os.close(taken)
        return None
    buffering = 1 if os.isatty(taken) else -1
    return open(taken, "w", buffering, encoding=mine.encoding, errors=mine.errors)
