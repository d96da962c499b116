"""Ctrl-C that Python or a library swallows stops a command all the same."""

from __future__ import annotations

import os
import signal

import pytest

from vtbench.types import interrupts


class Callback:
    """Its destructor is where Ctrl-C comes: Python prints what it raises there, and goes on."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def swallowed_by_python() -> None:
    callback = Callback()
    del callback


def swallowed_by_a_library() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except:  # noqa: E722
        return


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("swallow", [swallowed_by_python, swallowed_by_a_library])
def test_it_stops_the_next_step(swallow: object) -> None:
    assert callable(swallow)
    before = signal.getsignal(signal.SIGINT)
    with interrupts.remembered():
        interrupts.check()
        swallow()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before


def test_who_handles_it_keeps_it() -> None:
    """A notebook, or a script with a handler of its own."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with interrupts.remembered():
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
