"""Faults by number: each case is made from a seed and its number alone, is tried in a forked process, and survives or
is named with the command that tries it again.

`python tests/faults/survey.py` is the long part and writes docs/reliability.md; `test_quick_part.py` is the short one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

SEED = 20261128
"""Of the quick part, and of the long one unless another is given."""
SECONDS = 20.0
"""Of processor time that a case may take, and ten times as many by the clock, as a machine may be busy: what hangs is
stopped, and has not survived."""
BUSY = 10
MEMORY = 2 << 30
"""Bytes of addresses that a case may take beyond what the process has when it begins."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault. promise: what a user is promised. how: how it is tried, in words for the page. whole: raises
    unless everything that is damaged later is accepted undamaged, and returns how many that are. case: tries one, in a
    folder of its own, and returns what came out in a word; what it raises has not survived."""

    name: str
    promise: str
    how: str
    whole: Callable[[Path], int]
    case: Callable[[int, int, Path], str]
    """(seed, number, folder)"""
    together: int = 50
    """Cases that one forked process tries."""
    seconds: float = SECONDS
    """That one of them may take."""


@dataclass
class Outcome:
    """What came of the cases of a kind."""

    kind: Kind
    whole: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values()) + len(self.failed)


def survey(kind: Kind, numbers: Sequence[int], seed: int, folder: Path, limit_s: float | None = None) -> Outcome:
    """Tries the cases of these numbers. limit_s: no further process is begun after so many seconds."""
    begun = time.monotonic()
    outcome = Outcome(kind)
    (folder / "whole").mkdir(parents=True)
    outcome.whole = kind.whole(folder / "whole")
    waiting = list(numbers)
    while waiting and (limit_s is None or time.monotonic() - begun < limit_s):
        batch, waiting = waiting[: kind.together], waiting[kind.together :]
        for number, word, why in _in_child(kind, batch, seed, folder):
            if why is None:
                outcome.outcomes[word] += 1
            else:
                outcome.failed[number] = why
    outcome.seconds = time.monotonic() - begun
    return outcome


def _in_child(kind: Kind, numbers: Sequence[int], seed: int, folder: Path) -> Iterator[tuple[int, str, str | None]]:
    """(number, what came out, None or why it did not survive). A process that ends or hangs has not survived the case
    that it had begun, and the rest go on in another."""
    left = list(numbers)
    while left:
        report = folder / f"report-{left[0]}"
        _forked(lambda: _try_all(kind, left, seed, folder, report), BUSY * kind.seconds * len(left))  # noqa: B023
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        for line in lines:
            if "word" in line:
                left.remove(line["number"])
                yield line["number"], line["word"], line["why"]
        if left and lines and "word" not in lines[-1]:
            left.remove(lines[-1]["number"])
            yield lines[-1]["number"], "", "the process ended or hung"
        elif left:
            raise AssertionError(f"{kind.name}: no case of {left} was begun")
        report.unlink()


def _forked(work: Callable[[], None], seconds: float) -> int:
    """The exit status of `work` in a forked process, which is killed after so many seconds."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return ended(child, seconds)


def ended(child: int, seconds: float) -> int:
    """The exit status of a process of ours (128 and the number of what killed it); killed after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 128 + signal.SIGKILL
        time.sleep(0.01)


def _try_all(kind: Kind, numbers: Sequence[int], seed: int, folder: Path, report: Path) -> None:
    """In the forked process: every case, its number before it begins and what came of it behind."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGPROF, _too_long)
    with report.open("a", buffering=1) as lines:
        for number in numbers:
            lines.write(json.dumps({"number": number}) + "\n")
            word, why = "", None
            try:
                _limit(kind.seconds)
                place = folder / f"{kind.name}-{number}"
                place.mkdir()
                word = kind.case(seed, number, place)
            except BaseException as bad:
                why = "".join(traceback.format_exception_only(bad)).strip()[:400]
                where = traceback.extract_tb(bad.__traceback__)[-1]
                why += f" ({Path(where.filename).name} line {where.lineno})"
            finally:
                _limit(0)
            lines.write(json.dumps({"number": number, "word": word, "why": why}) + "\n")
            if why is None:
                _remove(place)


def _limit(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, BUSY * seconds)


def _too_long(*_: object) -> None:
    raise TimeoutError("the case took too long")


def _remove(place: Path) -> None:
    import shutil

    shutil.rmtree(place, ignore_errors=True)
