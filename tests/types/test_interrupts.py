"""Ctrl-C that Python or a library swallows stops a command all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support import ROOT

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


STOPPED = """
import atexit, os, signal, sys
from vtbench.cli import main
# As compiled code that was stopped half way.
atexit.register(os._exit, 3)
signal.signal(signal.SIGINT, signal.default_int_handler)


def verb():
    print("half of an answer")
    os.kill(os.getpid(), signal.SIGINT)


sys.argv = ["vtbench"]
sys.modules["vtbench.cli.main"].app = verb
main()
"""


def test_a_command_that_was_stopped_ends_with_its_code_whatever_happens_at_pythons_end() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", STOPPED],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (130, "half of an answer\n")
    assert ran.stderr.startswith("vtbench: stopped; finished batches are kept")
