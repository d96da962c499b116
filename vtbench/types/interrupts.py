"""Ctrl-C that is not lost: what it raises may come up where Python, or a library, swallows it.

An exception in a destructor or in a callback of the garbage collector is printed and forgotten (importing modules runs
many), and a bare `except:` of a library takes it for a failure of its own. A command that was stopped would go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

_pressed = threading.Event()


def leave(code: int) -> NoReturn:
    """Ends the process of a command that was stopped, with the code and its output written, and without Python's own
    end: that takes seconds with torch loaded, and compiled code that was stopped half way may fall over in it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _raise(number: int, frame: Any) -> None:
    _pressed.set()
    raise KeyboardInterrupt


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Around a whole command: Ctrl-C is noted besides being raised. Where somebody handles it in a way of their own, it
    stays theirs."""
    _pressed.clear()
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _pressed.clear()


def check() -> None:
    """Between two steps of the work: raises KeyboardInterrupt where Ctrl-C was pressed and nothing came of it."""
    if _pressed.is_set():
        raise KeyboardInterrupt
