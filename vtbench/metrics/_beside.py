"""Pairs of pictures measured in processes beside this one, while the model makes the next.

What goes there is a function of two arrays, as metrics declare it (`_pixels.OfPair`); what comes back are its values,
the same to the last bit. A process that is killed is replaced and asked again; a pair that two processes died of, or
that takes too long, has no value and says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.images import ahead
from vtbench.images.ahead import Pool, Task
from vtbench.images.processes import Processes, Words

AT_ONCE = 4
"""Pairs that a process is sent at a time, at most."""
MOST = 8
"""Images that are measured at a time at most: beyond, arrays in the cache push each other out."""
PAYS = 3.0
"""A process must have so many times what its start costs to do: what it computes, nothing else of the run waits for."""
MEASURING = Words("metrics process", "measured", "is the machine asleep, or out of memory?")


def at_a_time() -> int:
    """How many images are measured at a time in this process: one core is the model's."""
    return max(1, min(ahead.readers(), ahead.cores() - 1, MOST))


@dataclass(frozen=True)
class Needs:
    """What a function takes of the process that computes it: CPU seconds until its first result, and the bytes of
    memory that stay in use, libraries included."""

    seconds: float
    memory: int

    @staticmethod
    def of_all(needs: Iterable[Needs]) -> Needs | None:
        """What a process takes that computes them all: nearly what the dearest of them does, as they share libraries.
        None of none."""
        every = list(needs)
        return Needs(max(n.seconds for n in every), max(n.memory for n in every)) if every else None


# Measured (2 cores, other work beside): CPU seconds of a child at its first result, and the peak of its memory.
ARRAYS = Needs(0.45, 64 << 20)
"""numpy, OpenCV, scikit-image, scipy.ndimage: 0.17 to 0.43 s, 61 MiB."""
SIGNAL = Needs(1.2, 128 << 20)
"""scipy.signal: 1.16 s, 107 MiB."""
TORCH = Needs(3.6, 768 << 20)
"""torch and piq: 3.62 s, 694 MiB."""


def processes_for(needs: Needs) -> int:
    """How many processes of such needs there may be: together they take half of the memory that is free, at least one
    there is. Two on two cores: a model that is quicker than its metrics waits for them, and leaves its core to them."""
    most, free = max(at_a_time(), min(2, ahead.readers(), ahead.cores())), free_memory()
    return most if free is None else max(1, min(most, free // 2 // needs.memory))


def free_memory() -> int | None:
    """Bytes of memory that this machine, or the container, can still give; None where the system does not say."""
    known = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text()
        known.append(1024 * int(text.partition("MemAvailable:")[2].split()[0]))
    with contextlib.suppress(OSError, ValueError):
        # "max" is no number: there is no limit then.
        known.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(known, default=None)


@dataclass(frozen=True)
class Unmeasured:
    """In place of a value: why there is none."""

    why: str


@dataclass(frozen=True)
class Pairs:
    """What a process is sent. names: the images' own; share: how many images' work it is."""

    function: Callable[[Any, Any], Any]
    sides: Sequence[tuple[Any, Any]]
    names: Sequence[str]
    share: float
    doubted: bool = False
    """A process was lost with it."""

    @property
    def id(self) -> str:
        more = len(self.names) - 1
        return self.names[0] + (f" and {more} more" if more else "")

    def alone(self) -> list[Pairs]:
        """Each pair of it as one of its own."""
        share = self.share / len(self.names)
        return [Pairs(self.function, [s], [n], share, True) for s, n in zip(self.sides, self.names, strict=True)]


def _measured(pairs: Pairs) -> list[Any]:
    return [pairs.function(x, y) for x, y in pairs.sides]


def _failed(pairs: Pairs, why: str) -> list[Any]:
    return [Unmeasured(why)] * len(pairs.sides)


class Begun:
    """What is being measured; `results()` waits for it."""

    def __init__(self, pool: Pool[Pairs, list[Any]], parts: Sequence[Pairs]) -> None:
        self._pool, self._parts = pool, parts
        self._tasks = [pool.begin(part) for part in parts]

    def results(self) -> list[Any]:
        """One an image, in order: what the function returned, or Unmeasured. Raises what it raised."""
        out: list[Any] = []
        for part, task in zip(self._parts, self._tasks, strict=True):
            out += self._result(part, task)
        return out

    def _result(self, part: Pairs, task: Task[Pairs, list[Any]]) -> list[Any]:
        results = self._pool.result(task, lambda pairs: _failed(pairs, MEASURING.late(pairs)))
        if len(results) == 1 or not isinstance(results[0], Unmeasured):
            return results
        # Only the one that does it goes without a value.
        alone = [(one, self._pool.begin(one)) for one in part.alone()]
        return [value for one, begun in alone for value in self._result(one, begun)]


class Beside:
    """The processes of one run; closed at its end. images: how many the run still measures; needs: of what they will
    be asked."""

    def __init__(self, images: int, needs: Needs = ARRAYS) -> None:
        self.processes = processes_for(needs)
        self._children = Processes(
            _measured,
            _failed,
            images,
            self.processes,
            words=MEASURING,
            share=lambda pairs: pairs.share,
            doubted=lambda pairs: pairs.doubted,
            least=lambda: PAYS * needs.seconds,
        )
        self._pool: Pool[Pairs, list[Any]] = Pool(self._children, self.processes, "beside")

    def begin(
        self, function: Callable[[Any, Any], Any], sides: Sequence[tuple[Any, Any]], names: Sequence[str], share: float
    ) -> Begun:
        """Begins `function(x, y)` of every pair. share: of what is computed of an image in all."""
        size = max(1, min(AT_ONCE, -(-len(sides) // self.processes)))
        cuts = [slice(start, start + size) for start in range(0, len(sides), size)]
        parts = [Pairs(function, sides[c], names[c], len(sides[c]) * share) for c in cuts]
        return Begun(self._pool, parts)

    def batches_ahead(self, images: int) -> int:
        """How many batches of so many images keep the processes at work while another is finished."""
        return max(1, -(-2 * AT_ONCE * self.processes // max(images, 1)) - 1)

    def give_up(self) -> None:
        """Whoever waits for a result goes without: `ahead.Stopped`."""
        self._pool.give_up()

    def close(self) -> None:
        """Ends the processes, and waits for no result."""
        self._pool.stop()
        self._children.close()
        self._pool.close()
