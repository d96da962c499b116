"""Bytes that are needed again: in memory while they are few, in a file without a name when they are many."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vtbench.results.files import disk_error
from vtbench.types.anew import Anew

IN_MEMORY = 1 << 20
"""Bytes of one `Spill` that are held; with more all of them lie on the disk."""
PORTION = 4096
"""Texts, or numbers of a column, that are written and read together."""


class Place(NamedTuple):
    """Where bytes lie."""

    begin: int
    size: int


class Spill:
    """Takes bytes and gives them back; what it holds goes with it. Many may share one, and its one file.

    A disk that cannot take them is NotWritten.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, prefix="vtbench-values-")  # noqa: SIM115
        self._end, self._lock = 0, threading.Lock()

    def keep(self, data: bytes) -> Place:
        try:
            with self._lock:
                self._file.seek(self._end)
                self._file.write(data)
                self._file.flush()
                place, self._end = Place(self._end, len(data)), self._end + len(data)
        except OSError as bad:
            raise disk_error(bad, Path(tempfile.gettempdir())) from bad
        return place

    def read(self, place: Place) -> bytes:
        with self._lock:
            self._file.seek(place.begin)
            return self._file.read(place.size)


class Texts(Anew[str]):
    """Texts in the order in which they came, none of them in memory once `close` was called."""

    def __init__(self, spill: Spill) -> None:
        self._spill, self._parts = spill, list[Place]()
        self._waiting, self._count = list[str](), 0

    def append(self, text: str) -> None:
        self._waiting.append(text)
        self._count += 1
        if len(self._waiting) == PORTION:
            self.close()

    def close(self) -> None:
        """Puts down those that wait. Only the last portion may be shorter than others, so nothing is added after."""
        if self._waiting:
            # In ASCII, so that names that are no UTF-8 come back as they were.
            self._parts.append(self._spill.keep(json.dumps(self._waiting).encode()))
            self._waiting = []

    def __len__(self) -> int:
        return self._count

    def at(self, index: int) -> str:
        return next(self.of((index,)))

    def of(self, places: Iterable[int]) -> Iterator[str]:
        """The texts at these places; each portion is read once where they rise."""
        held, portion = -1, list[str]()
        for place in places:
            number, within = divmod(place, PORTION)
            if number != held:
                held, portion = number, self._portion(number)
            yield portion[within]

    def __iter__(self) -> Iterator[str]:
        for number in range(-(-self._count // PORTION)):
            yield from self._portion(number)

    def _portion(self, number: int) -> list[str]:
        if number == len(self._parts):
            return self._waiting
        texts: list[str] = json.loads(self._spill.read(self._parts[number]))
        return texts

    def same(self, other: Texts) -> bool:
        """Whether these are the other's texts, in its order."""
        if len(self) != len(other) or len(self._parts) != len(other._parts):
            return False
        pairs = zip(self._parts, other._parts, strict=True)
        alike = all(a.size == b.size and self._spill.read(a) == other._spill.read(b) for a, b in pairs)
        return alike and self._waiting == other._waiting
