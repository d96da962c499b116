"""What a pickle may do before it is opened: nothing is built here, its instructions are only counted.

A pickle is a program for a small machine. A few bytes of one can ask for gigabytes of places to remember things in, or
nest so deeply that hashing the result overflows the stack of the process: neither raises, so both are refused before.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable
from typing import IO, Any

DEEPEST = 1000
"""Levels of nesting, several a module of a network saved whole; hashing 100,000 nested tuples ends the process."""
MOST = 20_000_000
"""Instructions: above every checkpoint, a minute's work."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of torch's format before 1.6 (torch/serialization.py, MAGIC_NUMBER)."""
LEGACY_PICKLES = 5
"""The mark, the protocol, facts of the system, the object, the keys of the storages."""
_GROWING = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})
"""Instructions that put things into a container that is there."""


class NoPickle(Exception):
    """The bytes are no whole pickle, or one that asks for more than a checkpoint does; says why."""


class _Bounded:
    """`size` bytes of a source, from where it stands: a length that a file only states is not made room for."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._left = source, size

    def read(self, count: int = -1) -> bytes:
        if count > self._left:
            raise EOFError("it ends before what it states")
        data = self._source.read(self._left if count < 0 else count)
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self._source.readline(self._left)
        self._left -= len(line)
        return line


def check(source: IO[bytes], size: int) -> None:
    """Raises NoPickle for what is no pickle, or asks for too much. source: at its start, which may also be that of
    torch's format before 1.6; `size` bytes in all."""
    bounded = _Bounded(source, size)
    _check_one(bounded, first := _First())
    for _ in range(LEGACY_PICKLES - 1 if first.is_legacy else 0):
        _check_one(bounded, None)


class _First:
    """Whether the first pickle is the mark of torch's old format."""

    is_legacy = False


def _check_one(source: Any, first: _First | None) -> None:
    machine = _Machine()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(source)):
            if count >= MOST:
                raise NoPickle(f"it has more than {MOST} instructions")
            if first is not None and count < 4 and argument == LEGACY_MAGIC:
                first.is_legacy = True
            machine.step(instruction, argument)
    except (ValueError, IndexError, KeyError, EOFError, UnicodeError) as bad:
        raise NoPickle(str(bad) or type(bad).__name__) from bad


class _Machine:
    """The machine of a pickle with depths of nesting in the place of its objects."""

    def __init__(self) -> None:
        self.stack: list[int] = []
        self.marked: list[list[int]] = []
        self.memo: dict[int, int] = {}
        self.steps = 0

    def step(self, instruction: Any, argument: Any) -> None:
        self.steps += 1
        name = instruction.name
        if name == "MARK":
            self.marked.append(self.stack)
            self.stack = []
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(self.memo) if argument is None else argument
            # Places are counted up: one far beyond would make room for all before it.
            if not 0 <= place <= self.steps:
                raise NoPickle(f"it wants the place {place} to remember its {len(self.memo) + 1}. object in")
            self.memo[place] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "POP" and not self.stack:
            self.stack = self.marked.pop()
        else:
            self._generic(instruction, name)

    def _generic(self, instruction: Any, name: str) -> None:
        """Takes what the instruction takes, and puts what it puts, one level deeper."""
        takes = instruction.stack_before
        taken: list[int] = []
        if pickletools.markobject in takes:
            taken, self.stack = self.stack, self.marked.pop()
            takes = takes[: takes.index(pickletools.markobject)]
        below = [self.stack.pop() for _ in takes]
        if name == "DUP":
            self.stack += below * 2
            return
        if name in _GROWING:
            container, items = below[-1], [*below[:-1], *taken]
            depth = max(container, _deepest(items) + 1)
        else:
            depth = _deepest([*below, *taken]) + 1
        if depth > DEEPEST:
            raise NoPickle(f"it nests more than {DEEPEST} levels")
        self.stack += [depth] * len(instruction.stack_after)


def _deepest(depths: Iterable[int]) -> int:
    return max(depths, default=0)
