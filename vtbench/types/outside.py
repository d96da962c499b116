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
