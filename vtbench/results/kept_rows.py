"""Rows that a caller may want, on the disk until then: those of 400,000 images are half a gigabyte as objects."""

from __future__ import annotations

import json
import tempfile
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vtbench.results.files import dumps
from vtbench.types.anew import Anew


class KeptRows(Anew[dict[str, Any]]):
    """A list of JSON objects in a file without a name, which goes with it. Every row is read anew when it is asked for:
    changing one changes nothing here."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._file = tempfile.TemporaryFile(prefix="vtbench-rows-")  # noqa: SIM115
        self._ends = array("Q", [0])
        self._lock = threading.Lock()
        end = 0
        for row in rows:
            line = dumps(row).encode()
            self._file.write(line)
            end += len(line)
            self._ends.append(end)
        self._file.flush()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def at(self, index: int) -> dict[str, Any]:
        begin, end = self._ends[index], self._ends[index + 1]
        with self._lock:
            self._file.seek(begin)
            row: dict[str, Any] = json.loads(self._file.read(end - begin))
        return row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[k] for k in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"

    def __reduce__(self) -> tuple[type[KeptRows], tuple[list[dict[str, Any]]]]:
        return KeptRows, (list(self),)
