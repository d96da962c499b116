"""Append-only files of a run beside its rows: one record an image, cut to whole batches like the rows themselves."""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vtbench.results.files import append
from vtbench.types.anew import Anew
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Tokens, unpack, unpack_batches

if TYPE_CHECKING:
    import numpy as np


class FeatureFile:
    """float32 records of `dim` values, and beside them, in `.crc`, the CRC-32 of each: what lies on a disk for hours
    is not taken as it is. A missing image (one that could not be read) is a record of zeros."""

    def __init__(self, path: Path, dim: int) -> None:
        self.path, self.dim = path, dim
        self.sums = path.with_name(f"{path.name}.crc")

    def __len__(self) -> int:
        return self.path.stat().st_size // (self.dim * 4) if self.path.exists() else 0

    def trouble(self, rows: int) -> str | None:
        """Why the first `rows` records cannot be taken; None if they are as they were written."""
        if len(self) < rows:
            return f"{self.path.name} holds {len(self)} records of {rows}"
        stated = self.sums.read_bytes()[: rows * 4] if self.sums.exists() else b""
        if len(stated) < rows * 4:
            return f"{self.sums.name} holds {len(stated) // 4} sums of {rows}"
        if not rows:
            return None
        with self.path.open("rb") as source:
            for row, (wanted,) in enumerate(struct.iter_unpack("<I", stated)):
                if zlib.crc32(source.read(self.dim * 4)) != wanted:
                    return f"{self.path.name} is damaged at record {row}"
        return None

    def keep(self, rows: int) -> None:
        """Cuts the file to `rows` records; fewer is an inconsistency and refused."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if len(self) < rows:
            raise VtbenchError(f"{self.path} holds fewer records than rows: delete the run's folder and run again")
        for path, size in ((self.path, rows * self.dim * 4), (self.sums, rows * 4)):
            if path.exists():
                os.truncate(path, size)

    def append(self, records: np.ndarray[Any, Any]) -> None:
        import numpy as np

        if records.ndim != 2 or records.shape[1] != self.dim:
            raise VtbenchError(f"features have shape {records.shape}, wanted (n, {self.dim})", code=1)
        data = np.ascontiguousarray(records, dtype="<f4")
        append(self.path, data.tobytes())
        append(self.sums, b"".join(struct.pack("<I", zlib.crc32(record.tobytes())) for record in data))

    def read(self) -> np.ndarray[Any, Any]:
        """A memory map (n, dim)."""
        import numpy as np

        if not len(self):
            return np.zeros((0, self.dim), "<f4")
        return np.memmap(self.path, dtype="<f4", mode="r", shape=(len(self), self.dim))

    def remove(self) -> None:
        for path in (self.path, self.sums):
            path.unlink(missing_ok=True)


AT_ONCE = 4096
"""Records that are copied at a time."""
IN_MEMORY = 1 << 26
"""Bytes: more than that lies in a file without a name, which goes when nobody looks at it any more."""


def records_at(features: np.ndarray[Any, Any], rows: Sequence[int]) -> np.ndarray[Any, Any]:
    """The records (n, dim) at these rows, the same numbers."""
    import numpy as np

    if len(rows) * features[:1].nbytes <= IN_MEMORY:
        return features[rows]
    with tempfile.TemporaryFile(prefix="vtbench-features-") as file:
        for first in range(0, len(rows), AT_ONCE):
            file.write(features[rows[first : first + AT_ONCE]].tobytes())
        file.flush()
        return np.memmap(file, features.dtype, "r", shape=(len(rows), *features.shape[1:]))


class TokenFile(Anew[Tokens | None]):
    """Packed tokens, `tokens.bin`, and where each image's blob ends, `tokens.idx` (little-endian uint64)."""

    def __init__(self, folder: Path) -> None:
        self.data, self.ends = folder / "tokens.bin", folder / "tokens.idx"

    def exists(self) -> bool:
        return self.ends.exists()

    def __len__(self) -> int:
        return self.ends.stat().st_size // 8 if self.ends.exists() else 0

    def keep(self, rows: int) -> None:
        if len(self) < rows:
            raise VtbenchError(f"{self.ends} holds fewer records than rows: delete the run's folder and run again")
        if self.exists():
            end = self._end(rows - 1) if rows else 0
            os.truncate(self.ends, rows * 8)
            os.truncate(self.data, end)

    def _end(self, row: int) -> int:
        with self.ends.open("rb") as source:
            source.seek(row * 8)
            (end,) = struct.unpack("<Q", source.read(8))
        return int(end)

    def append(self, blobs: Sequence[bytes]) -> None:
        """An empty blob stands for an image without tokens."""
        end = self.data.stat().st_size if self.data.exists() else 0
        marks = []
        for blob in blobs:
            end += len(blob)
            marks.append(struct.pack("<Q", end))
        append(self.data, b"".join(blobs))
        append(self.ends, b"".join(marks))

    def blob(self, row: int) -> bytes:
        start = self._end(row - 1) if row else 0
        with self.data.open("rb") as source:
            source.seek(start)
            return source.read(self._end(row) - start)

    def at(self, index: int) -> Tokens | None:
        blob = self.blob(index)
        return unpack(blob) if blob else None

    def blobs(self, rows: Sequence[int] | None = None) -> Iterator[bytes]:
        """The blobs of these rows, rising or not (of all of them), each file opened once."""
        rows = range(len(self)) if rows is None else rows
        if not len(rows):
            return
        first, ends = -1, array("Q")
        with self.ends.open("rb") as marks, self.data.open("rb") as data:
            for row in rows:
                if row // AT_ONCE != first:
                    first = row // AT_ONCE
                    ends = _ends_of(marks, first * AT_ONCE)
                place = row - first * AT_ONCE
                data.seek(ends[place])
                yield data.read(ends[place + 1] - ends[place])

    def batches(self, rows: Sequence[int] | None = None) -> Iterator[Tokens | None]:
        """The tokens of these rows (of all), in order, codes of one layout together: see `unpack_batches`."""
        return unpack_batches(self.blobs(rows))

    def __iter__(self) -> Iterator[Tokens | None]:
        return (unpack(blob) if blob else None for blob in self.blobs())


def _ends_of(marks: BinaryIO, first: int) -> array[int]:
    """Where the blob before the record `first` ends, and AT_ONCE blobs from there on."""
    marks.seek(max(0, first - 1) * 8)
    ends = array("Q", b"" if first else bytes(8))
    data = marks.read((AT_ONCE + bool(first)) * 8)
    ends.frombytes(data[: len(data) // 8 * 8])
    if sys.byteorder == "big":
        ends.byteswap()
    return ends


class ScoredRows(Sequence[Any]):
    """The records of a sequence at the rows that were scored; reads lazily."""

    def __init__(self, whole: Sequence[Any], rows: Sequence[int]) -> None:
        self._whole, self._rows = whole, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self._whole[r] for r in self._rows[i]]
        return self._whole[self._rows[i]]

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._whole, TokenFile):
            return (unpack(blob) if blob else None for blob in self._whole.blobs(self._rows))
        return (self._whole[row] for row in self._rows)

    def batches(self) -> Iterator[Any]:
        """The records in order; of a file of tokens, those of one layout together."""
        return self._whole.batches(self._rows) if isinstance(self._whole, TokenFile) else iter(self)
